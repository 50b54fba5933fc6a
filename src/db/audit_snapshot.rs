//! One tenant's audit log with its seals, as `palisade_admin` sees them at one moment.
//!
//! The hashes are worked out in these statements and not by the functions of the database, which
//! whoever can change the log could change too.

use futures_util::{Stream, TryStreamExt as _};
use sqlx::{Postgres, Transaction};

use crate::{
    error::{Error, Result},
    ids::{AuditLogId, EntityId as _, TenantId},
};

/// A transaction that only reads, and sees the log as it was when it began.
pub struct AuditSnapshot<'c> {
    pub(super) tx: Transaction<'c, Postgres>,
    pub(super) tenant: TenantId,
}

/// A seal, and what there is of it.
#[derive(Clone, Debug)]
pub struct Seal {
    /// From 1.
    pub number: i32,
    /// The hash of the seal before it.
    pub previous_hash: Option<Vec<u8>>,
    /// Its hash.
    pub hash: Vec<u8>,
    /// What its hash should be.
    pub computed_hash: Vec<u8>,
    /// How many rows it says that it holds.
    pub rows: i32,
    /// How many it holds.
    pub entries: i64,
}

/// A row of the log.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The id.
    pub id: AuditLogId,
    /// The seal that holds it.
    pub seal: Option<i32>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Fault {
    /// Sealed, and its content is not that of its hash.
    Content,
    /// Sealed, and its hash is not the one that was sealed.
    Hash,
    /// Sealed, although it was too old for its seal.
    SealedLate,
    /// Not sealed, and its content is not that of its hash.
    Forged,
    /// Not sealed, and no trigger announced it.
    Unannounced,
    /// Not sealed, and too old for a seal that is still to come.
    Late,
}

/// A row that is gone.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// The id.
    pub id: AuditLogId,
    /// The seal that holds it, if one does.
    pub seal: Option<i32>,
}

impl AuditSnapshot<'_> {
    /// Every seal, by number.
    pub fn seals(&mut self) -> impl Stream<Item = Result<Seal>> {
        sqlx::query_as!(
            Seal,
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

    /// Every row, by id.
    pub fn rows(&mut self) -> impl Stream<Item = Result<Row>> {
        sqlx::query_as!(
            Row,
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
            -- Limited, so that each is looked up by its key: in a log of any size nothing is read twice.
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

    /// Every row that was sealed or announced and is not there.
    pub fn lost(&mut self) -> impl Stream<Item = Result<Lost>> {
        sqlx::query_as!(
            Lost,
            r#"
            select known.id as "id!: AuditLogId", known.seal_number as "seal?"
            from (
                select e.id, e.seal_number from public.audit_seal_entries e where e.tenant_id = $1
                union all
                select u.id, null from public.audit_unsealed u where u.tenant_id = $1
            ) known
            where not exists (
                select from public.audit_logs a where a.tenant_id = $1 and a.id = known.id)
            order by known.seal_number, known.id
            "#,
            self.tenant.uuid(),
        )
        .fetch(&mut *self.tx)
        .map_err(Error::from)
    }
}
