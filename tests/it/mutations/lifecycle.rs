//! Changes of an invoice that the database rejects for every role, and the diagram of the invoice's statuses.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::{
    harness::{Tenant, TestApp, attempt, palisade_test},
    samples::Rows,
};

const STATUSES: [&str; 5] = ["DRAFT", "OPEN", "PAID", "VOID", "UNCOLLECTIBLE"];

/// Whether `app.invoice_may_become` allows a change of status.
async fn may_become(present: &str, next: &str) -> bool {
    // Only the owner of the function may call it.
    let mut postgres = TestApp::shared().await.connect("postgres").await;
    sqlx::query_scalar("select app.invoice_may_become($1, $2)")
        .bind(present)
        .bind(next)
        .fetch_one(&mut postgres)
        .await
        .unwrap()
}

/// The statements with which the owner brings a draft with lines to a status.
fn steps_to(status: &str) -> &'static [&'static str] {
    match status {
        "DRAFT" => &[],
        "OPEN" => &["OPEN"],
        "PAID" => &["OPEN", "PAID"],
        "VOID" => &["OPEN", "VOID"],
        "UNCOLLECTIBLE" => &["OPEN", "UNCOLLECTIBLE"],
        other => panic!("{other}: a new status, say how an invoice gets it"),
    }
}

/// Creates an invoice with two lines, and brings it to a status.
async fn invoice(tenant: &Tenant, status: &str) -> Uuid {
    let mut sql = tenant.begin().await;
    let rows = Rows::insert(tenant, &mut sql, UserRole::Owner).await;
    for step in steps_to(status) {
        assert_eq!(
            set_status(&mut sql.0, rows.uuid("draft_invoice"), step).await,
            Ok(1)
        );
    }
    rows.uuid("draft_invoice")
}

async fn set_status(sql: &mut PgConnection, invoice: Uuid, status: &str) -> Result<u64, String> {
    let update = format!("update invoices set status = '{status}' where id = '{invoice}'");
    attempt(sql, update).await
}

fn violates() -> Result<u64, String> {
    Err("23514".to_owned())
}

fn forbidden() -> Result<u64, String> {
    Err("42501".to_owned())
}

#[apply(palisade_test)]
async fn the_diagram_of_invoice_statuses_shows_what_the_database_allows() {
    let page = include_str!("../../../docs/invoices.md");
    let drawing = page.split("stateDiagram-v2").nth(1).unwrap();
    let drawing = drawing.split("```").next().unwrap();
    let edges = drawing.lines().filter_map(|line| line.split_once("-->"));
    let drawn: BTreeSet<(&str, &str)> = edges
        .map(|(from, to)| (from.trim(), to.split(':').next().unwrap().trim()))
        .collect();

    let mut held = BTreeSet::from([("[*]", "DRAFT")]);
    for present in STATUSES {
        let before = held.len();
        for next in STATUSES {
            if may_become(present, next).await {
                held.insert((present, next));
            }
        }
        if held.len() == before {
            held.insert((present, "[*]"));
        }
    }
    assert_eq!(drawn, held);

    let mut postgres = TestApp::shared().await.connect("postgres").await;
    let known: String = sqlx::query_scalar(
        "select pg_get_constraintdef(oid) from pg_constraint where conname = 'invoices_status_known'",
    )
    .fetch_one(&mut postgres)
    .await
    .unwrap();
    assert_eq!(
        known.matches("::text,").count() + 1,
        STATUSES.len(),
        "{known}"
    );
    for status in STATUSES {
        assert!(known.contains(&format!("'{status}'")), "{status}: {known}");
    }
}

#[apply(palisade_test)]
async fn no_statement_changes_an_invoices_status_unless_the_function_allows_it(tenant: Tenant) {
    for login in ["palisade_app", "palisade_admin"] {
        let mut sql = tenant.connect_as(login, UserRole::Owner).await.0;
        for present in STATUSES {
            for next in STATUSES {
                let one = invoice(&tenant, present).await;
                let is_legal = present == next || may_become(present, next).await;
                let expected = if is_legal { Ok(1) } else { violates() };
                let done = set_status(&mut sql, one, next).await;
                assert_eq!(done, expected, "{login}: {present} to {next}");
            }
        }
    }
}

#[apply(palisade_test)]
async fn an_invoice_starts_as_an_empty_draft_whatever_a_statement_says(tenant: Tenant) {
    let mut sql = tenant.begin().await;
    let rows = Rows::insert(&tenant, &mut sql, UserRole::Owner).await;
    let insert = |columns: &str, values: &str| {
        format!(
            "insert into invoices (id, organization_id, currency, {columns})
             values (app.uuid_v7(), '{}', 'EUR', {values})",
            rows.uuid("organization")
        )
    };
    for status in &STATUSES[1..] {
        let issued = insert("status, number", &format!("'{status}', 'INV-9'"));
        assert_eq!(attempt(&mut sql.0, issued).await, violates(), "{status}");
    }
    let numbered = insert("number", "'INV-9'");
    assert_eq!(attempt(&mut sql.0, numbered).await, violates());
    let forged = insert(
        "due_on, subtotal_minor, tax_minor, total_minor",
        "'2099-12-31', 5, 5, 10",
    );
    assert_eq!(attempt(&mut sql.0, forged).await, Ok(1));
    let total: i64 =
        sqlx::query_scalar("select total_minor from invoices where due_on = '2099-12-31'")
            .fetch_one(&mut sql.0)
            .await
            .unwrap();
    assert_eq!(total, 0);
}

#[apply(palisade_test)]
async fn the_totals_of_a_draft_are_the_sums_of_its_lines_whatever_a_statement_says(tenant: Tenant) {
    let draft = invoice(&tenant, "DRAFT").await;
    for login in ["palisade_app", "palisade_admin"] {
        let mut sql = tenant.connect_as(login, UserRole::Owner).await.0;
        let totals = async |sql: &mut PgConnection| -> (i64, i64, i64) {
            let query = "select subtotal_minor, tax_minor, total_minor from invoices where id = $1";
            let row = sqlx::query(query).bind(draft).fetch_one(sql).await.unwrap();
            (row.get(0), row.get(1), row.get(2))
        };
        // 2 × 19.99 with 19 % tax, which is 7.5962 and is rounded to 7.60, and 19.99 without tax.
        let expected = (5_997, 760, 6_757);
        assert_eq!(totals(&mut sql).await, expected);
        let forged = format!(
            "update invoices set subtotal_minor = 1, tax_minor = 0, total_minor = 1 where id = '{draft}'"
        );
        assert_eq!(attempt(&mut sql, forged).await, Ok(1));
        assert_eq!(totals(&mut sql).await, expected, "{login}");
        // A check constraint requires that the amount of a line is its quantity times its price.
        let cheap =
            format!("update invoice_line_items set amount_minor = 1 where invoice_id = '{draft}'");
        assert_eq!(attempt(&mut sql, cheap).await, violates(), "{login}");
    }
}

/// An SQL expression that differs from the column's current value.
fn other_value(column: &str, of: &str) -> String {
    match of {
        "uuid" => "app.uuid_v7()".to_owned(),
        "text" => "'other'".to_owned(),
        "bigint" | "integer" => format!("coalesce({column}, 0) + 1"),
        "date" => format!("coalesce({column}, current_date) + 1"),
        "timestamp with time zone" => format!("{column} - interval '1 day'"),
        other => panic!("{column}: name another {other} here"),
    }
}

#[apply(palisade_test)]
async fn an_issued_invoice_is_neither_changed_nor_renumbered_nor_reset_nor_deleted(tenant: Tenant) {
    let mut sql = tenant.begin().await.0;
    let columns: Vec<(String, String)> = sqlx::query(
        "select attname::text, format_type(atttypid, null) from pg_attribute
         where attrelid = 'invoices'::regclass and attnum > 0 and not attisdropped",
    )
    .fetch_all(&mut sql)
    .await
    .unwrap()
    .iter()
    .map(|row| (row.get(0), row.get(1)))
    .collect();
    for status in &STATUSES[1..] {
        let issued = invoice(&tenant, status).await;
        let before = tenant.everything().await;
        for (login, role) in [
            ("palisade_app", UserRole::Owner),
            ("palisade_app", UserRole::Admin),
            ("palisade_app", UserRole::Billing),
            ("palisade_admin", UserRole::Owner),
        ] {
            let mut sql = tenant.connect_as(login, role).await.0;
            for (column, of) in &columns {
                // The status has its own rules. The database sets the other two columns itself.
                if matches!(column.as_str(), "status" | "version" | "updated_at") {
                    continue;
                }
                let value = other_value(column, of);
                let change =
                    format!("update invoices set {column} = {value} where id = '{issued}'");
                assert_eq!(
                    attempt(&mut sql, change.clone()).await,
                    violates(),
                    "{login}: {change}"
                );
                // The change is also rejected together with an allowed change of the status.
                let covered = format!(
                    "update invoices set {column} = {value}, status = 'PAID' where id = '{issued}'"
                );
                assert_eq!(
                    attempt(&mut sql, covered.clone()).await,
                    violates(),
                    "{login}: {covered}"
                );
            }
            assert_eq!(
                set_status(&mut sql, issued, "DRAFT").await,
                violates(),
                "{login}"
            );
            let back = format!(
                "update invoices set status = 'DRAFT', number = null where id = '{issued}'"
            );
            assert_eq!(attempt(&mut sql, back).await, violates(), "{login}");
            if login == "palisade_app" {
                let deleted = format!("delete from invoices where id = '{issued}'");
                assert_eq!(attempt(&mut sql, deleted).await, Ok(0), "{}", role.as_str());
            }
        }
        assert_eq!(tenant.everything().await, before, "{status}");
    }
    // Deleting a draft deletes its lines.
    let draft = invoice(&tenant, "DRAFT").await;
    assert_eq!(
        attempt(
            &mut sql,
            format!("delete from invoices where id = '{draft}'")
        )
        .await,
        Ok(1)
    );
    let lines = format!("delete from invoice_line_items where invoice_id = '{draft}'");
    assert_eq!(attempt(&mut sql, lines).await, Ok(0));
}

#[apply(palisade_test)]
async fn only_issuing_an_invoice_advances_a_tenants_counter(tenant: Tenant) {
    invoice(&tenant, "OPEN").await;
    let before = tenant.everything().await;
    for login in ["palisade_app", "palisade_admin"] {
        let mut sql = tenant.connect_as(login, UserRole::Owner).await.0;
        for write in [
            "insert into invoice_counters (id, last_number) values (app.tenant_id(), 1)",
            "update invoice_counters set last_number = 100",
            "delete from invoice_counters",
            "truncate invoice_counters",
        ] {
            assert_eq!(
                attempt(&mut sql, write.to_owned()).await,
                forbidden(),
                "{login}: {write}"
            );
        }
    }
    assert_eq!(tenant.everything().await, before);
}

#[apply(palisade_test)]
async fn each_tenant_numbers_its_own_invoices_and_a_rollback_leaves_no_gap(app: &'static TestApp) {
    let (acme, globex) = (app.tenant().await, app.tenant().await);
    for tenant in [&acme, &globex] {
        let mut sql = tenant.begin().await;
        let mut numbers: Vec<String> = Vec::new();
        for is_kept in [true, false, true] {
            let rows = Rows::insert(tenant, &mut sql, UserRole::Owner).await;
            let mut tx = sql.0.begin().await.unwrap();
            // The database ignores the number in the statement and assigns the next one.
            let issue = "update invoices set status = 'OPEN', number = 'MINE-1' where id = $1 returning number";
            let number = sqlx::query_scalar(issue)
                .bind(rows.uuid("draft_invoice"))
                .fetch_one(&mut *tx)
                .await;
            numbers.push(number.unwrap());
            if is_kept {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
        }
        // `Rows::insert` also issues an invoice each time, which gets the number before.
        assert_eq!(numbers, ["INV-000002", "INV-000004", "INV-000005"]);
    }
}
