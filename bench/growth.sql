-- Adds tenants :first to :last, each with the given number of projects, invoices per project and audit log entries per
-- project. Runs as a superuser. Triggers are off, because they would write the audit log.
set session_replication_role = replica;

-- Returns a UUIDv7 for a row. The ids of a tenant's rows have the order of their numbers, and are the same in each run.
create function pg_temp.row_id(kind text, tenant integer, number bigint) returns uuid language sql immutable
    return (substr(lpad(to_hex(1767254400000 + number), 12, '0'), 1, 8) || '-'
        || substr(lpad(to_hex(1767254400000 + number), 12, '0'), 9, 4) || '-7'
        || substr(md5(kind || tenant || '.' || number), 1, 3) || '-8'
        || substr(md5(kind || tenant || '.' || number), 4, 3) || '-'
        || substr(md5(kind || tenant || '.' || number), 7, 12))::uuid;
create function pg_temp.row_time(number bigint) returns timestamptz language sql immutable
    return to_timestamp(1767254400 + number / 1000.0);

create temporary table new_tenants as
    select number, pg_temp.row_id('tenant', number, 0) as id from generate_series(:first, :last) as number;

insert into tenants (id, slug, name)
    select id, 'growth-' || number, 'Growth ' || number from new_tenants;
insert into users (tenant_id, id, email, display_name, role, status)
    select tenant.id, pg_temp.row_id('user', tenant.number, n), 'user' || n || '@growth-' || tenant.number || '.example',
           'User ' || n, case n when 1 then 'OWNER' else 'MEMBER' end, 'ACTIVE'
      from new_tenants as tenant, generate_series(1, 7) as n;
insert into organizations (tenant_id, id, name, slug)
    select tenant.id, pg_temp.row_id('organization', tenant.number, n), 'Client ' || n, 'client-' || n
      from new_tenants as tenant, generate_series(1, 10) as n;

create temporary table new_projects as
    select tenant.number as tenant, tenant.id as tenant_id, n, pg_temp.row_id('project', tenant.number, n) as id
      from new_tenants as tenant, generate_series(1, :projects) as n;
insert into projects (tenant_id, id, organization_id, owner_id, name, description, status, due_on, created_at, updated_at)
    select tenant_id, id, pg_temp.row_id('organization', tenant, 1 + n % 10), pg_temp.row_id('user', tenant, 1 + n % 7),
           -- The 20 oldest projects have another name.
           case when n <= 20 then 'Office move'
                else (array['Website relaunch', 'Annual audit', 'Mobile app', 'Data migration'])[1 + n % 4]
           end || ' #' || n,
           'A project like any other. Milestone ' || n % 9 || ' reached.',
           (array['PLANNED', 'ACTIVE', 'ON_HOLD', 'COMPLETED'])[1 + n / 4 % 4],
           date '2026-01-01' + n % 300, pg_temp.row_time(n), pg_temp.row_time(n)
      from new_projects;
insert into invoices (tenant_id, id, organization_id, project_id, number, status, currency, subtotal_minor, tax_minor,
                      total_minor, issued_on, due_on, created_at, updated_at)
    select tenant_id, pg_temp.row_id('invoice', tenant, n * :invoices + i),
           pg_temp.row_id('organization', tenant, 1 + n % 10), id, 'INV-' || n * :invoices + i,
           (array['OPEN', 'PAID', 'VOID'])[1 + i % 3], 'EUR', 100 * n + i, 20 * n, 120 * n + i,
           date '2026-01-01' + n % 300, date '2026-01-15' + n % 300,
           pg_temp.row_time(n * :invoices + i), pg_temp.row_time(n * :invoices + i)
      from new_projects, generate_series(1, :invoices) as i;
insert into audit_logs (tenant_id, id, occurred_at, action, actor_id, subject_type, subject_id, project_id, changes, hash)
    select tenant_id, pg_temp.row_id('audit log', tenant, n * :audit_logs + i),
           pg_temp.row_time(n * :audit_logs + i), 'project.updated', pg_temp.row_id('user', tenant, 1 + i % 7),
           'projects', id, id, '[{"field": "description", "after": "Milestone 2 reached.", "before": "Milestone 1 reached."}]',
           sha256(id::text::bytea)
      from new_projects, generate_series(1, :audit_logs) as i;
