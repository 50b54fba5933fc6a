-- What may become of an invoice, decided in one place: here. docs/invoices.md draws it, and a test
-- compares the drawing with the function.

create function app.invoice_may_become(present text, next text) returns boolean
    language sql immutable parallel safe
    return (present, next) in (
        ('DRAFT', 'OPEN'),
        ('OPEN', 'PAID'), ('OPEN', 'VOID'), ('OPEN', 'UNCOLLECTIBLE'),
        ('UNCOLLECTIBLE', 'PAID'), ('UNCOLLECTIBLE', 'VOID'));

-- The last number that a tenant gave to an invoice. A row and no sequence: the number is taken in the
-- transaction that issues the invoice, so what is rolled back leaves no gap.
create table invoice_counters (
    tenant_id   uuid        not null default app.tenant_id(),
    id          uuid        not null,
    last_number bigint      not null,
    version     integer     not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    constraint invoice_counters_pkey primary key (tenant_id, id),
    -- One for each tenant.
    constraint invoice_counters_of_tenant check (id = tenant_id),
    constraint invoice_counters_positive check (last_number >= 1)
);

-- Not audited: the number stands in the entry of the invoice that took it.
select app.protect('invoice_counters', audited => false);
revoke insert, update, delete on invoice_counters from palisade_app, palisade_admin;
alter table invoice_counters
    add constraint invoice_counters_tenant_fkey foreign key (tenant_id) references tenants (id);

-- An invoice begins as a draft. While it is one, its totals are those of its lines whatever a statement
-- says; when it is issued it takes the next number; from then on nothing but its status changes.
--
-- It runs as its owner, because nobody but this function may count numbers up.
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
                message = 'an invoice begins as a draft';
        end if;
        -- It has no lines yet.
        new.subtotal_minor := 0;
        new.tax_minor := 0;
        new.total_minor := 0;
        return new;
    end if;
    if new.status <> old.status and not app.invoice_may_become(old.status, new.status) then
        raise check_violation using constraint = 'invoices_transition',
            message = format('%s cannot become %s', old.status, new.status);
    end if;
    if old.status <> 'DRAFT' then
        if to_jsonb(new) - '{status,version,updated_at}'::text[]
           is distinct from to_jsonb(old) - '{status,version,updated_at}'::text[] then
            raise check_violation using constraint = 'invoices_frozen',
                message = 'an issued invoice does not change';
        end if;
        return new;
    end if;

    -- Tax is rounded line by line, half away from zero, in minor units: what the lines show adds up.
    select count(*), coalesce(sum(l.amount_minor), 0),
           coalesce(sum(round(l.amount_minor * coalesce(l.tax_rate, 0))), 0)
      into lines, new.subtotal_minor, new.tax_minor
      from public.invoice_line_items l
     where l.tenant_id = old.tenant_id and l.invoice_id = old.id;
    new.total_minor := new.subtotal_minor + new.tax_minor;

    if new.status = 'OPEN' then
        if lines = 0 then
            raise check_violation using constraint = 'invoices_has_lines',
                message = 'an invoice without lines cannot be issued';
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
revoke execute on function app.guard_invoice(), app.invoice_may_become(text, text) from public;
create trigger guard_invoice before insert or update on invoices
    for each row execute function app.guard_invoice();

-- An issued invoice is not deleted either, nor does it take its lines along.
create policy delete_draft on invoices as restrictive for delete using (status = 'DRAFT');

alter table invoices
    add constraint invoices_due_after_issue check (due_on >= issued_on) not valid;
alter table invoices validate constraint invoices_due_after_issue;

-- What a line costs is worked out here, half away from zero, and can be nothing else.
alter table invoice_line_items
    add constraint invoice_line_items_amount_adds_up
        check (amount_minor = round(quantity * unit_price_minor)) not valid;
alter table invoice_line_items validate constraint invoice_line_items_amount_adds_up;
