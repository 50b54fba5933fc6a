//! Reads the columns of a table from the database's catalogue, and writes statements that insert valid rows.
//! A new table gets rows without a change here.

use std::{collections::BTreeSet, fmt::Write as _};

use palisade::entities::ENTITIES;
use serde_json::{Value, json};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::entity::snake_case;
use crate::samples::SLICES;

/// A table and its columns.
#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
}

#[expect(clippy::struct_excessive_bools, reason = "facts of the catalogue")]
#[derive(Debug)]
pub struct Column {
    pub name: String,
    sql_type: String,
    pub is_nullable: bool,
    has_default: bool,
    /// Whether a unique index other than the primary key contains this column.
    is_unique: bool,
    /// The table to which this column's foreign key refers.
    pub references: Option<String>,
    /// Whether rows of the referenced table belong to tenants, and whether `palisade_app` may read that table.
    refers_to_tenant: bool,
    may_read_referenced: bool,
    /// The strings that a check constraint allows in this column, if there is such a list.
    choices: Vec<String>,
    /// This column and others, if exactly one of them must have a value. Otherwise empty.
    pub alternatives: Vec<String>,
    /// Whether a policy for new rows uses this column.
    pub is_in_insert_policy: bool,
    /// Whether a policy for new rows compares this column with the caller's user id.
    pub holds_caller: bool,
}

const COLUMNS: &str = "
    select a.attname::text, format_type(a.atttypid, null), not a.attnotnull, a.atthasdef,
           exists (select from pg_index i
                   where i.indrelid = a.attrelid and i.indisunique and not i.indisprimary
                     and a.attnum = any (i.indkey)),
           f.confrelid::regclass::text,
           exists (select from pg_attribute t
                   where t.attrelid = f.confrelid and t.attname = 'tenant_id' and not t.attisdropped),
           coalesce(has_table_privilege('palisade_app', f.confrelid, 'select'), false),
           array(select pg_get_constraintdef(c.oid) from pg_constraint c
                 where c.conrelid = a.attrelid and c.contype = 'c' and a.attnum = any (c.conkey)),
           array(select pg_get_expr(coalesce(p.polwithcheck, p.polqual), p.polrelid) from pg_policy p
                 where p.polrelid = a.attrelid and not p.polpermissive and p.polcmd in ('a', '*'))
    from pg_attribute a
    left join lateral (
        select c.confrelid from pg_constraint c
        where c.conrelid = a.attrelid and c.contype = 'f' and a.attname <> 'tenant_id'
          and a.attnum = any (c.conkey) limit 1) f on true
    where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
      and a.attgenerated = ''
    order by a.attnum";

/// The strings of `CHECK ((status = ANY (ARRAY['ACTIVE'::text, …])))`.
fn choices(column: &str, checks: &[String]) -> Vec<String> {
    let start = format!("CHECK (({column} = ANY (ARRAY[");
    let list = checks.iter().find_map(|check| check.strip_prefix(&start));
    let quoted = list
        .and_then(|list| list.split(']').next())
        .unwrap_or_default();
    quoted
        .split('\'')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The columns of `CHECK ((num_nonnulls(project_id, invoice_id) = 1))`.
fn alternatives(checks: &[String]) -> Vec<String> {
    let list = checks
        .iter()
        .find_map(|check| check.strip_prefix("CHECK ((num_nonnulls("));
    let list = list.and_then(|list| list.strip_suffix(") = 1))"));
    list.into_iter()
        .flat_map(|list| list.split(", "))
        .map(str::to_owned)
        .collect()
}

fn holds_word(expression: &str, word: &str) -> bool {
    expression
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .any(|found| found == word)
}

/// How [`Table::insert`] chooses the values of new rows.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Every column has a value in some rows; nullable columns are null in a third of the rows. References are to the
    /// first four rows of a table.
    Varied,
    /// Only the required columns have a value. References are to the first row of a table.
    Required {
        /// The columns that refer to other rows, each with their ids.
        parents: &'a [(&'a str, &'a [Uuid])],
        /// The number of rows for each of the ids.
        per_parent: usize,
    },
}

impl Table {
    pub async fn read(connection: &mut PgConnection, name: &str) -> Self {
        let rows = sqlx::query(COLUMNS).bind(name).fetch_all(connection);
        let rows = rows.await.unwrap();
        let columns = rows.iter().map(|row| {
            let column: String = row.get(0);
            let (checks, policies): (Vec<String>, Vec<String>) = (row.get(8), row.get(9));
            let compares =
                ["( SELECT app.user_id()", "app.user_id()"].map(|one| format!("({column} = {one}"));
            Column {
                choices: choices(&column, &checks),
                alternatives: if row.get(2) {
                    alternatives(&checks)
                } else {
                    Vec::new()
                },
                is_in_insert_policy: policies.iter().any(|policy| holds_word(policy, &column)),
                holds_caller: policies
                    .iter()
                    .any(|policy| compares.iter().any(|one| policy.contains(one))),
                sql_type: row.get(1),
                is_nullable: row.get(2),
                has_default: row.get(3),
                is_unique: row.get(4),
                references: row.get(5),
                refers_to_tenant: row.get(6),
                may_read_referenced: row.get(7),
                name: column,
            }
        });
        let columns: Vec<Column> = columns.collect();
        assert!(!columns.is_empty(), "{name} has no columns");
        Self {
            name: name.to_owned(),
            columns,
        }
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The order in which new rows choose the rows to refer to. The caller and the caller's own rows are first; the
    /// other rows follow by age, the oldest first.
    fn order(&self) -> String {
        if self.column("created_at").is_none() {
            return "id".to_owned();
        }
        let authors = self.columns.iter().filter(|column| column.holds_caller);
        let own = authors.map(|column| format!("{} = app.user_id() desc", column.name));
        let mut terms = vec!["id = app.user_id() desc".to_owned()];
        terms.extend(own);
        terms.extend(["created_at".to_owned(), "id".to_owned()]);
        terms.join(", ")
    }

    /// A sub-select that returns the id of the first row.
    pub fn first(&self) -> String {
        format!(
            "(select id from {} order by {} limit 1)",
            self.name,
            self.order()
        )
    }

    /// The string columns that are unique and never null.
    pub fn unique_strings(&self) -> impl Iterator<Item = &str> {
        let columns = self
            .columns
            .iter()
            .filter(|column| column.is_unique && !column.is_nullable && column.sql_type == "text");
        columns.map(|column| column.name.as_str())
    }

    /// The expression that a slice declares for a column, if any.
    fn sample(&self, column: &str) -> Option<&'static str> {
        let mut values = SLICES.iter().flat_map(|slice| slice.values);
        let found = values.find(|(table, name, _)| *table == self.name && *name == column);
        found.map(|(_, _, expression)| *expression)
    }

    /// An SQL expression for a column's value in the new row with number `n`. `None` means the column's default.
    fn value(&self, column: &Column) -> Option<String> {
        if let Some(expression) = self.sample(&column.name) {
            return Some(expression.to_owned());
        }
        let name = column.name.as_str();
        if matches!(name, "tenant_id" | "version" | "created_at" | "updated_at") {
            return None;
        }
        if name == "id" {
            let table = &self.name;
            return Some(format!(
                "md5(app.tenant_id()::text || '{table}' || n)::uuid"
            ));
        }
        let is_reference = column.references.is_some();
        if is_reference && column.is_nullable && !column.refers_to_tenant {
            return None;
        }
        if column.has_default && column.choices.is_empty() && column.sql_type != "boolean" {
            return None;
        }
        let value = if is_reference {
            format!("of_{name}.ids[1 + (n / 3) % cardinality(of_{name}.ids)]")
        } else if !column.choices.is_empty() {
            let choices = column.choices.join("','");
            let amount = column.choices.len();
            format!("(array['{choices}'])[1 + n % {amount}]")
        } else {
            self.plain_value(column)
        };
        let position = column.alternatives.iter().position(|other| *other == name);
        Some(match position {
            Some(position) => {
                let amount = column.alternatives.len();
                format!("case when n % {amount} = {position} then {value} end")
            }
            None if column.is_nullable => format!("case when n % 3 > 0 then {value} end"),
            None => value,
        })
    }

    /// An SQL expression for a column without a foreign key and without a list of allowed strings. Each string contains
    /// the tenant's slug.
    fn plain_value(&self, column: &Column) -> String {
        match column.sql_type.as_str() {
            "text" if column.is_unique => {
                let name = column.name.replace('_', "-");
                format!("'{name}-' || n || '-' || canary")
            }
            "text" => "case n % 4 when 0 then 'Same ' || canary when 1 then 'Näme_' || n || '% ' || canary
                            when 2 then 'Back\\' || n % 5 || ' ' || canary else 'Title ' || n || ' ' || canary end"
                .to_owned(),
            "smallint" | "integer" | "bigint" | "numeric" => "n".to_owned(),
            "boolean" => "n % 2 = 0".to_owned(),
            "date" => "date '2026-02-28' + n % 40".to_owned(),
            "timestamp with time zone" => {
                "timestamptz '2026-01-01T00:00:00Z' + n * interval '1 hour'".to_owned()
            }
            "uuid" => "md5(n::text)::uuid".to_owned(),
            "jsonb" => "to_jsonb(n)".to_owned(),
            other => panic!(
                "{}.{}: give a value of type {other} in tests/it/samples",
                self.name, column.name
            ),
        }
    }

    /// An SQL expression for a column's value in a row with only the required columns. `None` means null or default.
    /// The rows have the numbers from `first + 1`.
    fn required_value(
        &self,
        column: &Column,
        first: i64,
        parents: &[(&str, &[Uuid])],
        per_parent: usize,
    ) -> Option<String> {
        let name = column.name.as_str();
        if let Some((_, ids)) = parents.iter().find(|(of, _)| *of == name) {
            let list: Vec<String> = ids.iter().map(Uuid::to_string).collect();
            let (list, amount) = (list.join(","), ids.len());
            let position = format!("1 + (n - {first} - 1) / {per_parent} % {amount}");
            return Some(format!("('{{{list}}}'::uuid[])[{position}]"));
        }
        if name == "id" {
            return Some("app.uuid_v7()".to_owned());
        }
        if column.is_nullable || column.has_default {
            return None;
        }
        if column.references.is_some() && self.sample(name).is_none() {
            return Some(format!("of_{name}.ids[1]"));
        }
        self.value(column)
    }

    /// A statement that inserts the rows with the numbers `first + 1` to `first + amount` and returns their ids.
    pub fn insert(
        &self,
        tables: &[Self],
        first: i64,
        amount: usize,
        values_of: Values<'_>,
    ) -> String {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        let mut from = format!(
            "generate_series({first} + 1, {first} + {amount}) n, (select slug canary from tenants where id = app.tenant_id()) t"
        );
        for column in &self.columns {
            let value = match values_of {
                Values::Varied => self.value(column),
                Values::Required {
                    parents,
                    per_parent,
                } => self.required_value(column, first, parents, per_parent),
            };
            let Some(value) = value else {
                continue;
            };
            let of = format!("of_{}.", column.name);
            if value.contains(&of) {
                let target = column.references.as_ref().unwrap();
                let order = tables.iter().find(|table| table.name == *target);
                let order = order.map_or_else(|| "1".to_owned(), Self::order);
                let mine = if column.refers_to_tenant {
                    "where tenant_id = app.tenant_id()"
                } else {
                    ""
                };
                write!(
                    from,
                    ", (select array_agg(id) ids from (
                           select id from {target} {mine}
                           order by {order} limit 4) first) of_{}",
                    column.name
                )
                .unwrap();
            }
            names.push(column.name.as_str());
            values.push(value);
        }
        let (names, values) = (names.join(", "), values.join(",\n"));
        format!(
            "insert into {} ({names}) select {values} from {from} returning id",
            self.name
        )
    }

    /// A statement that inserts a copy of the tenant's first row. Unique values are new. Columns that a policy compares
    /// with the caller contain `author`. Columns with a default and nullable unique columns are omitted. `with`
    /// overrides values.
    pub fn insert_like_first(&self, author: Uuid, with: &Value) -> String {
        let id = Uuid::now_v7();
        let n = id.as_u128() % 100_000_000 + 1_000_000;
        let mut given = json!({ "id": id });
        for column in self.columns.iter().filter(|column| column.holds_caller) {
            given[&column.name] = json!(author);
        }
        let with = with.as_object().unwrap();
        for column in &self.columns {
            if with.contains_key(&column.name) {
                for other in &column.alternatives {
                    given[other] = Value::Null;
                }
            }
        }
        given.as_object_mut().unwrap().extend(with.clone());
        let given = given.as_object().unwrap();

        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in &self.columns {
            let name = column.name.as_str();
            let is_hidden = column.references.is_some() && !column.may_read_referenced;
            let value = if let Some(value) = given.get(name) {
                match value {
                    Value::Null => "null".to_owned(),
                    Value::String(text) => format!("'{}'", text.replace('\'', "''")),
                    other => other.to_string(),
                }
            } else if column.has_default || column.is_nullable && (column.is_unique || is_hidden) {
                continue;
            } else if column.is_unique && column.references.is_none() {
                let value = self.sample(name).map(str::to_owned);
                value.unwrap_or_else(|| self.plain_value(column))
            } else {
                format!("first.{name}")
            };
            names.push(name);
            values.push(value);
        }
        let (table, order) = (&self.name, self.order());
        format!(
            "insert into {table} ({}) select {} from (select * from {table} order by {order} limit 1) first,
                 (select {n} n) number, (select slug canary from tenants where id = app.tenant_id()) t",
            names.join(", "),
            values.join(", "),
        )
    }
}

/// The entities whose rows belong to their author, in `snake_case`.
pub async fn authored_entities(connection: &mut PgConnection) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entity in ENTITIES {
        let table = Table::read(connection, entity.table).await;
        if table.columns.iter().any(|column| column.holds_caller) {
            found.insert(snake_case(entity.type_name));
        }
    }
    found
}
