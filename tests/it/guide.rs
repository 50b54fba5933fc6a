//! `docs/moving-to-rls.md`: each SQL block is executed in its order on a database with rows, and the doctor finds nothing in
//! the end.

use std::{fs, path::Path};

use macro_rules_attribute::apply;
use palisade::doctor::{self, Scope, Severity};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::harness::{TestApp, create_database, palisade_test};

/// The contents of the blocks of SQL.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_sql = false;
    for line in page.lines() {
        if line.starts_with("```") {
            is_sql = line == "```sql";
            if is_sql {
                blocks.push(String::new());
            }
        } else if is_sql {
            let block = blocks.last_mut().unwrap();
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[apply(palisade_test)]
async fn the_guide_moves_a_schema_with_rows_to_row_level_security(app: &'static TestApp) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/moving-to-rls.md");
    let page = fs::read_to_string(page).unwrap();
    let postgres = app.server.url("postgres", "postgres");
    let database = format!("palisade_test_{}", Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&postgres).await.unwrap();
    create_database(&mut admin, &database).await;
    let mut connection = PgConnection::connect(&app.server.url("postgres", &database))
        .await
        .unwrap();
    // A role of the whole cluster, so its name is that of this run.
    let role = format!("shop_app_{}", Uuid::now_v7().simple());
    let sql = blocks(&page);
    assert!(sql.len() > 15, "{}", sql.len());
    for (number_of_block, block) in sql.iter().enumerate() {
        let block = block.replace("shop_app", &role);
        let done = connection.execute(sqlx::AssertSqlSafe(block.clone())).await;
        done.unwrap_or_else(|error| panic!("{error}: {block}"));
        if number_of_block == 0 {
            // 3 customers, 3,000 orders and 9,000 lines, more than one batch.
            connection
                .execute(
                    "insert into shop.customers select n, 'customer ' || n from generate_series(1, 3) n;
                     insert into shop.orders (id, customer_id, number)
                         select n, 1 + n % 3, 'A-' || n from generate_series(1, 3000) n;
                     insert into shop.order_lines (id, order_id, sku, quantity)
                         select n, 1 + n % 3000, 'sku', 1 from generate_series(1, 9000) n",
                )
                .await
                .unwrap();
        }
        // The application still works after each step, and its new rows have a tenant from step 2 on.
        let id = 100_000 + i64::try_from(number_of_block).unwrap();
        let new_order = format!(
            "begin; set local role {role}; select set_config('shop.account', '1', true);
             insert into shop.orders (id, customer_id, number) values ({id}, 1, 'new {id}');
             insert into shop.order_lines (id, order_id, sku, quantity) values ({id}, {id}, 'sku', 1);
             commit"
        );
        let done = connection.execute(sqlx::AssertSqlSafe(new_order)).await;
        done.unwrap_or_else(|error| panic!("after {block}: {error}"));
    }
    let orders = 3_000 + i64::try_from(sql.len()).unwrap();
    assert_eq!(
        number(
            &mut connection,
            "select count(*) from shop.orders where account_id = customer_id"
        )
        .await,
        orders
    );
    assert_eq!(
        number(
            &mut connection,
            "select count(*) from shop.order_lines l join shop.orders o on o.id = l.order_id
             where o.account_id <> l.account_id"
        )
        .await,
        0
    );

    let scope = Scope {
        roles: vec![role.clone()],
        tenant_column: "account_id".to_owned(),
        setting: "shop.account".to_owned(),
        schemas: vec!["shop".to_owned()],
    };
    let report = doctor::run(&mut connection, &scope, |_| true)
        .await
        .unwrap();
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(report.count(Severity::Error), 0, "{findings:#?}");
    assert!(findings.is_empty(), "{findings:#?}");
    assert!(report.skipped.is_empty());

    // The doctor attacks the tables of a foreign schema, too.
    connection
        .execute("alter table shop.orders disable row level security")
        .await
        .unwrap();
    let report = doctor::run(&mut connection, &scope, |_| true)
        .await
        .unwrap();
    let found: Vec<&str> = report.findings.iter().map(|f| f.rule.code).collect();
    for code in ["D04", "D36"] {
        assert!(found.contains(&code), "{code}: {found:?}");
    }

    connection.close().await.unwrap();
    app.drop_own_database(&database).await;
    let drop_role = format!("drop role {role}");
    admin.execute(sqlx::AssertSqlSafe(drop_role)).await.unwrap();
}
