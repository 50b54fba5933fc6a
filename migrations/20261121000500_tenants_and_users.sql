-- Tenants, the people in them, and the directory that sign-in reads.

create table tenants (
    id         uuid        not null,
    slug       text        not null,
    name       text        not null,
    status     text        not null default 'ACTIVE',
    plan       text        not null default 'FREE',
    version    integer     not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint tenants_pkey primary key (id),
    constraint tenants_slug_form check (slug ~ '^[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])$'),
    constraint tenants_name_length check (length(name) between 1 and 120),
    constraint tenants_status_known check (status in ('PROVISIONING', 'ACTIVE', 'SUSPENDED', 'DELETING'))
);
-- The only unique constraint across tenants. It reveals that another tenant has a slug, but slugs are public: they
-- are part of URLs.
select app.unique_across_tenants('tenants', 'slug');

-- A tenant owns its own row: in this table, `id` has the role that `tenant_id` has in all others.
select app.protect('tenants', subject => 'tenant', tenant_column => 'id');
-- Only the admin plane creates, changes and deletes tenants. A mutation that renames a tenant would need
-- `grant update (name)`, but never the status, the plan or the slug.
revoke insert, update, delete on tenants from palisade_app;
select app.restrict('tenants', 'update_by_role', 'update', app.has_role('OWNER', 'ADMIN'));
-- Sign-in finds a tenant by its slug. Of this table, it may read only these columns.
create policy directory on tenants for select to palisade_auth using (true);
grant select (id, slug, name, status) on tenants to palisade_auth;
comment on table tenants is 'doctor: allow D06, the column id is the tenant';
comment on policy directory on tenants is 'doctor: allow D08 D09, only sign-in uses it: it finds a tenant by its slug';

-- A person who can sign in, independent of tenants. No role of a tenant may read it.
create table identities (
    id         uuid        not null,
    email      text        not null,
    version    integer     not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint identities_pkey primary key (id),
    constraint identities_email_key unique (email),
    constraint identities_email_folded check (email = lower(email) and length(email) between 3 and 254)
);
select app.replicate('identities');
alter table identities enable row level security;
alter table identities force row level security;
create policy sign_in on identities for select to palisade_auth using (true);
grant select on identities to palisade_auth;
grant select, insert, update, delete on identities to palisade_admin;
select app.count_versions('identities');
comment on table identities is 'doctor: allow D06, only sign-in reads it: a person belongs to several tenants';

-- A person in one tenant.
create table users (
    tenant_id    uuid        not null default app.tenant_id(),
    id           uuid        not null,
    identity_id  uuid,
    email        text collate "C" not null,
    display_name text,
    role         text        not null default 'MEMBER',
    status       text        not null default 'INVITED',
    version      integer     not null default 1,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    display_name_folded text collate "C" generated always as (app.fold(display_name)) stored,
    constraint users_pkey primary key (tenant_id, id),
    constraint users_email_key unique (tenant_id, email),
    constraint users_email_folded check (email = lower(email) and length(email) between 3 and 254),
    constraint users_display_name_length check (length(display_name) between 1 and 120),
    constraint users_role_known check (role in ('OWNER', 'ADMIN', 'MEMBER', 'BILLING', 'VIEWER')),
    constraint users_status_known check (status in ('INVITED', 'ACTIVE', 'DEACTIVATED'))
);
comment on column users.identity_id is 'The person who signs in as this user; null until then.';

-- The identity of a person is the same in every tenant, so audit entries with it would show that two tenants have a
-- person in common.
select app.protect('users', subject => 'user', unrecorded => '{identity_id}');
alter table users
    add constraint users_tenant_fkey foreign key (tenant_id) references tenants (id);
alter table users
    add constraint users_identity_fkey foreign key (identity_id) references identities (id);
comment on constraint users_identity_fkey on users is
    'doctor: allow D15, users_identity_idx begins with the tenant; identities are rarely deleted';

-- Only owners create and delete owners: otherwise an admin could create an owner.
select app.restrict('users', command || '_by_role', command,
                    format('%s or (%s and role <> ''OWNER'')', app.has_role('OWNER'), app.has_role('ADMIN')))
  from unnest('{insert,delete}'::text[]) as command;
-- Every user may update their own row, except for the columns that app.guard_standing protects.
select app.restrict('users', 'update_by_role', 'update',
                    format('%s or %s', app.has_role('OWNER', 'ADMIN'), app.is_own('id')));

-- Only an owner or admin may change the role, status, email address or identity of a user. Only an owner may change
-- those of an owner. A policy cannot compare the new row with the old one, so this rule is a trigger.
create function app.guard_standing() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user = 'palisade_app' and coalesce(app.role(), '') <> 'OWNER'
       and (coalesce(app.role(), '') <> 'ADMIN' or 'OWNER' in (old.role, new.role)) then
        raise insufficient_privilege using message =
            'only an owner or admin may change the role, status, email or identity of a user, '
            'and only an owner those of an owner';
    end if;
    return new;
end $$;
create trigger guard_standing before update on users for each row
    when ((old.role, old.status, old.email, old.identity_id)
          is distinct from (new.role, new.status, new.email, new.identity_id))
    execute function app.guard_standing();

-- The service's role may not set the identity of a user. Otherwise a tenant could add any person who has an
-- identity as its user.
create function app.guard_identity() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user = 'palisade_app' then
        raise insufficient_privilege using message = 'palisade_app may not set the identity of a user';
    end if;
    return new;
end $$;
create trigger guard_identity before insert on users for each row
    when (new.identity_id is not null)
    execute function app.guard_identity();
create trigger guard_identity_change before update on users for each row
    when (new.identity_id is distinct from old.identity_id)
    execute function app.guard_identity();

-- A tenant always has an active owner. A change of role or status or a deletion that would remove the last
-- active owner fails, unless the tenant itself is being deleted.
--
-- If two owners demoted each other at the same time, each transaction would still see the other owner. So the
-- function takes a lock. The function is volatile, so its next query sees what was committed during the wait.
create function app.keep_an_owner() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('palisade owners ' || old.tenant_id, 0));
    if not exists (
        select from public.users u
         where u.tenant_id = old.tenant_id and u.id <> old.id
           and u.role = 'OWNER' and u.status = 'ACTIVE')
       and exists (
        select from public.tenants t where t.id = old.tenant_id and t.status <> 'DELETING') then
        raise check_violation using constraint = 'users_last_owner',
            message = 'a tenant must have at least one active owner';
    end if;
    return coalesce(new, old);
end $$;
create trigger keep_an_owner before update on users for each row
    when (old.role = 'OWNER' and old.status = 'ACTIVE' and (new.role, new.status) <> ('OWNER', 'ACTIVE'))
    execute function app.keep_an_owner();
create trigger keep_an_owner_on_delete before delete on users for each row
    when (old.role = 'OWNER' and old.status = 'ACTIVE')
    execute function app.keep_an_owner();

-- Serve the orders of Query.users and Tenant.users. users_email_key serves EMAIL.
create index users_created_at_idx on users (tenant_id, created_at desc, id desc);
create index users_updated_at_idx on users (tenant_id, updated_at desc, id desc);
create index users_display_name_idx on users (tenant_id, display_name, id);
-- Serves the filters by the start of the name and those that ignore case.
create index users_display_name_folded_idx on users (tenant_id, display_name_folded);
-- Serves the deletion of an identity, which checks that no user refers to the identity.
create index users_identity_idx on users (tenant_id, identity_id);

-- The tenants that a person may enter. The table copies users.role and users.status, so that sign-in needs no
-- access to users. Only app.keep_membership() writes to this table.
create table memberships (
    tenant_id   uuid        not null default app.tenant_id(),
    id          uuid        not null,
    identity_id uuid        not null,
    role        text        not null,
    status      text        not null,
    version     integer     not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    constraint memberships_pkey primary key (tenant_id, id),
    constraint memberships_identity_key unique (tenant_id, identity_id)
);
comment on column memberships.id is 'The id of the user whose membership this is.';

-- Not audited: the audit entry of the user already contains the change.
select app.protect('memberships', audited => false);
revoke insert, update, delete on memberships from palisade_app, palisade_admin;
alter table memberships
    add constraint memberships_user_fkey foreign key (tenant_id, id)
        references users (tenant_id, id) on delete cascade;
alter table memberships
    add constraint memberships_identity_fkey foreign key (identity_id) references identities (id);
create policy directory on memberships for select to palisade_auth using (true);
grant select on memberships to palisade_auth;
comment on policy directory on memberships is
    'doctor: allow D08 D09, only sign-in uses it: it finds the tenants of a person';

-- Serves sign-in and Viewer.memberships. The only index that does not begin with the tenant: palisade_auth
-- looks up one person across tenants. It is not unique, so it reveals nothing to a tenant.
create index memberships_of_identity_idx on memberships (identity_id, tenant_id);
comment on index memberships_of_identity_idx is 'doctor: allow D14, sign-in looks up a person across tenants';

-- Copies the identity, role and status of a user to memberships. It runs as its owner because no role of the service
-- may write memberships.
create function app.keep_membership() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from public.memberships m
     where m.tenant_id = new.tenant_id and m.id = new.id
       and m.identity_id is distinct from new.identity_id;
    if new.identity_id is not null then
        insert into public.memberships (tenant_id, id, identity_id, role, status)
        values (new.tenant_id, new.id, new.identity_id, new.role, new.status)
        on conflict (tenant_id, id) do update set role = excluded.role, status = excluded.status;
    end if;
    return null;
end $$;
create trigger keep_membership after insert or update of identity_id, role, status on users
    for each row execute function app.keep_membership();

select app.revoke_functions_from_public();
