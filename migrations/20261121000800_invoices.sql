-- What a tenant bills. Amounts are stored as in products.

create table invoices (
    tenant_id       uuid        not null default app.tenant_id(),
    id              uuid        not null,
    organization_id uuid        not null,
    project_id      uuid,
    -- Assigned when the invoice is issued; a draft has none.
    number          text collate "C",
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
    constraint invoices_total_adds_up check (total_minor = subtotal_minor + tax_minor),
    constraint invoices_due_after_issue check (due_on >= issued_on)
);

select app.protect('invoices', subject => 'invoice', project => 'project_id');
select app.writable_by('invoices', 'OWNER', 'ADMIN', 'BILLING');
-- An issued invoice cannot be deleted, so its line items cannot be deleted with it either.
select app.restrict('invoices', 'delete_draft', 'delete', $$status = 'DRAFT'$$);
alter table invoices
    add constraint invoices_organization_fkey foreign key (tenant_id, organization_id)
        references organizations (tenant_id, id);
alter table invoices
    add constraint invoices_project_fkey foreign key (tenant_id, project_id)
        references projects (tenant_id, id);
alter table invoices
    add constraint invoices_currency_fkey foreign key (currency) references currencies (code);
comment on constraint invoices_currency_fkey on invoices is 'doctor: allow D15, currencies are never deleted';

-- Serve the orders of Query.invoices. Drafts have no number, so the sort by number needs an index that ends with id.
create index invoices_created_at_idx on invoices (tenant_id, created_at desc, id desc);
create index invoices_updated_at_idx on invoices (tenant_id, updated_at desc, id desc);
create index invoices_number_idx on invoices (tenant_id, number, id);
create index invoices_due_on_idx on invoices (tenant_id, due_on, id);
-- Serves the newest invoices of one status.
create index invoices_status_idx on invoices (tenant_id, status, created_at desc, id desc);
-- Serve Organization.invoices and Project.invoices.
create index invoices_organization_idx on invoices (tenant_id, organization_id, created_at desc, id desc);
create index invoices_project_idx on invoices (tenant_id, project_id, created_at desc, id desc)
    where project_id is not null;

create table invoice_line_items (
    tenant_id        uuid          not null default app.tenant_id(),
    id               uuid          not null,
    invoice_id       uuid          not null,
    product_id       uuid,
    position         integer       not null,
    description      text          not null,
    -- No list is filtered or sorted by quantity, so it needs no index and may be numeric.
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
    constraint invoice_line_items_tax_rate_range check (tax_rate >= 0 and tax_rate <= 1),
    -- round() of numeric rounds half away from zero.
    constraint invoice_line_items_amount_adds_up check (amount_minor = round(quantity * unit_price_minor))
);
comment on column invoice_line_items.position is 'The order within the invoice, from 1.';
comment on column invoice_line_items.tax_rate is 'A fraction: 0.19 is 19 percent. Null means no tax.';

-- Whether an invoice may still be edited. This is a function because Citus rejects a sub-select in a policy.
create function app.invoice_is_draft(invoice uuid) returns boolean
    language plpgsql stable parallel safe set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from public.invoices
         where tenant_id = app.tenant_id() and id = invoice and status = 'DRAFT');
end $$;
select app.revoke_functions_from_public();
grant execute on function app.invoice_is_draft(uuid) to palisade_app, palisade_admin;

select app.protect('invoice_line_items', subject => 'invoice_line_item',
                   project_through => 'invoices', through_column => 'invoice_id');
select app.writable_by('invoice_line_items', 'OWNER', 'ADMIN', 'BILLING');
select app.restrict('invoice_line_items', 'insert_into_draft', 'insert', 'app.invoice_is_draft(invoice_id)');
select app.restrict('invoice_line_items', 'update_in_draft', 'update', 'app.invoice_is_draft(invoice_id)');
select app.restrict('invoice_line_items', 'delete_from_draft', 'delete', 'app.invoice_is_draft(invoice_id)');
alter table invoice_line_items
    add constraint invoice_line_items_invoice_fkey foreign key (tenant_id, invoice_id)
        references invoices (tenant_id, id) on delete cascade;
alter table invoice_line_items
    add constraint invoice_line_items_product_fkey foreign key (tenant_id, product_id)
        references products (tenant_id, id);
alter table invoice_line_items
    add constraint invoice_line_items_currency_fkey foreign key (currency) references currencies (code);
comment on constraint invoice_line_items_currency_fkey on invoice_line_items is 'doctor: allow D15, currencies are never deleted';

-- Serve the orders of Query.invoiceLineItems. invoice_line_items_position_key serves Invoice.lineItems.
create index invoice_line_items_position_idx on invoice_line_items (tenant_id, position, id);
create index invoice_line_items_created_at_idx on invoice_line_items (tenant_id, created_at desc, id desc);
-- Serves Product.lineItems.
create index invoice_line_items_product_idx on invoice_line_items (tenant_id, product_id, position, id)
    where product_id is not null;

-- The last number that a tenant assigned to an invoice. The counter is a row and not a sequence: the transaction
-- that issues the invoice increments it, so a rollback leaves no gap.
create table invoice_counters (
    tenant_id   uuid        not null default app.tenant_id(),
    id          uuid        not null,
    last_number bigint      not null,
    version     integer     not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    constraint invoice_counters_pkey primary key (tenant_id, id),
    -- One row per tenant.
    constraint invoice_counters_of_tenant check (id = tenant_id),
    constraint invoice_counters_positive check (last_number >= 1)
);

-- Not audited: the entry of the invoice contains its number.
select app.protect('invoice_counters', audited => false);
revoke insert, update, delete on invoice_counters from palisade_app, palisade_admin;
alter table invoice_counters
    add constraint invoice_counters_tenant_fkey foreign key (tenant_id) references tenants (id);

-- The transitions between statuses. docs/invoices.md has a diagram of them, and a test compares the diagram with
-- this function.
create function app.invoice_may_become(present text, next text) returns boolean
    language sql immutable parallel safe
    return (present, next) in (
        ('DRAFT', 'OPEN'),
        ('OPEN', 'PAID'), ('OPEN', 'VOID'), ('OPEN', 'UNCOLLECTIBLE'),
        ('UNCOLLECTIBLE', 'PAID'), ('UNCOLLECTIBLE', 'VOID'));

-- An invoice is created as a draft. The totals of a draft are computed from its line items, whatever a
-- statement sets. Issuing assigns the next number; from then on only the status changes.
--
-- The function runs as its owner because no role of the service may write invoice_counters.
create function app.guard_invoice() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    lines  bigint;
    number bigint;
begin
    if tg_op = 'INSERT' then
        if new.status <> 'DRAFT' then
            raise check_violation using constraint = 'invoices_transition',
                message = 'an invoice must be created as a draft';
        end if;
        -- There are no line items yet.
        new.subtotal_minor := 0;
        new.tax_minor := 0;
        new.total_minor := 0;
        return new;
    end if;
    if new.status <> old.status and not app.invoice_may_become(old.status, new.status) then
        raise check_violation using constraint = 'invoices_transition',
            message = format('the status of an invoice cannot change from %s to %s', old.status, new.status);
    end if;
    if old.status <> 'DRAFT' then
        if to_jsonb(new) - '{status,version,updated_at}'::text[]
           is distinct from to_jsonb(old) - '{status,version,updated_at}'::text[] then
            raise check_violation using constraint = 'invoices_frozen',
                message = 'only the status of an issued invoice can change';
        end if;
        return new;
    end if;

    -- Tax is rounded per line item, half away from zero, in minor units, so that the sum of the lines shown
    -- is the total shown.
    select count(*), coalesce(sum(l.amount_minor), 0),
           coalesce(sum(round(l.amount_minor * coalesce(l.tax_rate, 0))), 0)
      into lines, new.subtotal_minor, new.tax_minor
      from public.invoice_line_items l
     where l.tenant_id = old.tenant_id and l.invoice_id = old.id;
    new.total_minor := new.subtotal_minor + new.tax_minor;

    if new.status = 'OPEN' then
        if lines = 0 then
            raise check_violation using constraint = 'invoices_has_lines',
                message = 'an invoice without line items cannot be issued';
        end if;
        new.issued_on := coalesce(new.issued_on, current_date);
        new.due_on := coalesce(new.due_on, new.issued_on + 30);
        insert into public.invoice_counters as counter (tenant_id, id, last_number)
        values (old.tenant_id, old.tenant_id, 1)
        on conflict (tenant_id, id) do update set last_number = counter.last_number + 1
        returning last_number into number;
        new.number := 'INV-' || lpad(number::text, greatest(6, length(number::text)), '0');
    end if;
    return new;
end $$;
create trigger guard_invoice before insert or update on invoices
    for each row execute function app.guard_invoice();

-- Locks the invoice of a line item until the transaction ends. So no other transaction issues the invoice at the
-- same time, without this line item in its total. The invoice is then read again, because a transaction that issued
-- it may have committed during the wait. The policies of invoice_line_items only see the state before the wait.
create function app.lock_invoice_of_line() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    found_status text;
begin
    for found_status in
        select i.status
          from public.invoices i
         where i.tenant_id = coalesce(new.tenant_id, old.tenant_id)
           and i.id in (old.invoice_id, new.invoice_id)
         order by i.id
           for no key update
    loop
        if found_status <> 'DRAFT' then
            raise insufficient_privilege using message =
                'the line items of an issued invoice cannot change';
        end if;
    end loop;
    return coalesce(new, old);
end $$;
create trigger lock_invoice before insert or update or delete on invoice_line_items
    for each row execute function app.lock_invoice_of_line();

select app.revoke_functions_from_public();
