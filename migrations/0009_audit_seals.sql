-- Makes tampering with the audit log show: each row carries a hash of itself, and batches of rows are
-- sealed into a chain for each tenant. `palisade audit verify` checks both; docs/operations.md says
-- what it finds and what it cannot find.
--
-- The chain is of batches and not of rows, because rows that refer to their predecessor would make all
-- writers of a tenant take turns (docs/architecture.md, Decisions).

alter table audit_logs add column hash bytea;
comment on column audit_logs.hash is 'app.audit_row_hash of the row as it was written.';

-- SHA-256 of a row's other columns as a JSON array, in UTF-8: JSON tells null from text and one column
-- from the next. The time is in seconds since 1970, because JSON would spell it in the session's time
-- zone; no other column depends on a setting. The columns are named one by one: a column that is added
-- later must not change the hash of the rows before it.
create function app.audit_row_hash(entry audit_logs) returns bytea
    language sql stable parallel safe
    return sha256(convert_to(jsonb_build_array(
        entry.tenant_id, entry.id, extract(epoch from entry.occurred_at)::text, entry.action,
        entry.actor_id, entry.subject_type, entry.subject_id, entry.project_id, entry.changes,
        entry.operation_name, entry.request_id)::text, 'UTF8'));

-- Rows that no seal holds yet, written together with them. So the sealer finds them at a cost that
-- depends on nothing else, also if their transaction committed late, and a row that nobody announced
-- was written by hand.
create table audit_unsealed (
    tenant_id uuid not null default app.tenant_id(),
    id        uuid not null,
    constraint audit_unsealed_pkey primary key (tenant_id, id)
);
comment on column audit_unsealed.id is 'The id of the row of audit_logs.';

-- The chain: a seal holds the hash of the one before it.
create table audit_seals (
    tenant_id     uuid        not null default app.tenant_id(),
    id            uuid        not null,
    -- From 1, without gaps.
    number        integer     not null,
    sealed_at     timestamptz not null,
    -- The latest time of a row in this seal or an earlier one.
    latest        timestamptz not null,
    rows          integer     not null,
    previous_hash bytea,
    hash          bytea       not null,
    constraint audit_seals_pkey primary key (tenant_id, id),
    constraint audit_seals_number_key unique (tenant_id, number),
    constraint audit_seals_number_positive check (number >= 1),
    constraint audit_seals_rows_positive check (rows >= 1),
    constraint audit_seals_chained check ((previous_hash is null) = (number = 1))
);

-- Which rows a seal holds. Explicit, and not "those up to some time or id": a transaction may commit
-- after a seal was made although it wrote its rows before.
create table audit_seal_entries (
    tenant_id   uuid    not null default app.tenant_id(),
    id          uuid    not null,
    seal_number integer not null,
    hash        bytea   not null,
    constraint audit_seal_entries_pkey primary key (tenant_id, id)
);
comment on column audit_seal_entries.id is 'The id of the row of audit_logs.';
comment on column audit_seal_entries.hash is 'The hash of the row when it was sealed.';

-- SHA-256 of the seal's other columns, in the manner of app.audit_row_hash, followed by the 16 bytes of
-- the id and the 32 of the hash of each entry, in the order of ids.
create function app.audit_seal_hash(seal audit_seals, entries bytea) returns bytea
    language sql stable parallel safe
    return sha256(convert_to(jsonb_build_array(
        seal.tenant_id, seal.id, seal.number, extract(epoch from seal.sealed_at)::text,
        extract(epoch from seal.latest)::text, seal.rows, encode(seal.previous_hash, 'hex'))::text, 'UTF8')
        || entries);

select app.protect('audit_unsealed', audited => false);
select app.protect('audit_seals', audited => false);
select app.protect('audit_seal_entries', audited => false);
revoke insert, update, delete on audit_unsealed, audit_seals, audit_seal_entries from palisade_app, palisade_admin;
alter table audit_seal_entries
    add constraint audit_seal_entries_seal_fkey foreign key (tenant_id, seal_number)
        references audit_seals (tenant_id, number);
-- Serves the check of a seal's hash.
create index audit_seal_entries_seal_idx on audit_seal_entries (tenant_id, seal_number, id);

-- Who may read the log may read its seals. The rule is for people, who all come as palisade_app: the
-- sealing below runs as the owner, for a context that is nobody's.
alter policy read_by_role on audit_logs to palisade_app;
do $$
declare
    target  regclass;
    allowed text := format('%s = any (%L::text[])', app.policy_term('role'), '{OWNER,ADMIN}');
begin
    foreach target in array '{audit_unsealed,audit_seals,audit_seal_entries}'::regclass[] loop
        execute format('create policy read_by_role on %s as restrictive for select to palisade_app using (%s)',
                       target, allowed);
    end loop;
end $$;

-- The rows from before this migration, of every tenant. Forced row level security binds the owner too,
-- so it takes policies for as long as this migration; the table is locked until its end.
create policy seal on audit_logs for all using (true) with check (true);
create policy seal on audit_unsealed for insert with check (true);
update audit_logs set hash = app.audit_row_hash(audit_logs);
insert into audit_unsealed (tenant_id, id) select tenant_id, id from audit_logs;
drop policy seal on audit_logs;
drop policy seal on audit_unsealed;
alter table audit_logs alter hash set not null;

-- As before, with the row's hash and its announcement.
create or replace function app.record_change() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    after  jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    row_   jsonb := coalesce(after, before);
    project uuid;
    changes jsonb;
    entry   public.audit_logs;
begin
    select jsonb_agg(
               jsonb_build_object('field', key, 'before', before -> key, 'after', after -> key)
               order by key)
      into changes
      from jsonb_object_keys(row_) as key
     where key not in ('id', 'tenant_id', 'version', 'created_at', 'updated_at')
       and coalesce(before -> key, 'null') is distinct from coalesce(after -> key, 'null');
    if tg_op = 'UPDATE' and changes is null then
        return null;
    end if;

    project := case
        when tg_table_name = 'projects' then (row_ ->> 'id')::uuid
        else (row_ ->> 'project_id')::uuid
    end;
    if project is null and row_ ? 'invoice_id' then
        select i.project_id into project
          from public.invoices i
         where i.tenant_id = (row_ ->> 'tenant_id')::uuid
           and i.id = (row_ ->> 'invoice_id')::uuid;
    end if;

    entry.tenant_id := coalesce(row_ ->> 'tenant_id', row_ ->> 'id')::uuid;
    entry.id := app.uuid_v7();
    entry.occurred_at := now();
    entry.action := left(tg_table_name, -1) || case tg_op
        when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end;
    entry.actor_id := app.user_id();
    entry.subject_type := tg_table_name;
    entry.subject_id := (row_ ->> 'id')::uuid;
    entry.project_id := project;
    entry.changes := coalesce(changes, '[]');
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
    return null;
end $$;

-- Seals up to 5,000 rows of the context's tenant. Answers how many; null if another sealer is at it.
--
-- It runs as its owner, because nobody else may write seals. It takes no argument, so all that a caller
-- can do with it is what the service does anyway. It leaves out what `palisade audit verify` is to
-- report: a row that does not match its own hash, or that is a day older than what was sealed before,
-- which no transaction lasts.
--
-- What the planner believes of audit_unsealed is wrong most of the time, because it is nearly always empty.
-- Without sorting it reads 5,000 rows in the order of the key, and not all in order to sort them;
-- `offset 0` keeps it from reading other tables as a whole.
create function app.seal_audit_log() returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_sort = off
as $$
declare
    mine     uuid := app.tenant_id();
    previous public.audit_seals;
    seal     public.audit_seals;
    ids      uuid[];
    hashes   bytea[];
    entries  bytea;
begin
    if mine is null then
        return 0;
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('palisade audit seals ' || mine, 0)) then
        return null;
    end if;
    select s.* into previous
      from public.audit_seals s
     where s.tenant_id = mine
     order by s.number desc
     limit 1;

    select count(*), max((sealable.entry).occurred_at),
           array_agg((sealable.entry).id order by (sealable.entry).id),
           array_agg((sealable.entry).hash order by (sealable.entry).id),
           string_agg(uuid_send((sealable.entry).id) || (sealable.entry).hash, '' order by (sealable.entry).id)
      into seal.rows, seal.latest, ids, hashes, entries
      from (
          select found.entry
            from public.audit_unsealed u
            cross join lateral (
                select a as entry
                  from public.audit_logs a
                 where a.tenant_id = u.tenant_id and a.id = u.id
                offset 0
            ) found
           where u.tenant_id = mine
             and (found.entry).hash = app.audit_row_hash(found.entry)
             and (previous.latest is null
                  or (found.entry).occurred_at > previous.latest - interval '1 day')
             and not exists (
                 select from public.audit_seal_entries e
                  where e.tenant_id = u.tenant_id and e.id = u.id
                 offset 0)
           order by u.id
           limit 5000
      ) sealable;
    if seal.rows = 0 then
        return 0;
    end if;

    seal.tenant_id := mine;
    seal.id := app.uuid_v7();
    seal.number := coalesce(previous.number, 0) + 1;
    seal.sealed_at := now();
    -- Not the future: a row that claims to be from there must not make those after it look old.
    seal.latest := greatest(previous.latest, least(seal.latest, now()));
    seal.previous_hash := previous.hash;
    seal.hash := app.audit_seal_hash(seal, entries);
    insert into public.audit_seals (tenant_id, id, number, sealed_at, latest, rows, previous_hash, hash)
    values (seal.tenant_id, seal.id, seal.number, seal.sealed_at, seal.latest, seal.rows,
            seal.previous_hash, seal.hash);
    insert into public.audit_seal_entries (tenant_id, id, seal_number, hash)
    select mine, sealed.id, seal.number, sealed.hash
      from unnest(ids, hashes) as sealed (id, hash);
    delete from public.audit_unsealed u
     -- Between the first and the last of them there is little else.
     where u.tenant_id = mine and u.id between ids[1] and ids[seal.rows] and u.id = any (ids);
    return seal.rows;
end $$;

revoke execute on function
    app.audit_row_hash(audit_logs), app.audit_seal_hash(audit_seals, bytea), app.seal_audit_log()
    from public;
grant execute on function app.seal_audit_log() to palisade_app;
