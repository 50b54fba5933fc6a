-- Organizations are the clients, departments or subsidiaries of a tenant; projects are the work for them.

create table organizations (
    tenant_id  uuid        not null default app.tenant_id(),
    id         uuid        not null,
    name       text        not null,
    slug       text collate "C" not null,
    status     text        not null default 'ACTIVE',
    version    integer     not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    name_folded text collate "C" generated always as (app.fold(name)) stored,
    constraint organizations_pkey primary key (tenant_id, id),
    constraint organizations_slug_key unique (tenant_id, slug),
    constraint organizations_name_length check (length(name) between 1 and 120),
    constraint organizations_slug_form check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    constraint organizations_status_known check (status in ('ACTIVE', 'ARCHIVED'))
);

select app.protect('organizations', subject => 'organization');
select app.writable_by('organizations', 'OWNER', 'ADMIN', 'MEMBER', 'BILLING');
alter table organizations
    add constraint organizations_tenant_fkey foreign key (tenant_id) references tenants (id);

-- Serve the orders of Query.organizations.
create index organizations_created_at_idx on organizations (tenant_id, created_at desc, id desc);
create index organizations_updated_at_idx on organizations (tenant_id, updated_at desc, id desc);
create index organizations_name_idx on organizations (tenant_id, name, id);
-- Serves the filters by the start of the name and those that ignore case.
create index organizations_name_folded_idx on organizations (tenant_id, name_folded);

create table projects (
    tenant_id       uuid        not null default app.tenant_id(),
    id              uuid        not null,
    organization_id uuid        not null,
    owner_id        uuid        not null,
    name            text        not null,
    description     text,
    -- Not an enum: the comparison of enums is not leakproof, so with RLS it could not use an index.
    status          text        not null default 'PLANNED',
    archived_from   text,
    due_on          date,
    version         integer     not null default 1,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    name_folded     text collate "C" generated always as (app.fold(name)) stored,
    constraint projects_pkey primary key (tenant_id, id),
    constraint projects_name_length check (length(name) between 1 and 120),
    constraint projects_description_length check (length(description) <= 10000),
    constraint projects_status_known check (status in ('PLANNED', 'ACTIVE', 'ON_HOLD', 'COMPLETED', 'ARCHIVED')),
    constraint projects_archived_from_known check (archived_from in ('PLANNED', 'ACTIVE', 'ON_HOLD', 'COMPLETED')),
    constraint projects_archived_from_archived check (archived_from is null or status = 'ARCHIVED')
);
comment on column projects.archived_from is 'The status that an archived project returns to.';

select app.protect('projects', subject => 'project', project => 'id');
select app.writable_by('projects', 'OWNER', 'ADMIN', 'MEMBER', 'BILLING');
alter table projects
    add constraint projects_organization_fkey foreign key (tenant_id, organization_id)
        references organizations (tenant_id, id);
alter table projects
    add constraint projects_owner_fkey foreign key (tenant_id, owner_id) references users (tenant_id, id);

-- Serve the orders of Query.projects.
create index projects_created_at_idx on projects (tenant_id, created_at desc, id desc);
create index projects_updated_at_idx on projects (tenant_id, updated_at desc, id desc);
create index projects_name_idx on projects (tenant_id, name, id);
create index projects_due_on_idx on projects (tenant_id, due_on, id);
-- Serves the filters by the start of the name and those that ignore case.
create index projects_name_folded_idx on projects (tenant_id, name_folded);
-- Serves the newest projects of one status.
create index projects_status_idx on projects (tenant_id, status, created_at desc, id desc);
-- Serve Organization.projects and User.projects.
create index projects_organization_idx on projects (tenant_id, organization_id, created_at desc, id desc);
create index projects_owner_idx on projects (tenant_id, owner_id, created_at desc, id desc);
