-- The changes of a tenant's rows. Only the triggers that app.record_changes() attaches write to this table.
--
-- The rows never change, so they have neither version nor updated_at. There are no foreign keys: an entry
-- outlives the row, the project and the user that it names.
create table audit_logs (
    tenant_id      uuid        not null default app.tenant_id(),
    id             uuid        not null,
    occurred_at    timestamptz not null,
    action         text collate "C" not null,
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
-- Serves Query.auditLogs of one action, and of all actions of one subject.
create index audit_logs_action_idx on audit_logs (tenant_id, action, occurred_at desc, id desc);
-- Serves Project.auditLogs.
create index audit_logs_project_idx on audit_logs (tenant_id, project_id, occurred_at desc, id desc)
    where project_id is not null;
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

-- SHA-256 of a row's other columns as a JSON array in UTF-8. JSON distinguishes null from a string and separates
-- the columns. The time is in seconds since 1970 because JSON would use the session's time zone;
-- no other column depends on a setting. The columns are listed by name, so that a column added later does
-- not change the hash of older rows. src/db/audit_snapshot.rs computes the same hash.
create function app.audit_row_hash(entry audit_logs) returns bytea
    language sql stable parallel safe
    return sha256(convert_to(jsonb_build_array(
        entry.tenant_id, entry.id, extract(epoch from entry.occurred_at)::text, entry.action,
        entry.actor_id, entry.subject_type, entry.subject_id, entry.project_id, entry.changes,
        entry.operation_name, entry.request_id)::text, 'UTF8'));

-- The ids of the entries that no seal contains yet. app.write_audit_entry() inserts each entry and its id
-- together, so the sealer also finds the entries of transactions that commit late. An entry that is neither
-- here nor in a seal was written by hand.
create table audit_unsealed (
    tenant_id uuid not null default app.tenant_id(),
    id        uuid not null,
    constraint audit_unsealed_pkey primary key (tenant_id, id)
);
comment on column audit_unsealed.id is 'The id of the row of audit_logs.';

select app.protect('audit_unsealed', audited => false);
revoke insert, update, delete on audit_unsealed from palisade_app, palisade_admin;
select app.readable_by('audit_unsealed', 'OWNER', 'ADMIN');

-- Writes the entry of one changed row, in the transaction of the change. Returns the id of the entry, or null if
-- nothing changed. `about` and `fields` describe the table; app.record_changes computes them. `parent_project` is
-- the project of the row's parent, if the row itself has no project.
--
-- This function runs for every change, so it must be fast. It compares the fields in a loop, because for so few
-- fields a query takes twice as long. It sets no search_path: the trigger functions below set it for this function,
-- too. They assign the result to a variable, because PostgreSQL evaluates an assignment without starting a query. It
-- verifies the context once and reads two fields of it, as app.user_id() and app.request_id() would.
create function app.write_audit_entry(
    about jsonb, fields text[], operation text, before jsonb, after jsonb, parent_project uuid default null)
    returns uuid language plpgsql
as $$
declare
    row_       constant jsonb := coalesce(after, before);
    context    constant text  := app.verified();
    field      text;
    is_changed boolean := operation <> 'UPDATE';
    changes    jsonb   := '[]';
    entry      public.audit_logs;
begin
    -- Without this error, the changes of a column that is not in `fields` would be missing in the audit log.
    if row_ - fields - '{id,tenant_id,version,created_at,updated_at}'::text[] <> '{}' then
        raise 'app.protect(%): call app.record_changes after a column was added', about ->> 'table';
    end if;
    foreach field in array fields loop
        if coalesce(before -> field, 'null') <> coalesce(after -> field, 'null') then
            is_changed := true;
            -- An update of only unrecorded columns writes an entry without changes.
            if not about -> 'unrecorded' ? field then
                changes := changes || jsonb_build_object(
                    'field', field, 'before', before -> field, 'after', after -> field);
            end if;
        end if;
    end loop;
    if not is_changed then
        return null;
    end if;
    if substr(context, 83, 1) = 'r' then
        raise insufficient_privilege using message = 'the context of the transaction is only for reading';
    end if;

    entry.tenant_id := row_ ->> (about ->> 'tenant');
    entry.id := app.uuid_v7();
    entry.occurred_at := now();
    entry.action := (about ->> 'subject') || case operation
        when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end;
    entry.actor_id := nullif(substr(context, 50, 32), repeat('0', 32));
    entry.subject_type := about ->> 'table';
    entry.subject_id := row_ ->> 'id';
    entry.project_id := coalesce((row_ ->> (about ->> 'project'))::uuid, parent_project);
    entry.changes := changes;
    entry.operation_name := app.operation_name();
    entry.request_id := nullif(substr(context, 84, 32), repeat('0', 32));
    insert into public.audit_logs
        (tenant_id, id, occurred_at, action, actor_id, subject_type, subject_id, project_id,
         changes, operation_name, request_id, hash)
    values
        (entry.tenant_id, entry.id, entry.occurred_at, entry.action, entry.actor_id, entry.subject_type,
         entry.subject_id, entry.project_id, entry.changes, entry.operation_name, entry.request_id,
         app.audit_row_hash(entry));
    insert into public.audit_unsealed (tenant_id, id) values (entry.tenant_id, entry.id);
    return entry.id;
end $$;

-- The trigger function that app.record_changes attaches to a table, with `about` and `fields` as its arguments.
--
-- It runs as its owner because the service's role may not insert into audit_logs. The tenant's policy applies to
-- the owner, too (FORCE), so a change without tenant context cannot be recorded and therefore fails.
create function app.record_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    entry uuid;
begin
    entry := app.write_audit_entry(tg_argv[0]::jsonb, tg_argv[1]::text[], tg_op,
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
            entry  uuid;
        begin
            entry := app.write_audit_entry(tg_argv[0]::jsonb, tg_argv[1]::text[], tg_op, before, after, (
                select parent.project_id
                  from %2$s parent
                 where parent.tenant_id = (row_ ->> 'tenant_id')::uuid
                   and parent.id = (row_ ->> tg_argv[2])::uuid));
            return null;
        end $function$
        $definition$, name, parent);
    execute format('revoke execute on function app.%I() from public', name);
    return format('app.%I', name);
end $$;

select app.revoke_functions_from_public();
