-- The keys by which clients repeat a request safely, with the first answer to each. Written in the
-- transaction of the changes themselves: either both are there or neither.
create table idempotency_keys (
    tenant_id  uuid        not null default app.tenant_id(),
    -- Made from the user, the field if it is the key of one field, and the key.
    id         uuid        not null,
    user_id    uuid        not null default app.user_id(),
    -- SHA-256 of the request: the same key with another one is refused.
    request    bytea       not null,
    -- Null only in a transaction that has not yet answered.
    answer     bytea,
    created_at timestamptz not null default now(),
    constraint idempotency_keys_pkey primary key (tenant_id, id),
    constraint idempotency_keys_request_length check (length(request) = 32)
);

-- Not audited: it records requests, and what those change is recorded itself.
select app.protect('idempotency_keys', audited => false);
-- An answer is for whoever got it: another user of the tenant may see less.
create policy own on idempotency_keys as restrictive for all
    using (user_id = (select app.user_id())) with check (user_id = (select app.user_id()));
alter table idempotency_keys
    add constraint idempotency_keys_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade;

-- Serves the removal of keys that have had their day.
create index idempotency_keys_created_at_idx on idempotency_keys (tenant_id, user_id, created_at);
