-- Makes manipulation of the audit log visible. Each entry contains a hash of its other columns. Batches of entries
-- are sealed into one chain per tenant. `palisade audit verify` checks both; docs/operations.md describes what it
-- finds and what it cannot find.
--
-- The chain links batches and not entries: if each entry referred to its predecessor, all writers of a
-- tenant would wait for each other (docs/architecture.md, Decisions).

-- The chain: each seal holds the hash of its predecessor.
create table audit_seals (
    tenant_id     uuid        not null default app.tenant_id(),
    id            uuid        not null,
    -- From 1, without gaps.
    number        integer     not null,
    sealed_at     timestamptz not null,
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
comment on column audit_seals.latest is
    'The latest occurred_at of an entry in this seal or an earlier one, but not later than sealed_at.';
comment on column audit_seals.rows is 'The number of entries in this seal.';

select app.protect('audit_seals', audited => false);
revoke insert, update, delete on audit_seals from palisade_app, palisade_admin;
select app.readable_by('audit_seals', 'OWNER', 'ADMIN');

-- The entries that a seal contains. They are listed, and not described as "all up to a time or id": a
-- transaction may commit after a seal was created although it wrote its entries earlier.
create table audit_seal_entries (
    tenant_id   uuid    not null default app.tenant_id(),
    id          uuid    not null,
    seal_number integer not null,
    hash        bytea   not null,
    constraint audit_seal_entries_pkey primary key (tenant_id, id)
);
comment on column audit_seal_entries.id is 'The id of the row of audit_logs.';
comment on column audit_seal_entries.hash is 'The hash of the row when it was sealed.';

select app.protect('audit_seal_entries', audited => false);
revoke insert, update, delete on audit_seal_entries from palisade_app, palisade_admin;
select app.readable_by('audit_seal_entries', 'OWNER', 'ADMIN');
alter table audit_seal_entries
    add constraint audit_seal_entries_seal_fkey foreign key (tenant_id, seal_number)
        references audit_seals (tenant_id, number);
-- Serves the check of a seal's hash.
create index audit_seal_entries_seal_idx on audit_seal_entries (tenant_id, seal_number, id);

-- SHA-256 of two parts: the seal's other columns, encoded as in app.audit_row_hash, and the entries. Each entry
-- is the 16 bytes of its id and the 32 bytes of its hash, in the order of the ids.
create function app.audit_seal_hash(seal audit_seals, entries bytea) returns bytea
    language sql stable parallel safe
    return sha256(convert_to(jsonb_build_array(
        seal.tenant_id, seal.id, seal.number, extract(epoch from seal.sealed_at)::text,
        extract(epoch from seal.latest)::text, seal.rows, encode(seal.previous_hash, 'hex'))::text, 'UTF8')
        || entries);

-- Seals up to 5,000 entries of the context's tenant. Returns their number, and the number and the hash of the seal;
-- 0 and nulls if there was nothing to seal; only nulls if another transaction is sealing the same tenant.
--
-- It runs as its owner, the only role that may write seals. It has no parameters, so a caller cannot choose what
-- it seals. It skips entries that `palisade audit verify` must report: an entry that does not match its own hash,
-- and an entry that is a day or more older than the newest sealed entry, because no transaction lasts that long.
-- If the clock of the database was ahead when that entry was sealed, the present time counts instead.
--
-- The planner's statistics of audit_unsealed are usually wrong, because the table is nearly always empty. With
-- sorting disabled, the planner chooses to read 5,000 rows in key order and not to read and sort all rows.
-- `offset 0` prevents a plan that scans other tables completely.
create function app.seal_audit_log(out sealed_rows integer, out seal_number integer, out seal_hash bytea)
    language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_sort = off
as $$
declare
    tenant   uuid := app.tenant_id();
    previous public.audit_seals;
    seal     public.audit_seals;
    ids      uuid[];
    hashes   bytea[];
    entries  bytea;
begin
    if tenant is null then
        sealed_rows := 0;
        return;
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('palisade audit seals ' || tenant, 0)) then
        return;
    end if;
    select s.* into previous
      from public.audit_seals s
     where s.tenant_id = tenant
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
           where u.tenant_id = tenant
             and (found.entry).hash = app.audit_row_hash(found.entry)
             and (previous.latest is null
                  or (found.entry).occurred_at > least(previous.latest, now()) - interval '1 day')
             and not exists (
                 select from public.audit_seal_entries e
                  where e.tenant_id = u.tenant_id and e.id = u.id
                 offset 0)
           order by u.id
           limit 5000
      ) sealable;
    sealed_rows := seal.rows;
    if seal.rows = 0 then
        return;
    end if;

    seal.tenant_id := tenant;
    seal.id := app.uuid_v7();
    seal.number := coalesce(previous.number, 0) + 1;
    seal.sealed_at := now();
    -- Not later than now: an entry with a timestamp in the future must not make later entries look old.
    seal.latest := least(greatest(previous.latest, seal.latest), now());
    seal.previous_hash := previous.hash;
    seal.hash := app.audit_seal_hash(seal, entries);
    insert into public.audit_seals (tenant_id, id, number, sealed_at, latest, rows, previous_hash, hash)
    values (seal.tenant_id, seal.id, seal.number, seal.sealed_at, seal.latest, seal.rows,
            seal.previous_hash, seal.hash);
    insert into public.audit_seal_entries (tenant_id, id, seal_number, hash)
    select tenant, sealed.id, seal.number, sealed.hash
      from unnest(ids, hashes) as sealed (id, hash);
    delete from public.audit_unsealed u
     -- BETWEEN limits the scan to a range of the index, which contains few other rows.
     where u.tenant_id = tenant and u.id between ids[1] and ids[seal.rows] and u.id = any (ids);
    seal_number := seal.number;
    seal_hash := seal.hash;
end $$;

select app.revoke_functions_from_public();
grant execute on function app.seal_audit_log() to palisade_app;
comment on function app.seal_audit_log() is
    'doctor: allow D20, forced row level security limits the owner to the tenant of the context';
