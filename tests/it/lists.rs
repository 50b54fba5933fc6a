//! What the tests of lists share: the schema by introspection, the tables, and rows to list.

use std::collections::{BTreeMap, BTreeSet};

use palisade::ids::EntityId as _;
use serde_json::{Value, json};
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

use crate::harness::{Answer, Caller, Tenant, id};

/// The types of the schema by name.
pub struct Shape(BTreeMap<String, Type>);

/// A type of the schema.
pub struct Type {
    pub kind: String,
    pub fields: Vec<Field>,
    pub inputs: Vec<Field>,
    pub values: Vec<String>,
    /// What an interface or a union may be.
    pub members: Vec<String>,
}

/// A field, an argument or an input field.
#[derive(Clone)]
pub struct Field {
    pub name: String,
    /// The name of its type, without lists and non-nulls.
    pub named: String,
    pub args: Vec<Field>,
}

impl Field {
    /// The type of an argument.
    pub fn arg(&self, name: &str) -> Option<&str> {
        self.args
            .iter()
            .find(|arg| arg.name == name)
            .map(|arg| arg.named.as_str())
    }

    /// Whether it is a list with pages.
    pub fn is_connection(&self) -> bool {
        self.arg("first").is_some()
    }
}

impl Shape {
    /// Asks the service.
    pub async fn of(caller: &Caller) -> Self {
        const NAMED: &str = "type { name ofType { name ofType { name ofType { name } } } }";
        let document = format!(
            "{{ __schema {{ types {{ name kind enumValues {{ name }} possibleTypes {{ name }} inputFields {{ name {NAMED} }}
                fields {{ name {NAMED} args {{ name {NAMED} }} }} }} }} }}"
        );
        let answer = caller.query(&document).await;
        let types = answer.data()["__schema"]["types"].as_array().unwrap();
        Self(
            types
                .iter()
                .map(|one| {
                    let read = Type {
                        kind: text(&one["kind"]),
                        fields: fields(&one["fields"]),
                        inputs: fields(&one["inputFields"]),
                        values: names(&one["enumValues"]),
                        members: names(&one["possibleTypes"]),
                    };
                    (text(&one["name"]), read)
                })
                .collect(),
        )
    }

    pub fn named(&self, name: &str) -> &Type {
        self.0.get(name).unwrap_or_else(|| panic!("no type {name}"))
    }

    pub fn types(&self) -> impl Iterator<Item = (&String, &Type)> {
        self.0.iter().filter(|(name, _)| !name.starts_with("__"))
    }

    /// The lists under no parent.
    pub fn roots(&self) -> Vec<Field> {
        self.named("Query")
            .fields
            .iter()
            .filter(|field| field.is_connection())
            .cloned()
            .collect()
    }

    /// The types that fields lead to, from one type on.
    pub fn reached_from(&self, root: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next = vec![root.to_owned()];
        while let Some(name) = next.pop() {
            let of = self.named(&name);
            let fields = of.fields.iter().map(|field| field.named.clone());
            next.extend(fields.chain(of.members.iter().cloned()));
            reached.insert(name);
            next.retain(|name| !reached.contains(name));
        }
        reached
    }

    /// The values by which a list can be ordered.
    pub fn order_fields(&self, list: &Field) -> &[String] {
        let order = self.named(list.arg("orderBy").unwrap());
        let field = order
            .inputs
            .iter()
            .find(|input| input.name == "field")
            .unwrap();
        &self.named(&field.named).values
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn names(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|item| text(&item["name"]))
        .collect()
}

fn fields(list: &Value) -> Vec<Field> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|field| {
            let mut named = &field["type"];
            while named["name"].is_null() {
                named = &named["ofType"];
            }
            Field {
                name: text(&field["name"]),
                named: text(&named["name"]),
                args: fields(&field["args"]),
            }
        })
        .collect()
}

/// The table behind a type of rows, and the prefix of its ids.
pub fn table(row: &str) -> (&'static str, &'static str) {
    match row {
        "User" => ("users", "usr"),
        "Organization" => ("organizations", "org"),
        "Project" => ("projects", "prj"),
        "Product" => ("products", "prd"),
        "Invoice" => ("invoices", "inv"),
        "InvoiceLineItem" => ("invoice_line_items", "ili"),
        "Comment" => ("comments", "com"),
        "AuditLog" => ("audit_logs", "aud"),
        "Tenant" => ("tenants", "ten"),
        other => panic!("name the table of {other} here"),
    }
}

/// The type of a list's rows.
pub fn row_of(list: &Field) -> &str {
    list.named.strip_suffix("Connection").unwrap()
}

/// `displayName` or `DISPLAY_NAME` as the database spells it.
pub fn column(name: &str) -> String {
    if name.contains(char::is_lowercase) {
        name.chars().fold(String::new(), |mut column, letter| {
            if letter.is_uppercase() {
                column.push('_');
            }
            column.extend(letter.to_lowercase());
            column
        })
    } else {
        name.to_lowercase()
    }
}

/// Ids of rows in an order that Postgres made, as the API spells them.
pub async fn ids_by_sql(tenant: &Tenant, row: &str, rest: &str) -> Vec<String> {
    let (table, prefix) = table(row);
    let mut sql = tenant.begin().await;
    let text = format!("select id from {table} {rest}");
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&mut sql.0)
        .await
        .unwrap();
    rows.iter().map(|row| id(prefix, row.get(0))).collect()
}

/// Every row of a table as JSON, by column.
pub async fn rows_by_sql(tenant: &Tenant, row: &str) -> Vec<Value> {
    let mut sql = tenant.begin().await;
    let text = format!("select to_jsonb(t)::text from {} t", table(row).0);
    let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .fetch_all(&mut sql.0)
        .await
        .unwrap();
    rows.iter()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect()
}

/// `amount` rows of every kind that can be listed, at least 8, all made in one transaction: so every
/// time of creation and of change is the same. Other columns repeat or are null for a part of the rows.
pub async fn fill(tenant: &Tenant, amount: i32) {
    let mut sql = tenant.begin().await;
    let mut tx = sql.0.begin().await.unwrap();
    let owner = tenant.owner().user.uuid();
    for statement in [
        "insert into users (id, email, display_name, role, status)
         select gen_random_uuid(), 'user-' || n || '@example.com',
                case n % 3 when 0 then null when 1 then 'Same Name' else 'Näme_' || n || '%' end,
                'MEMBER', case n % 2 when 0 then 'INVITED' else 'DEACTIVATED' end
         from generate_series(1, $1) n where $2::uuid is not null",
        "insert into organizations (id, name, slug, status)
         select gen_random_uuid(), case n % 2 when 0 then 'Same' else 'Org\\' || n end, 'org-' || n,
                case n % 4 when 0 then 'ARCHIVED' else 'ACTIVE' end
         from generate_series(1, $1) n where $2::uuid is not null",
        "insert into projects (id, organization_id, owner_id, name, status, due_on)
         select gen_random_uuid(), o.ids[1 + n % 3], case n % 3 when 0 then o.someone else $2 end,
                case n % 2 when 0 then 'Same' else '100% of_' || n end,
                case n % 2 when 0 then 'ACTIVE' else 'ON_HOLD' end,
                case n % 3 when 0 then null when 1 then date '2026-02-28' else date '2026-03-01' + n end
         from generate_series(1, $1) n,
              (select (select array_agg(id order by slug) from organizations) ids,
                      (select id from users where email = 'user-1@example.com') someone) o",
        "insert into products (id, asin, title, status)
         select gen_random_uuid(), 'B' || lpad(n::text, 9, '0'),
                case n % 3 when 0 then null when 1 then 'Same' else 'Title ' || n end,
                case n % 4 when 0 then 'ARCHIVED' else 'ACTIVE' end
         from generate_series(1, $1) n where $2::uuid is not null",
        "insert into invoices (id, organization_id, project_id, currency)
         select gen_random_uuid(), o.ids[1 + n % 3],
                case n % 5 when 0 then null else p.ids[1 + n % 4] end, 'EUR'
         from generate_series(1, $1) n,
              (select array_agg(id order by slug) ids from organizations) o,
              (select array_agg(id order by name, id) ids from projects) p
         where $2::uuid is not null",
        "insert into invoice_line_items (id, invoice_id, product_id, position, description, quantity,
                                         unit_price_minor, amount_minor, currency)
         select gen_random_uuid(), i.ids[1 + n % 4], case n % 3 when 0 then null else p.ids[1 + n % 2] end,
                1 + n / 4, 'Line_' || n % 7, 1, 100, 100, 'EUR'
         from generate_series(1, $1) n, (select array_agg(id order by id) ids from invoices) i,
              (select array_agg(id order by asin) ids from products) p
         where $2::uuid is not null",
        // Those that are issued below have at least one line.
        "insert into invoice_line_items (id, invoice_id, position, description, quantity,
                                         unit_price_minor, amount_minor, currency)
         select gen_random_uuid(), id, 1, 'Line_' || n % 7, 1, 100, 100, 'EUR'
         from (select id, row_number() over (order by id) n from invoices) numbered
         where n > 4 and n % 3 > 0 and $1 > 0 and $2::uuid is not null",
        "insert into comments (id, author_id, project_id, invoice_id, product_id, body)
         select gen_random_uuid(), $2, case n % 3 when 0 then p.ids[1 + n % 2] end,
                case n % 3 when 1 then i.ids[1 + n % 2] end, case n % 3 when 2 then s.ids[1 + n % 2] end,
                'Remark ' || n % 10
         from generate_series(1, $1) n, (select array_agg(id order by name, id) ids from projects) p,
              (select array_agg(id order by id) ids from invoices) i,
              (select array_agg(id order by asin) ids from products) s",
        "update invoices i
         set status = 'OPEN', issued_on = date '2026-01-01' + n % 5,
             due_on = case n % 2 when 0 then null else date '2026-02-01' + n % 3 end
         from (select id, (row_number() over (order by id))::integer n from invoices) numbered
         where numbered.id = i.id and n % 3 > 0 and $1 > 0 and $2::uuid is not null",
        "update invoices i set status = 'PAID'
         from (select id, row_number() over (order by id) n from invoices) numbered
         where numbered.id = i.id and n % 3 > 0 and n % 2 = 1 and $1 > 0 and $2::uuid is not null",
    ] {
        sqlx::query(statement).bind(amount).bind(owner).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Refused for what the client sent, before any SQL.
pub fn assert_refused(answer: &Answer, message: &str) {
    assert_eq!(answer.code(), "BAD_USER_INPUT", "{}", answer.body);
    let said = answer.body["errors"][0]["message"].as_str().unwrap();
    assert!(said.contains(message), "{said:?} does not say {message:?}");
    assert_eq!(answer.round_trips(), 0);
}

/// A UUID that is nobody's id.
pub fn nobody() -> Uuid {
    Uuid::now_v7()
}

/// Sends a list with variables `$f` (filter), `$o` (order), `$a` (after) and `$b` (before).
pub async fn list(caller: &Caller, list: &Field, page: &str, variables: Value) -> Answer {
    let (name, filter, order) = (
        &list.name,
        list.arg("filter").unwrap(),
        list.arg("orderBy").unwrap(),
    );
    let document = format!(
        "query ($f: {filter}, $o: [{order}!], $a: String, $b: String) {{
            list: {name}({page}, filter: $f, orderBy: $o, after: $a, before: $b) {{
                edges {{ cursor node {{ id }} }}
                nodes {{ id }}
                pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }}
            }}
        }}"
    );
    caller.graphql(&document, variables).await
}

/// The ids of a page.
pub fn ids(connection: &Value) -> Vec<String> {
    connection["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| text(&edge["node"]["id"]))
        .collect()
}

/// `[{field, direction}]` of words like `"NAME ASC"`.
pub fn order_by(terms: &[String]) -> Value {
    terms
        .iter()
        .map(|term| {
            let (field, direction) = term.split_once(' ').unwrap();
            json!({ "field": field, "direction": direction })
        })
        .collect()
}
