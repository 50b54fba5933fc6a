//! One tenant's audit log with its seals, in one snapshot of `palisade_admin`.
//!
//! The invariant: **the owner of the schema cannot change what these statements mean.** They read plain columns; the
//! service computes the hashes (`audit_hash.rs`). Names of functions, operators and types resolve to
//! `pg_catalog` alone ([`super::admin_tx`]). [`AuditSnapshot::untrusted_tables`] checks that the tables are tables.

use futures_util::{Stream, TryStreamExt as _};
use sqlx::{Executor as _, Postgres, Transaction};
use uuid::Uuid;

use super::{
    audit_hash::{JsonbString, RowContent, SealContent, Timestamp},
    migrate::OWNER,
};
use crate::{
    error::{Error, Result},
    ids::{AuditLogId, EntityId as _, TenantId},
};

/// A read-only transaction, which sees the log as it was when the transaction began.
pub struct AuditSnapshot<'c> {
    pub(super) tx: Transaction<'c, Postgres>,
    pub(super) tenant: TenantId,
}

/// A seal: its stored values, and the values computed from the rows that it contains.
#[derive(Clone, Debug)]
pub struct AuditSeal {
    /// The number of the seal, from 1.
    pub number: i32,
    /// The hash of the previous seal.
    pub previous_hash: Option<Vec<u8>>,
    /// The stored hash.
    pub hash: Vec<u8>,
    /// The computed hash, to which the stored one must be equal.
    pub computed_hash: Vec<u8>,
    /// The number of rows that the seal states.
    pub rows: i32,
    /// The number of rows that the database lists for the seal.
    pub entries: usize,
}

/// A row of the log.
#[derive(Clone, Copy, Debug)]
pub struct AuditRow {
    /// The id.
    pub id: AuditLogId,
    /// Whether the row records the creation of the tenant.
    pub is_creation: bool,
    /// The seal that contains the row; `None` if the row is not sealed.
    pub seal: Option<i32>,
    /// The fault of the row; `None` if it has none.
    pub fault: Option<Fault>,
}

/// The fault of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The row is sealed, and its content does not match its hash.
    Content,
    /// The row is sealed, and its hash is not the one in the seal.
    Hash,
    /// The row is sealed, but more than a day older than the newest row of an earlier seal.
    SealedLate,
    /// The row is not sealed, and its content does not match its hash.
    Forged,
    /// The row is not sealed, and `audit_unsealed` does not list it.
    Unannounced,
    /// The row is not sealed, and more than a day older than the newest sealed row.
    Late,
}

/// The columns of a row, and what the other tables say about it.
struct StoredRow {
    tenant_id: Uuid,
    id: Uuid,
    occurred_at: Option<Timestamp>,
    action: Option<String>,
    actor_id: Option<Uuid>,
    subject_type: Option<String>,
    subject_id: Option<Uuid>,
    project_id: Option<Uuid>,
    changes: Option<JsonbString>,
    operation_name: Option<String>,
    request_id: Option<Uuid>,
    hash: Option<Vec<u8>>,
    seal: Option<i32>,
    sealed_hash: Option<Vec<u8>>,
    sealed_at: Option<Timestamp>,
    is_announced: bool,
    latest_before: Option<Timestamp>,
    now: Timestamp,
}

impl StoredRow {
    fn inspect(self, tenant: TenantId) -> AuditRow {
        let content = RowContent {
            tenant_id: self.tenant_id,
            id: self.id,
            occurred_at: self.occurred_at,
            action: self.action,
            actor_id: self.actor_id,
            subject_type: self.subject_type,
            subject_id: self.subject_id,
            project_id: self.project_id,
            changes: self.changes,
            operation_name: self.operation_name,
            request_id: self.request_id,
        };
        let is_right = self.hash.as_ref() == Some(&content.hash());
        // A row that is older than this was not written when it was sealed, or now if it is not sealed. If the clock of
        // the database was ahead once, `latest` is too late. So the time of the seal, or the present, counts if it is
        // earlier.
        let limit = self.latest_before.map(|latest| {
            latest
                .min(self.sealed_at.unwrap_or(self.now))
                .a_day_before()
        });
        let is_late = matches!((self.occurred_at, limit), (Some(at), Some(limit)) if at <= limit);
        let fault = match self.seal {
            Some(_) if !is_right => Some(Fault::Content),
            Some(_) if self.sealed_hash != self.hash => Some(Fault::Hash),
            Some(_) if is_late => Some(Fault::SealedLate),
            None if !is_right => Some(Fault::Forged),
            None if !self.is_announced => Some(Fault::Unannounced),
            None if is_late => Some(Fault::Late),
            _ => None,
        };
        AuditRow {
            id: AuditLogId::from(self.id),
            is_creation: content.action.as_deref() == Some("tenant.created")
                && content.subject_id == Some(tenant.uuid()),
            seal: self.seal,
            fault,
        }
    }
}

/// A row that was removed.
#[derive(Clone, Copy, Debug)]
pub struct MissingRow {
    /// The id.
    pub id: AuditLogId,
    /// The seal that contains the row; `None` if the row was not sealed.
    pub seal: Option<i32>,
}

/// A table of the log that may show other rows than those that were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntrustedTable {
    /// The name of the table.
    pub table: String,
    /// The reason.
    pub reason: String,
}

/// The tables of the log, and the type of each column that is read.
const TABLES: [(&str, &[&str]); 4] = [
    (
        "audit_logs",
        &[
            "tenant_id uuid",
            "id uuid",
            "occurred_at timestamp with time zone",
            "action text",
            "actor_id uuid",
            "subject_type text",
            "subject_id uuid",
            "project_id uuid",
            "changes jsonb",
            "operation_name text",
            "request_id uuid",
            "hash bytea",
        ],
    ),
    (
        "audit_seals",
        &[
            "tenant_id uuid",
            "id uuid",
            "number integer",
            "sealed_at timestamp with time zone",
            "latest timestamp with time zone",
            "rows integer",
            "previous_hash bytea",
            "hash bytea",
        ],
    ),
    (
        "audit_seal_entries",
        &[
            "tenant_id uuid",
            "id uuid",
            "seal_number integer",
            "hash bytea",
        ],
    ),
    ("audit_unsealed", &["tenant_id uuid", "id uuid"]),
];

/// What the catalogue says about a table.
struct TableProperties {
    name: String,
    /// The first reason not to trust the table, whatever its columns are.
    reason: Option<String>,
    /// The name and the type of each column that is stored.
    columns: Vec<String>,
}

impl TableProperties {
    /// The reason not to trust the table, if there is one.
    fn reason(&self) -> Option<String> {
        let (_, expected) = TABLES.iter().find(|(name, _)| *name == self.name)?;
        let missing = expected
            .iter()
            .find(|column| !self.columns.iter().any(|found| found == *column));
        let missing = || Some(format!("it lacks the column {}, or generates it", missing?));
        self.reason.clone().or_else(missing)
    }
}

impl<'c> AuditSnapshot<'c> {
    /// Locks the tables of the log, so that their definitions do not change until the transaction ends. LOCK takes no
    /// snapshot, so the snapshot is newer than the locks.
    pub(super) async fn begin(mut tx: Transaction<'c, Postgres>, tenant: TenantId) -> Result<Self> {
        tx.execute(
            "lock table public.audit_logs, public.audit_seals, public.audit_seal_entries, public.audit_unsealed
             in access share mode",
        )
        .await?;
        // A log can be so long that reading it takes longer than the role's timeout.
        tx.execute("set local statement_timeout = 0").await?;
        Ok(Self { tx, tenant })
    }

    /// Returns the tables of the log that may show other rows than those that were written. A view, for example, can
    /// show different rows to each role.
    pub async fn untrusted_tables(&mut self) -> Result<Vec<UntrustedTable>> {
        let names: Vec<String> = TABLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        let found = sqlx::query_as!(
            TableProperties,
            r#"
            select expected.name as "name!",
                   case
                       when c.relkind is distinct from 'r' then 'it is not a table'
                       when r.rolname::text is distinct from $2::text then 'its owner is not ' || $2::text
                       when exists (select from pg_rewrite w where w.ev_class = c.oid) then 'it has rules'
                       when exists (select from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal)
                           then 'it has triggers'
                       when exists (select from pg_inherits i where i.inhparent = c.oid)
                           then 'other tables inherit from it'
                       -- The search_path of the service is "$user", public.
                       when exists (
                           select from pg_class s join pg_namespace n on n.oid = s.relnamespace
                           where n.nspname = 'palisade_app' and s.relname = expected.name
                       ) then 'the schema palisade_app contains the same name, so the service reads that'
                   end as reason,
                   array(
                       select a.attname::text || ' ' || format_type(a.atttypid, null)
                       from pg_attribute a
                       where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                   ) as "columns!"
            from unnest($1::text[]) as expected (name)
            left join (pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public')
                on c.relname = expected.name
            left join pg_roles r on r.oid = c.relowner
            order by expected.name
            "#,
            &names,
            OWNER,
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let untrusted = found.into_iter().filter_map(|table| {
            table.reason().map(|reason| UntrustedTable {
                table: table.name,
                reason,
            })
        });
        Ok(untrusted.collect())
    }

    /// Returns every seal, by number.
    pub fn seals(&mut self) -> impl Stream<Item = Result<AuditSeal>> {
        sqlx::query!(
            r#"
            select s.tenant_id, s.id, s.number, s.sealed_at as "sealed_at: Timestamp",
                   s.latest as "latest: Timestamp", s.rows, s.previous_hash, s.hash,
                   array(
                       select e.id from public.audit_seal_entries e
                       where e.tenant_id = s.tenant_id and e.seal_number = s.number
                       order by e.id
                   ) as "ids!: Vec<Uuid>",
                   array(
                       select e.hash from public.audit_seal_entries e
                       where e.tenant_id = s.tenant_id and e.seal_number = s.number
                       order by e.id
                   ) as "hashes!: Vec<Option<Vec<u8>>>"
            from public.audit_seals s
            where s.tenant_id = $1
            order by s.number
            "#,
            self.tenant.uuid(),
        )
        .fetch(&mut *self.tx)
        .map_err(Error::from)
        .map_ok(|seal| {
            let content = SealContent {
                tenant_id: seal.tenant_id,
                id: seal.id,
                number: seal.number,
                sealed_at: seal.sealed_at,
                latest: seal.latest,
                rows: seal.rows,
                previous_hash: seal.previous_hash.as_deref(),
            };
            AuditSeal {
                number: seal.number,
                computed_hash: content.hash(&seal.ids, &seal.hashes),
                previous_hash: seal.previous_hash,
                hash: seal.hash,
                rows: seal.rows,
                entries: seal.ids.len(),
            }
        })
    }

    /// Returns every row, by id.
    pub fn rows(&mut self) -> impl Stream<Item = Result<AuditRow>> {
        let tenant = self.tenant;
        sqlx::query_as!(
            StoredRow,
            r#"
            select a.tenant_id, a.id, a.occurred_at as "occurred_at?: Timestamp", a.action as "action?",
                   a.actor_id, a.subject_type as "subject_type?", a.subject_id as "subject_id?",
                   a.project_id, a.changes as "changes?: JsonbString", a.operation_name, a.request_id,
                   a.hash as "hash?",
                   e.seal_number as "seal?", e.hash as "sealed_hash?", own.sealed_at as "sealed_at?: Timestamp",
                   u.id is not null as "is_announced!",
                   before.latest as "latest_before?: Timestamp", now() as "now!: Timestamp"
            from public.audit_logs a
            -- The limits make each a lookup by key: in a log of any size, no row is read twice.
            left join lateral (
                select e.seal_number, e.hash
                from public.audit_seal_entries e
                where e.tenant_id = a.tenant_id and e.id = a.id
                limit 1
            ) e on true
            left join lateral (
                select u.id
                from public.audit_unsealed u
                where u.tenant_id = a.tenant_id and u.id = a.id
                limit 1
            ) u on true
            left join lateral (
                select s.sealed_at
                from public.audit_seals s
                where s.tenant_id = a.tenant_id and s.number = e.seal_number
                limit 1
            ) own on true
            left join lateral (
                select s.latest
                from public.audit_seals s
                where s.tenant_id = a.tenant_id and s.number < coalesce(e.seal_number, 2147483647)
                order by s.number desc
                limit 1
            ) before on true
            where a.tenant_id = $1
            order by a.id
            "#,
            tenant.uuid(),
        )
        .fetch(&mut *self.tx)
        .map_err(Error::from)
        .map_ok(move |row| row.inspect(tenant))
    }

    /// Returns every row that a seal or `audit_unsealed` lists and that does not exist.
    pub fn missing_rows(&mut self) -> impl Stream<Item = Result<MissingRow>> {
        sqlx::query_as!(
            MissingRow,
            r#"
            select known.id as "id!: AuditLogId", known.seal_number as "seal?"
            from (
                select e.id, e.seal_number from public.audit_seal_entries e where e.tenant_id = $1
                union all
                select u.id, null from public.audit_unsealed u where u.tenant_id = $1
            ) known
            where not exists (
                select 1 from public.audit_logs a where a.tenant_id = $1 and a.id = known.id)
            order by known.seal_number, known.id
            "#,
            self.tenant.uuid(),
        )
        .fetch(&mut *self.tx)
        .map_err(Error::from)
    }
}
