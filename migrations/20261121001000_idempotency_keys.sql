-- The keys with which clients can repeat a request safely, each with the first response. A key is written in the
-- transaction of the request's changes: the database has both or neither.
create table idempotency_keys (
    tenant_id   uuid        not null default app.tenant_id(),
    -- Computed from the user, the key and, if the key belongs to one field, that field.
    id          uuid        not null,
    user_id     uuid        not null default app.user_id(),
    request     bytea       not null,
    is_executed boolean     not null default false,
    response    bytea,
    kept_bytes  integer     not null default 0,
    created_at  timestamptz not null default now(),
    constraint idempotency_keys_pkey primary key (tenant_id, id),
    constraint idempotency_keys_request_length check (length(request) = 32),
    constraint idempotency_keys_response_length check (length(response) <= 65536),
    constraint idempotency_keys_kept check ((kept_bytes > 0) = (response is not null))
);
comment on column idempotency_keys.request is
    'SHA-256 of the request and the role of its user: the same key with another request or role is rejected.';
comment on column idempotency_keys.is_executed is
    'False only within the transaction that executes the request.';
comment on column idempotency_keys.response is
    'The response; null if it is too long, or if it was removed because its user or tenant keeps too many bytes.';
comment on column idempotency_keys.kept_bytes is
    'The bytes that the response counts toward the limits of its user and tenant; 0 if it is not kept.';

-- Not audited: the audit entries of the request's changes are enough.
select app.protect('idempotency_keys', audited => false);
-- A response is for the user who received it: another user of the tenant may see less.
select app.private_to('idempotency_keys', 'user_id');
alter table idempotency_keys
    add constraint idempotency_keys_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade;

-- Serves the deletion of expired keys and the count of a user's keys.
create index idempotency_keys_created_at_idx on idempotency_keys (tenant_id, user_id, created_at);
-- Serves app.limit_kept_responses.
create index idempotency_keys_kept_idx on idempotency_keys (tenant_id, created_at) include (id, user_id, kept_bytes)
    where response is not null;

-- Removes the oldest responses of the tenant until each user keeps at most 16 MiB and the tenant at most 64 MiB. The
-- keys stay, so no request is executed twice. Also deletes keys that have expired, of all users, with their responses.
-- One call changes at most 1,000 rows of each kind. Returns the number of responses that it removed for a limit.
--
-- The function runs as its owner because a user may not see the keys of another.
create function app.limit_kept_responses() returns integer
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    removed integer;
begin
    -- Materialized, because a subquery that locks rows may run again for each row, and its limit would have no effect.
    with expired as materialized (
        select id from public.idempotency_keys
         where tenant_id = app.tenant_id() and response is not null and created_at < now() - interval '24 hours'
         order by created_at limit 1000
           for update skip locked)
    delete from public.idempotency_keys
     where tenant_id = app.tenant_id() and id in (select id from expired);
    with kept as materialized (
        select id, created_at,
               sum(kept_bytes) over (partition by user_id order by created_at desc, id) as of_user,
               sum(kept_bytes) over (order by created_at desc, id) as of_tenant
          from public.idempotency_keys
         where tenant_id = app.tenant_id() and response is not null),
    beyond as materialized (
        select id from kept
         where of_user > 16 * 1024 * 1024 or of_tenant > 64 * 1024 * 1024
         order by created_at limit 1000),
    locked as materialized (
        select id from public.idempotency_keys
         where tenant_id = app.tenant_id() and response is not null and id in (select id from beyond)
           for update skip locked)
    update public.idempotency_keys
       set response = null, kept_bytes = 0
     where tenant_id = app.tenant_id() and id in (select id from locked);
    get diagnostics removed = row_count;
    return removed;
end $$;

select app.revoke_functions_from_public();
grant execute on function app.limit_kept_responses() to palisade_app;
comment on function app.limit_kept_responses() is
    'doctor: allow D20, forced row level security limits the owner to the tenant of the context';
