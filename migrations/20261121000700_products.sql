-- What a tenant sells. Money is an integer number of minor units, with a currency. It is not numeric, because the
-- comparison of numeric is not leakproof, so with RLS it could not use an index.
create table products (
    tenant_id   uuid        not null default app.tenant_id(),
    id          uuid        not null,
    asin        text collate "C" not null,
    title       text,
    price_minor bigint,
    currency    text,
    status      text        not null default 'ACTIVE',
    version     integer     not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    title_folded text collate "C" generated always as (app.fold(title)) stored,
    constraint products_pkey primary key (tenant_id, id),
    constraint products_asin_key unique (tenant_id, asin),
    constraint products_asin_form check (asin ~ '^[A-Z0-9]{10}$'),
    constraint products_title_length check (length(title) between 1 and 300),
    constraint products_price_positive check (price_minor >= 0),
    constraint products_price_has_currency check ((price_minor is null) = (currency is null)),
    constraint products_status_known check (status in ('ACTIVE', 'ARCHIVED'))
);
comment on column products.asin is 'The Amazon Standard Identification Number.';

select app.protect('products', subject => 'product');
select app.writable_by('products', 'OWNER', 'ADMIN', 'MEMBER', 'BILLING');
alter table products
    add constraint products_tenant_fkey foreign key (tenant_id) references tenants (id);
alter table products
    add constraint products_currency_fkey foreign key (currency) references currencies (code);
comment on constraint products_currency_fkey on products is 'doctor: allow D15, currencies are never deleted';

-- Serve the orders of Query.products. products_asin_key serves ASIN.
create index products_created_at_idx on products (tenant_id, created_at desc, id desc);
create index products_updated_at_idx on products (tenant_id, updated_at desc, id desc);
create index products_title_idx on products (tenant_id, title, id);
-- Serves the filters by the start of the title and those that ignore case.
create index products_title_folded_idx on products (tenant_id, title_folded);
