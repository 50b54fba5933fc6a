//! Indexes: each sort order of the schema has an index, and so has each filter by a prefix or without case.

use macro_rules_attribute::apply;
use palisade::entities::ENTITIES;
use sqlx::{PgConnection, Row as _};

use crate::harness::{Caller, Field, FieldExt as _, Tenant, TestApp, entity, model, palisade_test};

/// An index, from the catalogue.
#[derive(Debug)]
struct Index {
    table: String,
    name: String,
    is_unique: bool,
    /// The column of a partial index's condition `… is not null`. `None` if the index contains all rows.
    not_null: Option<String>,
    columns: Vec<IndexColumn>,
}

#[derive(Debug)]
struct IndexColumn {
    name: String,
    is_nullable: bool,
    is_descending: bool,
    collation: Option<String>,
}

/// Each column of each index, in order.
const INDEXES: &str = r"
    select c.relname::text, i.indexrelid::regclass::text, i.indisunique,
           substring(pg_get_expr(i.indpred, c.oid) from '^\((\w+) IS NOT NULL\)$'),
           i.indpred is not null,
           a.attname::text, not a.attnotnull, i.indoption[k.position] & 1 = 1, l.collname::text
    from pg_index i
    join pg_class c on c.oid = i.indrelid
    cross join lateral generate_series(0, i.indnkeyatts - 1) as k (position)
    left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[k.position]
    left join pg_collation l on l.oid = i.indcollation[k.position]
    where c.relnamespace = 'public'::regnamespace and i.indisvalid
    order by 2, k.position";

async fn indexes(connection: &mut PgConnection) -> Vec<Index> {
    let rows = sqlx::query(INDEXES).fetch_all(connection).await.unwrap();
    let mut indexes: Vec<Index> = Vec::new();
    for row in rows {
        let (table, name): (String, String) = (row.get(0), row.get(1));
        let not_null: Option<String> = row.get(3);
        assert_eq!(
            row.get::<bool, _>(4),
            not_null.is_some(),
            "the test does not know the predicate of {name}"
        );
        if indexes.last().is_none_or(|last| last.name != name) {
            indexes.push(Index {
                table,
                name,
                is_unique: row.get(2),
                not_null,
                columns: Vec::new(),
            });
        }
        let index = indexes.last_mut().unwrap();
        index.columns.push(IndexColumn {
            name: row.get(5),
            is_nullable: row.get(6),
            is_descending: row.get(7),
            collation: row.get(8),
        });
    }
    indexes
}

/// The order that a list's statement requests, as in `"invoice_id" = "parent"."parent" … ORDER BY "position" ASC`.
#[derive(Debug)]
struct Sorted {
    table: &'static str,
    parent: Option<String>,
    /// The columns of the order, each with whether it is descending.
    terms: Vec<(String, bool)>,
}

impl Sorted {
    fn read(row: &str, statement: &str) -> Self {
        let (_, order) = statement.rsplit_once(" ORDER BY ").unwrap();
        let (order, _) = order.split_once(" LIMIT ").unwrap();
        let term = |term: &str| {
            let (column, direction) = term.split_once("\" ").unwrap();
            (
                column.trim_start_matches('"').to_owned(),
                direction.starts_with("DESC"),
            )
        };
        let parent = statement.split_once(r#"" = "parent"."parent""#);
        let parent = parent.map(|(before, _)| before.rsplit_once('"').unwrap().1.to_owned());
        // Every index begins with the tenant, so the tenant does not count as a parent.
        let parent = parent.filter(|parent| parent != "tenant_id");
        Self {
            table: entity(row).table,
            parent,
            terms: order.split(", ").map(term).collect(),
        }
    }

    /// Whether an index returns the rows of a parent in this order, read forwards or backwards.
    fn is_order_of(&self, index: &Index) -> bool {
        if index.table != self.table || index.not_null != self.parent && index.not_null.is_some() {
            return false;
        }
        let fixed = 1 + usize::from(self.parent.is_some());
        let Some(sorted) = index.columns.get(fixed..) else {
            return false;
        };
        let begins_with_parent = self
            .parent
            .iter()
            .all(|parent| index.columns[1].name == *parent);
        // No two rows are equal in all columns of a unique index, so the index need not contain the final sort by id.
        let terms = if index.is_unique && sorted.iter().all(|column| !column.is_nullable) {
            &self.terms[..sorted.len().min(self.terms.len())]
        } else {
            &self.terms[..]
        };
        let is_equal = |backwards: bool| {
            terms.iter().zip(sorted).all(|((name, descends), column)| {
                *name == column.name && *descends == (column.is_descending != backwards)
            })
        };
        begins_with_parent
            && !terms.is_empty()
            && sorted.len() >= terms.len()
            && (is_equal(false) || is_equal(true))
    }
}

/// The last statement of a document.
async fn statement(caller: &Caller, document: &str) -> String {
    let response = caller.query(document).await;
    response.data();
    let mut statements = response.statements();
    statements
        .pop()
        .unwrap_or_else(|| panic!("no statement: {document}"))
}

/// A document that reads a list below the first row of its parent's type.
fn below(parent: &str, list: &Field) -> String {
    let inner = format!("{{ {}(first: 1) {{ nodes {{ id }} }} }}", list.name);
    let mut roots = model().root_lists();
    if let Some(root) = roots.find(|root| root.row() == parent) {
        return format!("{{ {}(first: 1) {{ nodes {inner} }} }}", root.name);
    }
    let mut fields = model().queries().iter();
    let field = fields.find(|field| field.type_name == parent && field.args.is_empty());
    format!("{{ {} {inner} }}", field.unwrap().name)
}

#[apply(palisade_test)]
async fn every_order_of_a_list_and_every_default_order_below_a_row_has_an_index(tenant: Tenant) {
    tenant.fill(12).await;
    let indexes = indexes(&mut tenant.app.connect("postgres").await).await;
    let mut without = Vec::new();
    let mut orders = 0;
    let mut check = |what: String, row: &str, statement: &str| {
        orders += 1;
        let sorted = Sorted::read(row, statement);
        if !indexes.iter().any(|index| sorted.is_order_of(index)) {
            without.push(format!("{what}: {sorted:?}"));
        }
    };
    for list in model().root_lists() {
        for field in model().order_fields(list) {
            for direction in ["ASC", "DESC"] {
                let document = format!(
                    "{{ {}(first: 1, orderBy: [{{ field: {field}, direction: {direction} }}]) {{ nodes {{ id }} }} }}",
                    list.name
                );
                let statement = statement(tenant.owner(), &document).await;
                let what = format!("{} by {field} {direction}", list.name);
                check(what, list.row(), &statement);
            }
        }
    }
    for (parent, list) in model().nested_lists() {
        let statement = statement(tenant.owner(), &below(&parent.name, list)).await;
        check(
            format!("{}.{}", parent.name, list.name),
            list.row(),
            &statement,
        );
    }
    assert!(orders >= 60, "only {orders} orders");
    assert!(without.is_empty(), "orders without an index: {without:#?}");
}

/// The column that a filter's statement compares, and whether the statement searches for a prefix.
fn compared(statement: &str) -> (String, bool) {
    let statement = statement.to_lowercase().replace("= (", "= ");
    if let Some((_, column)) = statement.split_once("starts_with(\"") {
        return (column.split_once('"').unwrap().0.to_owned(), true);
    }
    let mut sides = [r#"" = app.fold("#, r#"" = upper("#].into_iter();
    let (column, _) = sides
        .find_map(|equals| statement.split_once(equals))
        .unwrap_or_else(|| panic!("no comparison that ignores case: {statement}"));
    (column.rsplit_once('"').unwrap().1.to_owned(), false)
}

#[apply(palisade_test)]
async fn every_filter_by_the_start_of_a_string_or_without_case_has_an_index(tenant: Tenant) {
    let indexes = indexes(&mut tenant.app.connect("postgres").await).await;
    let mut without = Vec::new();
    let mut filters = 0;
    for list in model().root_lists() {
        let fields = model().fields(list.filter()).iter();
        for field in fields.filter(|field| field.type_name == "StringFilter") {
            for operator in ["startsWith", "startsWithIgnoreCase", "equalsIgnoreCase"] {
                filters += 1;
                let (name, field) = (&list.name, &field.name);
                let document = format!(
                    "{{ {name}(first: 1, filter: {{ {field}: {{ {operator}: \"a\" }} }}) {{ nodes {{ id }} }} }}"
                );
                let statement = statement(tenant.owner(), &document).await;
                let (column, is_range) = compared(&statement);
                let table = entity(list.row()).table;
                let serves = |index: &&Index| {
                    let compared = index.columns.get(1);
                    index.table == table
                        && index.not_null.is_none()
                        && compared.is_some_and(|compared| {
                            let is_by_code_point = compared.collation.as_deref() == Some("C");
                            compared.name == column && (is_by_code_point || !is_range)
                        })
                };
                if indexes.iter().find(serves).is_none() {
                    without.push(format!("{name} by {field} {operator}: {table}.{column}"));
                }
            }
        }
    }
    assert!(filters >= 24, "only {filters} filters");
    assert!(without.is_empty(), "filters without an index: {without:#?}");
}

/// Case folding must keep prefixes, because `startsWith` searches the folded column with the folded prefix.
#[apply(palisade_test)]
async fn the_folded_start_of_a_string_is_the_start_of_the_folded_string(app: &'static TestApp) {
    let mut connection = app.connect("palisade_app").await;
    // Every character between letters. Below: sigma, the only letter whose lower case depends on its neighbors.
    let broken: i64 = sqlx::query_scalar(
        "select count(*) from generate_series(1, 1114111) n
         where n not between 55296 and 57343
           and app.fold('Aa' || chr(n) || 'b') <> 'aa' || app.fold(chr(n)) || 'b'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(broken, 0);
    for (string, folded) in [
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("ΣΊΣΥΦΟΣ ΣΤΟ", "σίσυφοσ στο"),
        ("Σίσυφος", "σίσυφοσ"),
        ("ÉCLAIR", "éclair"),
        ("Straße", "straße"),
    ] {
        let actual: String = sqlx::query_scalar("select app.fold($1)")
            .bind(string)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(actual, folded);
    }
}

#[apply(palisade_test)]
async fn the_columns_without_uppercase_or_lowercase_letters_have_none(tenant: Tenant) {
    tenant.fill(24).await;
    let mut sql = tenant.begin().await;
    let columns = [
        ("organizations", "slug", "app.fold(slug)"),
        ("users", "email", "app.fold(email)"),
        ("audit_logs", "action", "app.fold(action)"),
        ("products", "asin", r#"upper(app.fold(asin) collate "C")"#),
        (
            "invoices",
            "number",
            r#"upper(app.fold(number) collate "C")"#,
        ),
    ];
    for (table, column, folded) in columns {
        assert!(ENTITIES.iter().any(|entity| entity.table == table));
        let text =
            format!("select count(*), count(*) filter (where {column} <> {folded}) from {table}");
        let row = sqlx::query(sqlx::AssertSqlSafe(text))
            .fetch_one(&mut sql.0)
            .await
            .unwrap();
        assert!(row.get::<i64, _>(0) > 0, "{table} is empty");
        assert_eq!(row.get::<i64, _>(1), 0, "{table}.{column}");
    }
}
