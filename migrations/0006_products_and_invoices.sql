-- What a tenant sells and what it bills. Money is an integer of minor units beside its currency:
-- comparison of numeric is not leakproof, and an amount without a currency is no amount.

create table products (
    tenant_id   uuid        not null default app.tenant_id(),
    id          uuid        not null,
    asin        text        not null,
    title       text,
    price_minor bigint,
    currency    text,
    status      text        not null default 'ACTIVE',
    version     integer     not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    constraint products_pkey primary key (tenant_id, id),
    constraint products_asin_key unique (tenant_id, asin),
    constraint products_asin_form check (asin ~ '^[A-Z0-9]{10}$'),
    constraint products_title_length check (length(title) between 1 and 300),
    constraint products_price_positive check (price_minor >= 0),
    constraint products_price_has_currency check ((price_minor is null) = (currency is null)),
    constraint products_status_known check (status in ('ACTIVE', 'ARCHIVED'))
);

select app.protect('products');
select app.writable_by('products', 'OWNER', 'ADMIN', 'MEMBER', 'BILLING');
alter table products
    add constraint products_tenant_fkey foreign key (tenant_id) references tenants (id),
    add constraint products_currency_fkey foreign key (currency) references currencies (code);

-- Serves Query.products, newest first.
create index products_created_at_idx on products (tenant_id, created_at desc, id desc);

create table invoices (
    tenant_id       uuid        not null default app.tenant_id(),
    id              uuid        not null,
    organization_id uuid        not null,
    project_id      uuid,
    -- Given when the invoice is issued; a draft has none.
    number          text,
    status          text        not null default 'DRAFT',
    currency        text        not null,
    subtotal_minor  bigint      not null default 0,
    tax_minor       bigint      not null default 0,
    total_minor     bigint      not null default 0,
    issued_on       date,
    due_on          date,
    version         integer     not null default 1,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint invoices_pkey primary key (tenant_id, id),
    constraint invoices_number_key unique (tenant_id, number),
    constraint invoices_number_length check (length(number) between 1 and 40),
    constraint invoices_status_known check (status in ('DRAFT', 'OPEN', 'PAID', 'VOID', 'UNCOLLECTIBLE')),
    constraint invoices_issued_has_number check ((status = 'DRAFT') = (number is null)),
    constraint invoices_total_adds_up check (total_minor = subtotal_minor + tax_minor)
);

select app.protect('invoices');
select app.writable_by('invoices', 'OWNER', 'ADMIN', 'BILLING');
alter table invoices
    add constraint invoices_organization_fkey foreign key (tenant_id, organization_id)
        references organizations (tenant_id, id),
    add constraint invoices_project_fkey foreign key (tenant_id, project_id)
        references projects (tenant_id, id),
    add constraint invoices_currency_fkey foreign key (currency) references currencies (code);

-- Serve Query.invoices: newest first, and newest of one status.
create index invoices_created_at_idx on invoices (tenant_id, created_at desc, id desc);
create index invoices_status_idx on invoices (tenant_id, status, created_at desc, id desc);
-- Serve Organization.invoices and Project.invoices.
create index invoices_organization_idx on invoices (tenant_id, organization_id, created_at desc, id desc);
create index invoices_project_idx on invoices (tenant_id, project_id, created_at desc, id desc);

create table invoice_line_items (
    tenant_id        uuid          not null default app.tenant_id(),
    id               uuid          not null,
    invoice_id       uuid          not null,
    product_id       uuid,
    position         integer       not null,
    description      text          not null,
    -- Never filtered or sorted by, so numeric costs nothing here.
    quantity         numeric(14,4) not null,
    unit_price_minor bigint        not null,
    amount_minor     bigint        not null,
    tax_rate         numeric(6,4),
    currency         text          not null,
    version          integer       not null default 1,
    created_at       timestamptz   not null default now(),
    updated_at       timestamptz   not null default now(),
    constraint invoice_line_items_pkey primary key (tenant_id, id),
    constraint invoice_line_items_position_key unique (tenant_id, invoice_id, position),
    constraint invoice_line_items_position_positive check (position >= 1),
    constraint invoice_line_items_description_length check (length(description) between 1 and 500),
    constraint invoice_line_items_tax_rate_range check (tax_rate >= 0 and tax_rate <= 1)
);

-- Whether an invoice may still be edited. A function and not a sub-select, which Citus refuses in a policy.
create function app.invoice_is_draft(invoice uuid) returns boolean
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from public.invoices
         where tenant_id = app.tenant_id() and id = invoice and status = 'DRAFT');
end $$;
revoke execute on function app.invoice_is_draft(uuid) from public;
grant execute on function app.invoice_is_draft(uuid) to palisade_app, palisade_admin;

select app.protect('invoice_line_items');
select app.writable_by('invoice_line_items', 'OWNER', 'ADMIN', 'BILLING');
create policy insert_into_draft on invoice_line_items as restrictive for insert
    with check (app.invoice_is_draft(invoice_id));
create policy update_in_draft on invoice_line_items as restrictive for update
    using (app.invoice_is_draft(invoice_id));
create policy delete_from_draft on invoice_line_items as restrictive for delete
    using (app.invoice_is_draft(invoice_id));
alter table invoice_line_items
    add constraint invoice_line_items_invoice_fkey foreign key (tenant_id, invoice_id)
        references invoices (tenant_id, id) on delete cascade,
    add constraint invoice_line_items_product_fkey foreign key (tenant_id, product_id)
        references products (tenant_id, id),
    add constraint invoice_line_items_currency_fkey foreign key (currency) references currencies (code);

-- Serves Product.lineItems.
create index invoice_line_items_product_idx on invoice_line_items (tenant_id, product_id, created_at desc, id desc);
