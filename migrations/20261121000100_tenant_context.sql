-- The context of a transaction, and the helpers that protect tables.
--
-- Roles belong to the whole cluster, so `palisade migrate` creates them before the first migration.
-- palisade_owner owns everything in these files. README.md has the rules for migrations.

create schema app;

-- The keys that sign contexts. `palisade migrate` and `palisade context rotate` write them. Two keys can be valid at a
-- time, so that services change their key one after another. The pads are those of HMAC (RFC 2104), with the key in
-- them. Only the owner of app.verified() reads this table.
create table app.context_keys (
    id          text        not null,
    inner_pad   bytea       not null,
    outer_pad   bytea       not null,
    -- Null: until another key replaces this one.
    valid_until timestamptz,
    -- The age at which a context of this key expires, in milliseconds.
    max_age     integer     not null default 30000,
    constraint context_keys_pkey primary key (id),
    constraint context_keys_id_digits check (id ~ '^[0-9a-f]{2}$'),
    constraint context_keys_pads_length check (length(inner_pad) = 64 and length(outer_pad) = 64),
    constraint context_keys_max_age_positive check (max_age > 0)
);

-- `palisade migrate` analyzes the table, so that the planner knows that a scan of its few rows is the fastest. The
-- statistics do not copy the keys.
alter table app.context_keys
    alter column inner_pad set statistics 0,
    alter column outer_pad set statistics 0;

-- The keys that another one has replaced, each by the hash of its inner pad. `palisade migrate` does not install them
-- again.
create table app.replaced_context_keys (
    hash        bytea       not null,
    valid_until timestamptz not null,
    constraint replaced_context_keys_pkey primary key (hash)
);

-- Creates app.verified(), which returns the context of the transaction.
--
-- The service sets `app.context` once per transaction, together with BEGIN. A setting that was never set reads as null.
-- After SET LOCAL, PostgreSQL resets it to ''. Both mean: no context, so no rows.
--
-- If contexts are signed, app.verified() raises 28000 for a context that no valid key has signed, or that was not signed
-- just before the transaction began. So SQL that an attacker injects cannot choose another tenant. The message of HMAC
-- is hashed with the functions of PostgreSQL: pgcrypto would not be faster. No cast reads the context before its MAC
-- was verified, so no content of the setting causes another error.
--
-- Citus evaluates policies for each row and on other nodes, where a verification would be slow or fail. There,
-- contexts are not signed (`palisade migrate --unsigned-context`).
create function app.sign_contexts(is_signed boolean) returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if is_signed then
        create or replace function app.verified() returns text
            language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp
        as $function$
        declare
            context   constant text := current_setting('app.context', true);
            inner_pad bytea;
            outer_pad bytea;
            max_age   integer;
            age       double precision;
        begin
            if context <> '' then
                select k.inner_pad, k.outer_pad, k.max_age into inner_pad, outer_pad, max_age
                  from app.context_keys k
                 where k.id = substr(context, 3, 2) and (k.valid_until is null or k.valid_until > now());
                -- The comparison with the whole rest also fixes the length. Each function call here costs time in every
                -- transaction.
                if substr(context, 116) = encode(sha256(outer_pad
                       || sha256(inner_pad || convert_to(left(context, 115), 'UTF8'))), 'hex') then
                    -- now() is the start of the transaction.
                    age := date_part('epoch', now()) * 1000 - substr(context, 5, 13)::double precision;
                    if age between -5000 and max_age then
                        return context;
                    end if;
                    raise invalid_authorization_specification using message =
                        format('the context was signed %s ms before the transaction began', round(age));
                end if;
                raise invalid_authorization_specification using message =
                    'the context has no valid signature';
            end if;
            return null;
        end $function$;
    else
        create or replace function app.verified() returns text
            language sql stable parallel safe
            return nullif(current_setting('app.context', true), '');
    end if;
end $$;
select app.sign_contexts(true);
comment on function app.verified() is
    'doctor: allow D20, the function has no argument and returns the context that the caller has set';

-- The fields of a context, by position: 1 the version of the format, 3 the key, 5 the time in milliseconds since 1970,
-- 18 the tenant, 50 the user, 82 the role, 83 the purpose, 84 the request, 116 the MAC of all others. Zeros mean
-- that there is none. src/db/context.rs writes the same format.
create function app.tenant_id() returns uuid
    language sql stable parallel safe
    return substr(app.verified(), 18, 32)::uuid;

create function app.user_id() returns uuid
    language sql stable parallel safe
    return nullif(substr(app.verified(), 50, 32), '00000000000000000000000000000000')::uuid;

create function app.role() returns text
    language sql stable parallel safe
    return case substr(app.verified(), 82, 1)
        when 'O' then 'OWNER' when 'A' then 'ADMIN' when 'M' then 'MEMBER' when 'B' then 'BILLING' when 'V' then 'VIEWER'
        end;

create function app.request_id() returns uuid
    language sql stable parallel safe
    return nullif(substr(app.verified(), 84, 32), '00000000000000000000000000000000')::uuid;

-- Whether the database accepts a context. The running service tries contexts that app.verified() must reject. The
-- handler keeps their errors out of the log of PostgreSQL.
create function app.accepts_context(context text) returns boolean
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('app.context', context, true);
    return app.tenant_id() is not null;
exception
    when invalid_authorization_specification then
        return false;
end $$;

-- This name is for the audit log only and decides nothing, so it is not part of the context.
create function app.operation_name() returns text
    language sql stable parallel safe
    return nullif(current_setting('app.operation_name', true), '');

-- The migrations that were applied to this database. `serve` compares them with those of its binary.
-- The function runs as its owner because no role of the service may read _sqlx_migrations.
create function app.schema_versions() returns bigint[]
    language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select array_agg(version order by version) from public._sqlx_migrations $$;

-- The migration that a binary must contain to serve this schema. A migration that breaks older binaries
-- replaces this function with one that returns its own version (README.md, "Releases").
create function app.oldest_binary() returns bigint
    language sql stable parallel safe
    return 20261121000100;

-- Cancels the running statement of the operation with this mark, if it belongs to the login of the caller. Returns
-- whether it did. Only a role that sees the statements of all sessions finds it: the service's role does not see them,
-- because a session's BEGIN contains its context. `palisade migrate` as a superuser makes palisade_cancel the owner.
create function app.cancel(mark text) returns boolean
    language sql volatile set search_path = pg_catalog, pg_temp
as $$
    select coalesce(bool_or(pg_cancel_backend(pid)), false)
      from pg_stat_activity
     where datname = current_database() and usename = session_user and state = 'active'
       and application_name = mark and mark like 'palisade %-% %'
$$;
comment on function app.cancel(text) is
    'doctor: allow D20, it cancels only statements of the login that calls it, and returns nothing about them';

-- A UUIDv7 (RFC 9562, 5.7) for rows that the database itself writes. The 12 bits after the version hold
-- the fraction of the millisecond (6.2, method 3) in steps of about 0.25 microseconds; the clock has steps of
-- one microsecond. So the audit entries of one transaction, which share one timestamp, keep their order.
--
-- The function has no sub-select, so that PostgreSQL can inline it. A function that PostgreSQL cannot inline is
-- planned once per transaction.
create function app.uuid_v7() returns uuid
    language sql volatile parallel safe
    return (
        -- 4,096 steps in a millisecond: 12 digits for the milliseconds, the version, 3 digits for the fraction.
        overlay(lpad(to_hex(floor(extract(epoch from clock_timestamp()) * 4096000)::bigint), 15, '0')
                placing '7' from 13 for 0)
        -- The variant and the random bits.
        || substr(gen_random_uuid()::text, 20))::uuid;

-- The string without differences of case. Filters that ignore case compare this string. The generated columns
-- `<column>_folded` store it. An index on the expression would not help: under row level security PostgreSQL uses no
-- index on an expression that is not leakproof.
--
-- The collation is the root locale of ICU, which maps every letter of Unicode. It is named, so that the result does
-- not depend on the locale of the database. Sigma is the only letter whose lower case depends on its neighbors: at
-- the end of a word it is ς. Here it always becomes σ. So the folded start of a string is the start of the folded
-- string. A change of this function would not change the values that are already stored.
create function app.fold(value text) returns text
    language sql immutable strict parallel safe
    return replace(lower(value collate "und-x-icu"), 'ς', 'σ');

-- Returns its argument. In a condition, this function makes PostgreSQL plan each execution with the current value. A
-- generic plan contains a call of this function, with its high cost. A custom plan contains only the result, without
-- that cost, so PostgreSQL always prefers the custom plan. A search for the start of a string needs this: only the
-- value shows whether few rows or nearly all rows match, and only a constant becomes a range of the index.
create function app.plan_with(value text) returns text
    language plpgsql immutable strict parallel safe cost 1000000
as $$
begin
    return value;
end $$;

-- Whether Citus distributes the tables. Only the helpers below call this function, so that no other file needs
-- separate code for Citus.
create function app.on_citus() returns boolean
    language sql stable
    return exists (select from pg_catalog.pg_extension where extname = 'citus');

-- Increments version, sets updated_at and keeps created_at at every update. Clients can set none of them.
create function app.touch() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    new.version := old.version + 1;
    new.created_at := old.created_at;
    new.updated_at := now();
    return new;
end $$;

-- Rejects the change of a row's id or tenant. Audit entries name a row by both, and do not record a change of them.
create function app.reject_key_change() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise insufficient_privilege using message =
        format('the id and the tenant of a row of %s cannot change', tg_table_name);
end $$;

-- Attaches app.touch() to a table that has a version. Tables that Citus replicates to every node get no trigger,
-- because each node would store the time of its own clock.
create function app.count_versions(target regclass)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if app.on_citus() then
        if exists (select from pg_dist_partition where logicalrelid = target and partmethod = 'n') then
            return;
        end if;
    end if;
    if exists (select from pg_attribute
                where attrelid = target and attname = 'version' and not attisdropped) then
        execute format('create trigger touch before update on %s
                            for each row execute function app.touch()', target);
    end if;
end $$;

-- The SQL of a context function in a policy. A sub-select is evaluated once per statement and not once per
-- row, which is 4.5 to 9 times faster where rows are filtered. Citus rejects sub-selects in policies.
create function app.policy_term(context text) returns text
    language sql stable
    return case when app.on_citus() then format('app.%s()', context)
                else format('(select app.%s())', context) end;

-- The SQL of the condition that the caller has one of these roles in the tenant.
create function app.has_role(variadic roles text[]) returns text
    language sql stable
    return format('%s = any (%L::text[])', app.policy_term('role'), roles);

-- The SQL of the condition that a row belongs to the calling user.
create function app.is_own(user_column name) returns text
    language sql stable
    return format('%I = %s', user_column, app.policy_term('user_id'));

-- Attaches the trigger that writes the audit entries of a table. app.protect calls this function, and its comment
-- describes the arguments. After a migration adds a column, call this function again with the same arguments: the
-- trigger has a list of the table's columns and rejects each change of a row that has other columns. A call that
-- leaves out a column of `unrecorded` fails.
create function app.record_changes(
    target          regclass,
    subject         text,
    project         name     default null,
    project_through regclass default null,
    through_column  name     default null,
    unrecorded      name[]   default '{}',
    tenant_column   name     default 'tenant_id'
)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    about   jsonb;
    fields  text[];
    omitted name;
begin
    -- A column that was not recorded until now may hold what the readers of the audit log must not see. The first
    -- argument of the trigger, which ends with a zero byte, has the columns that it does not record.
    select a.attname into omitted
      from pg_trigger t
      join pg_attribute a on a.attrelid = t.tgrelid and not a.attisdropped and a.attgenerated = ''
     where t.tgrelid = target and t.tgname = 'record_change'
       and a.attname <> all (unrecorded)
       and convert_from(substring(t.tgargs from 1 for position('\x00'::bytea in t.tgargs) - 1), 'UTF8')::jsonb
           -> 'unrecorded' ? a.attname::text;
    if found then
        raise 'app.record_changes(%): the column % was not recorded until now: name it in unrecorded, or drop the '
              'trigger record_change first', target, omitted;
    end if;
    -- The values of a generated column are not recorded: it only repeats other columns.
    select coalesce(array_agg(attname::text order by attname::text collate "default"), '{}'),
           unrecorded || coalesce(array_agg(attname) filter (where attgenerated <> ''), '{}')
      into fields, unrecorded
      from pg_attribute
     where attrelid = target and attnum > 0 and not attisdropped
       and attname not in ('id', 'tenant_id', 'version', 'created_at', 'updated_at');
    -- The table's name is part of the argument because on Citus the trigger fires on a shard, which has
    -- a different name.
    about := jsonb_strip_nulls(jsonb_build_object(
        'subject', subject, 'table', (select relname from pg_class where oid = target),
        'tenant', tenant_column, 'project', project, 'unrecorded', to_jsonb(unrecorded)));
    execute format('create or replace trigger record_change after insert or update or delete on %s
                        for each row execute function ', target)
        || case when project_through is null then format('app.record_change(%L, %L)', about, fields)
           else format('%s(%L, %L, %L)', app.create_record_change_through(project_through), about, fields,
                       through_column)
           end;
    execute format('create or replace trigger keep_key before update on %1$s for each row
                        when (old.id is distinct from new.id or old.%2$I is distinct from new.%2$I)
                        execute function app.reject_key_change()', target, tenant_column);
end $$;

-- Makes a table tenant-owned. Call it once, after CREATE TABLE and before the foreign keys.
--
-- It creates one permissive policy for all commands, with USING = WITH CHECK. PostgreSQL combines permissive
-- policies with OR, so every further policy must be restrictive. The policy applies to every role, including
-- the owner; of the roles of the service, only palisade_admin bypasses it.
--
-- Each change of a row writes an entry to audit_logs, unless `audited` is false:
--   subject          names the row in actions: 'time_entry' makes `time_entry.created`.
--   project          the column with the project that the row belongs to, if it has one.
--   project_through  the table that has a project_id if the row itself has none,
--   through_column   and the column of the row that refers to it.
--   unrecorded       columns whose values never appear in the entry. Those of generated columns never appear either.
create function app.protect(
    target          regclass,
    subject         text     default null,
    project         name     default null,
    project_through regclass default null,
    through_column  name     default null,
    unrecorded      name[]   default '{}',
    tenant_column   name     default 'tenant_id',
    audited         boolean  default true
)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    is_own_tenant text := format('%I = %s', tenant_column, app.policy_term('tenant_id'));
    unknown       name;
begin
    if audited <> (subject is not null) then
        raise 'app.protect(%): give either the subject of its audit entries or audited => false', target;
    end if;
    if (project_through is null) <> (through_column is null) then
        raise 'app.protect(%): project_through and through_column belong together', target;
    end if;
    select given into unknown
      from unnest(array[project, through_column] || unrecorded) as given
     where given is not null
       and not exists (select from pg_attribute
                        where attrelid = target and attname = given and attnum > 0 and not attisdropped);
    if found then
        raise 'app.protect(%): there is no column %', target, unknown;
    end if;

    execute format('alter table %s enable row level security', target);
    execute format('alter table %s force row level security', target);
    execute format('create policy tenant on %s for all using (%s) with check (%s)',
                   target, is_own_tenant, is_own_tenant);
    -- Not TRUNCATE, REFERENCES or TRIGGER: row level security does not cover them.
    execute format('grant select, insert, update, delete on %s to palisade_app, palisade_admin', target);
    perform app.count_versions(target);
    if audited then
        perform app.record_changes(target, subject, project, project_through, through_column, unrecorded,
                                   tenant_column);
    end if;
    if app.on_citus() then
        perform create_distributed_table(target, tenant_column::text);
    end if;
end $$;

-- Narrows what app.protect permits: for this command, a row must also satisfy `condition`, given as SQL. An
-- update is checked on the old row and on the new one.
create function app.restrict(
    target regclass, policy name, command text, condition text, role_name name default 'public')
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('create policy %I on %s as restrictive for %s to %s', policy, target, command, role_name)
        || case when command <> 'insert' then format(' using (%s)', condition) else '' end
        || case when command in ('insert', 'all') then format(' with check (%s)', condition) else '' end;
end $$;

-- Lets only these roles of a tenant read a table through the service.
create function app.readable_by(target regclass, variadic roles text[])
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform app.restrict(target, 'read_by_role', 'select', app.has_role(variadic roles), 'palisade_app');
end $$;

-- Lets only these roles of a tenant write a table.
create function app.writable_by(target regclass, variadic roles text[])
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    command text;
begin
    foreach command in array '{insert,update,delete}'::text[] loop
        perform app.restrict(target, command || '_by_role', command, app.has_role(variadic roles));
    end loop;
end $$;

-- Lets users with a role in `writers` write their own rows. Users with a role in `update_all` or `delete_all`
-- may also update or delete the rows of other users. The policy also checks the new row of an update, so only
-- a user with a role in `update_all` can give a row to another user.
create function app.own_rows(
    target      regclass,
    user_column name,
    writers     text[],
    update_all  text[] default '{}',
    delete_all  text[] default '{}'
)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    own    text := format('%s and %s', app.is_own(user_column), app.has_role(variadic writers));
    either constant text := '(%s) or %s';
begin
    perform app.restrict(target, 'insert_own', 'insert', own);
    perform app.restrict(target, 'update_own', 'update', case when update_all = '{}' then own
                         else format(either, own, app.has_role(variadic update_all)) end);
    perform app.restrict(target, 'delete_own', 'delete', case when delete_all = '{}' then own
                         else format(either, own, app.has_role(variadic delete_all)) end);
end $$;

-- Hides each row from every user of the service except the user to whom the row belongs. A function that runs as its
-- owner sees all rows of the tenant.
create function app.private_to(target regclass, user_column name)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform app.restrict(target, 'own', 'all', app.is_own(user_column), 'palisade_app');
end $$;

-- On Citus, copies a table that no tenant owns to every node. Does nothing without Citus.
create function app.replicate(target regclass)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if app.on_citus() then
        perform create_reference_table(target);
    end if;
end $$;

-- Lets every tenant read a table, and no tenant write to it. Insert the rows before this call: afterwards row level
-- security applies to the owner, too.
create function app.share(target regclass)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform app.replicate(target);
    execute format('alter table %s enable row level security', target);
    execute format('alter table %s force row level security', target);
    execute format('create policy shared on %s for select using (true)', target);
    execute format('grant select on %s to palisade_app, palisade_admin', target);
end $$;

-- Makes the values of a column unique across all tenants. Citus can enforce a unique constraint only within a
-- shard and would reject this one, so on Citus the database does not enforce it.
create function app.unique_across_tenants(target regclass, column_name name)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if app.on_citus() then
        raise warning 'Citus cannot enforce that %.% is unique', target, column_name;
    else
        execute format('alter table %s add constraint %I unique (%I)', target,
                       (select relname from pg_class where oid = target) || '_' || column_name || '_key',
                       column_name);
    end if;
end $$;

-- PostgreSQL lets every role execute a new function. Call this in each migration that creates a function, before the
-- grants. The REVOKE is in a function because it needs this search_path: Citus omits the schema of an argument's type
-- if that schema is in the search_path, and then the workers do not find the type.
create function app.revoke_functions_from_public() returns void
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    revoke execute on all functions in schema app from public;
end $$;

select app.revoke_functions_from_public();
grant usage on schema app to palisade_app, palisade_auth, palisade_admin, palisade_context;
grant execute on function
    app.verified(), app.tenant_id(), app.user_id(), app.role(), app.request_id(), app.operation_name(), app.uuid_v7(),
    app.fold(text), app.plan_with(text)
    to palisade_app, palisade_auth, palisade_admin;
grant execute on function
    app.schema_versions(), app.oldest_binary(), app.cancel(text), app.accepts_context(text)
    to palisade_app;
comment on function app.schema_versions() is
    'doctor: allow D20, the function has no argument and returns the versions of the migrations';
