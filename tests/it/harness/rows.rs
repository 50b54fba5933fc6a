//! Rows in the tables of a tenant. The statements come from the catalogue and the samples, so a new entity
//! gets its rows without a change here.

use std::collections::BTreeSet;

use palisade::{auth::role::UserRole, entities::ENTITIES};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    catalogue::{Table, Values},
    database::attempt,
    entity::entity,
    tenant::Tenant,
};
use crate::samples::SLICES;

/// The tables of the entities whose rows the tests insert. Each table is after the tables to which it refers. The audit
/// log is not among them, because triggers write it.
async fn fillable(connection: &mut PgConnection) -> Vec<Table> {
    let mut left = Vec::new();
    for entity in ENTITIES.iter().filter(|entity| entity.is_audited) {
        let table = Table::read(connection, entity.table).await;
        // The table `tenants` has no column `tenant_id`: its rows do not belong to a tenant.
        if table.column("tenant_id").is_some() {
            left.push(table);
        }
    }
    let mut sorted: Vec<Table> = Vec::new();
    while !left.is_empty() {
        let missing: BTreeSet<String> = left.iter().map(|table| table.name.clone()).collect();
        let refers_to_missing = |table: &Table| {
            let mut targets = table
                .columns
                .iter()
                .filter_map(|one| one.references.clone());
            targets.any(|target| target != table.name && missing.contains(&target))
        };
        let (later, next): (Vec<Table>, Vec<Table>) = left.into_iter().partition(refers_to_missing);
        assert!(!next.is_empty(), "{missing:?} refer to each other");
        sorted.extend(next);
        left = later;
    }
    sorted
}

/// The number of a table's rows in the connection's tenant.
async fn count(connection: &mut PgConnection, table: &Table) -> i64 {
    let sql = format!(
        "select count(*) from {} where tenant_id = app.tenant_id()",
        table.name
    );
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
    count.fetch_one(connection).await.unwrap()
}

/// Runs a statement of [`Table::insert`]; returns the ids in the order of the rows.
async fn insert_rows(connection: &mut PgConnection, insert: String) -> Vec<Uuid> {
    let ids = sqlx::query_scalar(sqlx::AssertSqlSafe(insert.clone()));
    let ids = ids.fetch_all(connection).await;
    ids.unwrap_or_else(|error| panic!("{insert}: {error}"))
}

/// Inserts `amount` rows of each entity into the connection's tenant; with `only_empty`, only into empty tables.
async fn fill_tables(connection: &mut PgConnection, amount: usize, only_empty: bool) {
    let tables = fillable(connection).await;
    for table in &tables {
        let first = count(connection, table).await;
        if first == 0 || !only_empty {
            let insert = table.insert(&tables, first, amount, Values::Varied);
            insert_rows(connection, insert).await;
        }
    }
}

/// Inserts `amount` rows of each entity that has no rows in the connection's tenant.
pub async fn fill_empty_tables(connection: &mut PgConnection, amount: usize) {
    fill_tables(connection, amount, true).await;
}

impl Tenant {
    /// Inserts `amount` rows of every entity, at least 12, and rows into the tenant's other tables. One transaction
    /// inserts the rows of all entities, so they have the same creation time. Strings repeat, contain the tenant's
    /// slug, and some contain pattern characters. Nullable columns are null in a third of the rows. Every foreign key
    /// refers to one of the first four rows of its target.
    pub async fn fill(&self, amount: usize) {
        assert!(amount >= 12, "fewer rows do not have every value");
        let mut admin = self.connect_as("palisade_admin", UserRole::Owner).await.0;
        attempt(&mut admin, "begin".to_owned()).await.unwrap();
        fill_tables(&mut admin, amount, false).await;
        attempt(&mut admin, "commit".to_owned()).await.unwrap();

        let mut owner = self.begin().await.0;
        let seal = "select app.seal_audit_log()".to_owned();
        attempt(&mut owner, seal).await.unwrap();
        for step in SLICES.iter().flat_map(|slice| slice.after_fill) {
            let done = attempt(&mut owner, (*step).to_owned()).await;
            assert!(matches!(done, Ok(1..)), "{step}: {done:?}");
        }
        for caller in &self.callers {
            let mut own = self.begin_as(caller.role).await.0;
            let key =
                "insert into idempotency_keys (id, request) values (app.uuid_v7(), sha256('one'))";
            assert_eq!(attempt(&mut own, key.to_owned()).await, Ok(1));
        }
    }

    /// Inserts an organization, a product, and `projects` projects of the organization. Each project has one comment
    /// and `invoices` invoices, and each invoice has two lines with the product. The tenant's owner inserts the rows,
    /// and only required columns have values. Every string contains the tenant's slug, so that tests detect a leak.
    ///
    /// Use this in tests that count rows below a known parent, and [`Tenant::fill`] in tests of every entity.
    pub async fn seed(&self, projects: usize, invoices: usize) -> Seed {
        let mut sql = self.begin().await.0;
        attempt(&mut sql, "begin".to_owned()).await.unwrap();
        let mut tree = Tree {
            tables: fillable(&mut sql).await,
            sql,
        };
        let [organization] = tree.insert("Organization", 1, &[]).await[..] else {
            panic!("one organization");
        };
        let [product] = tree.insert("Product", 1, &[]).await[..] else {
            panic!("one product");
        };
        let projects = tree.insert("Project", projects, &[]).await;
        let invoices = tree
            .insert("Invoice", invoices, &[("project_id", &projects)])
            .await;
        let parents = [("invoice_id", &invoices[..]), ("product_id", &[product])];
        tree.insert("InvoiceLineItem", 2, &parents).await;
        // Update each draft, so that the database computes its totals.
        let totals = "update invoices set currency = currency".to_owned();
        attempt(&mut tree.sql, totals).await.unwrap();
        // Seal the rows so far. The rows for the comments below stay unsealed.
        let seal = "select app.seal_audit_log()".to_owned();
        attempt(&mut tree.sql, seal).await.unwrap();
        tree.insert("Comment", 1, &[("project_id", &projects)])
            .await;
        attempt(&mut tree.sql, "commit".to_owned()).await.unwrap();
        Seed {
            organization,
            projects,
            invoices,
        }
    }
}

/// The ids of the rows of [`Tenant::seed`].
pub struct Seed {
    pub organization: Uuid,
    pub projects: Vec<Uuid>,
    pub invoices: Vec<Uuid>,
}

/// A transaction that inserts rows below other rows.
struct Tree {
    tables: Vec<Table>,
    sql: PgConnection,
}

impl Tree {
    /// Inserts `amount` rows of an entity for each parent. Returns their ids. `parents` has a list of ids for each
    /// column that refers to parents; a list that is shorter than the longest one is repeated.
    async fn insert(
        &mut self,
        type_name: &str,
        amount: usize,
        parents: &[(&str, &[Uuid])],
    ) -> Vec<Uuid> {
        let name = entity(type_name).table;
        let mut tables = self.tables.iter();
        let table = tables.find(|table| table.name == name).unwrap();
        let lengths = || parents.iter().map(|(_, ids)| ids.len());
        let total = amount * lengths().max().unwrap_or(1);
        if total == 0 || lengths().any(|length| length == 0) {
            return Vec::new();
        }
        let first = count(&mut self.sql, table).await;
        let values = Values::Required {
            parents,
            per_parent: amount,
        };
        let insert = table.insert(&self.tables, first, total, values);
        insert_rows(&mut self.sql, insert).await
    }
}
