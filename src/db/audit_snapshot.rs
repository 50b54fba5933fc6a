//! One tenant's audit log with its seals, in one snapshot of `palisade_admin`.
//!
//! The invariant: **no function of the schema `app` computes a hash here.** These statements compute the
//! hashes with built-in functions, because a person who can change the log could also change `app`.

use futures_util::{Stream, TryStreamExt as _};
use sqlx::{Postgres, Transaction};

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
    pub entries: i64,
}

/// A row of the log.
#[derive(Clone, Copy, Debug)]
pub struct AuditRow {
    /// The id.
    pub id: AuditLogId,
    /// The seal that contains the row; `None` if the row is not sealed.
    pub seal: Option<i32>,
    /// The fault of the row; `None` if it has none.
    pub fault: Option<Fault>,
}

/// The fault of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
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

/// A row that was removed.
#[derive(Clone, Copy, Debug)]
pub struct MissingRow {
    /// The id.
    pub id: AuditLogId,
    /// The seal that contains the row; `None` if the row was not sealed.
    pub seal: Option<i32>,
}

impl AuditSnapshot<'_> {
    /// Returns every seal, by number.
    pub fn seals(&mut self) -> impl Stream<Item = Result<AuditSeal>> {
        sqlx::query_as!(
            AuditSeal,
            r#"
            select s.number, s.previous_hash, s.hash, s.rows, e.rows as "entries!",
                   -- app.audit_seal_hash
                   sha256(convert_to(jsonb_build_array(
                       s.tenant_id, s.id, s.number, extract(epoch from s.sealed_at)::text,
                       extract(epoch from s.latest)::text, s.rows, encode(s.previous_hash, 'hex'))::text,
                       'UTF8') || e.entries) as "computed_hash!"
            from public.audit_seals s
            cross join lateral (
                select count(*) as rows,
                       coalesce(string_agg(uuid_send(e.id) || e.hash, '' order by e.id), '') as entries
                from public.audit_seal_entries e
                where e.tenant_id = s.tenant_id and e.seal_number = s.number
            ) e
            where s.tenant_id = $1
            order by s.number
            "#,
            self.tenant.uuid(),
        )
        .fetch(&mut *self.tx)
        .map_err(Error::from)
    }

    /// Returns every row, by id.
    pub fn rows(&mut self) -> impl Stream<Item = Result<AuditRow>> {
        sqlx::query_as!(
            AuditRow,
            r#"
            select a.id as "id: AuditLogId", e.seal_number as "seal?",
                   case
                       when e.seal_number is not null then case
                           when not own.is_right then 'content'
                           when e.hash is distinct from a.hash then 'hash'
                           when a.occurred_at <= before.latest - interval '1 day' then 'sealed_late'
                       end
                       when not own.is_right then 'forged'
                       when u.is_announced is null then 'unannounced'
                       when a.occurred_at <= before.latest - interval '1 day' then 'late'
                   end as "fault: Fault"
            from public.audit_logs a
            -- The limits make each a lookup by key: in a log of any size, no row is read twice.
            left join lateral (
                select e.seal_number, e.hash
                from public.audit_seal_entries e
                where e.tenant_id = a.tenant_id and e.id = a.id
                limit 1
            ) e on true
            left join lateral (
                select true as is_announced
                from public.audit_unsealed u
                where u.tenant_id = a.tenant_id and u.id = a.id
                limit 1
            ) u on true
            left join lateral (
                select s.latest
                from public.audit_seals s
                where s.tenant_id = a.tenant_id and s.number < coalesce(e.seal_number, 2147483647)
                order by s.number desc
                limit 1
            ) before on true
            cross join lateral (
                -- app.audit_row_hash
                select a.hash is not distinct from sha256(convert_to(jsonb_build_array(
                    a.tenant_id, a.id, extract(epoch from a.occurred_at)::text, a.action,
                    a.actor_id, a.subject_type, a.subject_id, a.project_id, a.changes,
                    a.operation_name, a.request_id)::text, 'UTF8')) as is_right
                offset 0
            ) own
            where a.tenant_id = $1
            order by a.id
            "#,
            self.tenant.uuid(),
        )
        .fetch(&mut *self.tx)
        .map_err(Error::from)
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
