-- What happened to a tenant's rows. Only app.record_change() writes it.
--
-- The rows never change, so they have neither version nor updated_at. There are no foreign keys: an entry
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
    hash           bytea       not null,
    constraint audit_logs_pkey primary key (tenant_id, id)
);

select app.protect('audit_logs', audited => false);
revoke insert, update, delete on audit_logs from palisade_app, palisade_admin;
select app.readable_by('audit_logs', 'OWNER', 'ADMIN');

-- Serves Query.auditLogs.
create index audit_logs_occurred_at_idx on audit_logs (tenant_id, occurred_at desc, id desc);
-- Serves Project.auditLogs.
create index audit_logs_project_idx on audit_logs (tenant_id, project_id, occurred_at desc, id desc);
-- Serves auditLogs of every other subject.
create index audit_logs_subject_idx on audit_logs (tenant_id, subject_id, occurred_at desc, id desc);
-- Serves User.auditLogs: the changes that the user made.
create index audit_logs_actor_idx on audit_logs (tenant_id, actor_id, occurred_at desc, id desc);

comment on column audit_logs.action is 'The subject and what happened to it: project.updated.';
comment on column audit_logs.actor_id is 'The user who made the change; null if the service did.';
comment on column audit_logs.subject_type is 'Name of the table of the changed row.';
comment on column audit_logs.project_id is 'The project that the changed row belongs to, if any.';
comment on column audit_logs.changes is 'Array of {field, before, after}, changed fields only.';
comment on column audit_logs.hash is 'app.audit_row_hash of the row as it was written.';

-- SHA-256 of a row's other columns as a JSON array in UTF-8. JSON keeps null apart from a string and one
-- column from the next. The time is in seconds since 1970 because JSON would use the session's time zone;
-- no other column depends on a setting. The columns are listed by name, so that a column added later does
-- not change the hash of older rows. src/db/audit_snapshot.rs computes the same.
create function app.audit_row_hash(entry audit_logs) returns bytea
    language sql stable parallel safe
    return sha256(convert_to(jsonb_build_array(
        entry.tenant_id, entry.id, extract(epoch from entry.occurred_at)::text, entry.action,
        entry.actor_id, entry.subject_type, entry.subject_id, entry.project_id, entry.changes,
        entry.operation_name, entry.request_id)::text, 'UTF8'));

-- The ids of the entries that no seal contains yet. app.write_audit_entry() inserts both rows, so the sealer
-- also finds the entries of transactions that commit late. An entry that is neither here nor in a seal was
-- written by hand.
create table audit_unsealed (
    tenant_id uuid not null default app.tenant_id(),
    id        uuid not null,
    constraint audit_unsealed_pkey primary key (tenant_id, id)
);
comment on column audit_unsealed.id is 'The id of the row of audit_logs.';

select app.protect('audit_unsealed', audited => false);
revoke insert, update, delete on audit_unsealed from palisade_app, palisade_admin;
select app.readable_by('audit_unsealed', 'OWNER', 'ADMIN');

-- Writes the entry of one changed row, in the transaction of the change. `about` is what app.protect says
-- about the table, `parent_project` the project of the row's parent if the row itself has none.
create function app.write_audit_entry(
    about jsonb, operation text, before jsonb, after jsonb, parent_project uuid default null)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    row_       jsonb := coalesce(after, before);
    entry      public.audit_logs;
    is_changed boolean;
begin
    -- An update of unrecorded columns alone leaves an entry without changes.
    select count(*) > 0,
           coalesce(jsonb_agg(
               jsonb_build_object('field', key, 'before', before -> key, 'after', after -> key)
               order by key) filter (where not about -> 'unrecorded' ? key), '[]')
      into is_changed, entry.changes
      from jsonb_object_keys(row_) as key
     where key not in ('id', 'tenant_id', 'version', 'created_at', 'updated_at')
       and coalesce(before -> key, 'null') is distinct from coalesce(after -> key, 'null');
    if operation = 'UPDATE' and not is_changed then
        return;
    end if;

    entry.tenant_id := row_ ->> (about ->> 'tenant');
    entry.id := app.uuid_v7();
    entry.occurred_at := now();
    entry.action := (about ->> 'subject') || case operation
        when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end;
    entry.actor_id := app.user_id();
    entry.subject_type := about ->> 'table';
    entry.subject_id := row_ ->> 'id';
    entry.project_id := coalesce((row_ ->> (about ->> 'project'))::uuid, parent_project);
    entry.operation_name := app.operation_name();
    entry.request_id := app.request_id();
    insert into public.audit_logs
        (tenant_id, id, occurred_at, action, actor_id, subject_type, subject_id, project_id,
         changes, operation_name, request_id, hash)
    values
        (entry.tenant_id, entry.id, entry.occurred_at, entry.action, entry.actor_id, entry.subject_type,
         entry.subject_id, entry.project_id, entry.changes, entry.operation_name, entry.request_id,
         app.audit_row_hash(entry));
    insert into public.audit_unsealed (tenant_id, id) values (entry.tenant_id, entry.id);
end $$;

-- Attached to a table by app.protect, with `about` as its argument.
--
-- It runs as its owner because the service's role may not insert into audit_logs. The tenant's policy binds
-- the owner, too (FORCE), so a change without tenant context cannot be recorded and therefore fails.
create function app.record_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform app.write_audit_entry(tg_argv[0]::jsonb, tg_op,
                                  case when tg_op <> 'INSERT' then to_jsonb(old) end,
                                  case when tg_op <> 'DELETE' then to_jsonb(new) end);
    return null;
end $$;

-- Creates a variant of app.record_change() for tables whose rows belong to a project through a parent row, such
-- as app.record_change_through_invoices(), and returns its name. A function that took the name of the parent's
-- table as an argument would plan its query for every row, which doubles the time of an insert.
create function app.create_record_change_through(parent regclass) returns regproc
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    name name := 'record_change_through_' || (select relname from pg_class where oid = parent);
begin
    execute format($definition$
        create or replace function app.%1$I() returns trigger
            language plpgsql security definer set search_path = pg_catalog, pg_temp
        as $function$
        declare
            before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
            after  jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
            row_   jsonb := coalesce(after, before);
        begin
            perform app.write_audit_entry(tg_argv[0]::jsonb, tg_op, before, after, (
                select parent.project_id
                  from %2$s parent
                 where parent.tenant_id = (row_ ->> 'tenant_id')::uuid
                   and parent.id = (row_ ->> tg_argv[1])::uuid));
            return null;
        end $function$
        $definition$, name, parent);
    execute format('revoke execute on function app.%I() from public', name);
    return format('app.%I', name);
end $$;

select app.revoke_functions_from_public();
