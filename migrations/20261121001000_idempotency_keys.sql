-- The keys with which clients can repeat a request safely, each with the first response. A key is written in the
-- transaction of the request's changes: the database has both or neither.
create table idempotency_keys (
    tenant_id  uuid        not null default app.tenant_id(),
    -- Computed from the user, the key and, if the key belongs to one field, that field.
    id         uuid        not null,
    user_id    uuid        not null default app.user_id(),
    request    bytea       not null,
    answer     bytea,
    created_at timestamptz not null default now(),
    constraint idempotency_keys_pkey primary key (tenant_id, id),
    constraint idempotency_keys_request_length check (length(request) = 32)
);
comment on column idempotency_keys.request is
    'SHA-256 of the request: the same key with another request is rejected.';
comment on column idempotency_keys.answer is
    'The response; null only within the transaction that computes it.';

-- Not audited: the audit entries of the request's changes are enough.
select app.protect('idempotency_keys', audited => false);
-- A response is for the user who received it: another user of the tenant may see less.
select app.private_to('idempotency_keys', 'user_id');
alter table idempotency_keys
    add constraint idempotency_keys_user_fkey foreign key (tenant_id, user_id)
        references users (tenant_id, id) on delete cascade;

-- Serves the deletion of expired keys.
create index idempotency_keys_created_at_idx on idempotency_keys (tenant_id, user_id, created_at);
