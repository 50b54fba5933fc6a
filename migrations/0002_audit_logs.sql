-- What happened to a tenant's rows, written by app.record_change() and by nothing else.
--
-- Immutable, so it has neither version nor updated_at. It holds no foreign keys: the record of a change
-- outlives the row, the project and the user that it names.
create table audit_logs (
    tenant_id      uuid        not null default app.tenant_id(),
    id             uuid        not null,
    occurred_at    timestamptz not null,
    action         text        not null,
    actor_id       uuid,
    subject_type   text        not null,
    subject_id     uuid        not null,
    project_id     uuid,
    changes        jsonb       not null,
    operation_name text,
    request_id     uuid,
    constraint audit_logs_pkey primary key (tenant_id, id)
);

select app.protect('audit_logs', audited => false);
revoke insert, update, delete on audit_logs from palisade_app, palisade_admin;

create policy read_by_role on audit_logs as restrictive for select
    using ((select app.role()) = any ('{OWNER,ADMIN}'::text[]));

-- Serves Query.auditLogs.
create index audit_logs_occurred_at_idx on audit_logs (tenant_id, occurred_at desc, id desc);
-- Serves Project.auditLogs.
create index audit_logs_project_idx on audit_logs (tenant_id, project_id, occurred_at desc, id desc);
-- Serves auditLogs of every other subject.
create index audit_logs_subject_idx on audit_logs (tenant_id, subject_id, occurred_at desc, id desc);
-- Serves User.auditLogs: what somebody did.
create index audit_logs_actor_idx on audit_logs (tenant_id, actor_id, occurred_at desc, id desc);

comment on column audit_logs.subject_type is 'Name of the table of the changed row.';
comment on column audit_logs.project_id is 'The project that the changed row belongs to, if any.';
comment on column audit_logs.changes is 'Array of {field, before, after}, changed fields only.';
