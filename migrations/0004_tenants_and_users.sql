-- Tenants, the people in them, and the directory by which somebody signs in.

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
    -- The only unique that spans tenants: a slug is an address that its owner chose in public.
    constraint tenants_slug_key unique (slug),
    constraint tenants_slug_form check (slug ~ '^[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])$'),
    constraint tenants_name_length check (length(name) between 1 and 120),
    constraint tenants_status_known check (status in ('PROVISIONING', 'ACTIVE', 'SUSPENDED', 'DELETING'))
);

-- A tenant is its own row: `id` plays the part that `tenant_id` plays everywhere else.
select app.protect('tenants', tenant_column => 'id');
-- Tenants are made and ended by the admin plane.
revoke insert, delete on tenants from palisade_app;
create policy update_by_role on tenants as restrictive for update
    using ((select app.role()) = any ('{OWNER,ADMIN}'::text[]));
-- Sign-in finds a tenant by its slug: the directory entry, nothing of what the tenant owns.
create policy directory on tenants for select to palisade_auth using (true);
grant select (id, slug, name, status) on tenants to palisade_auth;

-- A person who can sign in, whatever the tenants. Of no tenant, so no tenant's role may see it.
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
alter table identities enable row level security;
alter table identities force row level security;
create policy sign_in on identities for all to palisade_auth using (true) with check (true);
grant select, insert, update on identities to palisade_auth;
grant select, insert, update, delete on identities to palisade_admin;
create trigger touch before update on identities for each row execute function app.touch();

-- A person in one tenant.
create table users (
    tenant_id    uuid        not null default app.tenant_id(),
    id           uuid        not null,
    identity_id  uuid,
    email        text        not null,
    display_name text,
    role         text        not null default 'MEMBER',
    status       text        not null default 'INVITED',
    version      integer     not null default 1,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    constraint users_pkey primary key (tenant_id, id),
    constraint users_email_key unique (tenant_id, email),
    constraint users_email_folded check (email = lower(email) and length(email) between 3 and 254),
    constraint users_display_name_length check (length(display_name) between 1 and 120),
    constraint users_role_known check (role in ('OWNER', 'ADMIN', 'MEMBER', 'BILLING', 'VIEWER')),
    constraint users_status_known check (status in ('INVITED', 'ACTIVE', 'DEACTIVATED'))
);

select app.protect('users');
alter table users
    add constraint users_tenant_fkey foreign key (tenant_id) references tenants (id),
    add constraint users_identity_fkey foreign key (identity_id) references identities (id);

-- Owners are made and unmade by owners alone: otherwise an admin could become one.
create policy insert_by_role on users as restrictive for insert
    with check ((select app.role()) = 'OWNER' or ((select app.role()) = 'ADMIN' and role <> 'OWNER'));
-- Everybody edits themselves; what is not theirs to change about themselves stands in guard_standing.
create policy update_by_role on users as restrictive for update
    using ((select app.role()) = any ('{OWNER,ADMIN}'::text[]) or id = (select app.user_id()));
create policy delete_by_role on users as restrictive for delete
    using ((select app.role()) = 'OWNER' or ((select app.role()) = 'ADMIN' and role <> 'OWNER'));

-- A policy cannot compare the new row with the old one, so this rule is a trigger: only an OWNER or
-- ADMIN changes somebody's role, standing, address or sign-in, their own included, and only an OWNER
-- that of an owner.
create function app.guard_standing() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user = 'palisade_app' and coalesce(app.role(), '') <> 'OWNER'
       and (coalesce(app.role(), '') <> 'ADMIN' or 'OWNER' in (old.role, new.role)) then
        raise insufficient_privilege using message = 'this role may not change that of the user';
    end if;
    return new;
end $$;
create trigger guard_standing before update on users for each row
    when ((old.role, old.status, old.email, old.identity_id)
          is distinct from (new.role, new.status, new.email, new.identity_id))
    execute function app.guard_standing();

-- Serves Query.users and Tenant.users.
create index users_created_at_idx on users (tenant_id, created_at desc, id desc);
create index users_identity_idx on users (tenant_id, identity_id);

-- Which tenants somebody may enter: the sign-in's copy of users.role and users.status, so that sign-in
-- needs no tenant's rows. Kept by the trigger below; nobody writes it by hand.
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

select app.protect('memberships', audited => false);
revoke insert, update, delete on memberships from palisade_app, palisade_admin;
alter table memberships
    add constraint memberships_user_fkey foreign key (tenant_id, id)
        references users (tenant_id, id) on delete cascade,
    add constraint memberships_identity_fkey foreign key (identity_id) references identities (id);
create policy directory on memberships for select to palisade_auth using (true);
grant select on memberships to palisade_auth;

-- Serves sign-in and Viewer.memberships, which ask across tenants.
create index memberships_of_identity_idx on memberships (identity_id, tenant_id);

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

revoke execute on function app.guard_standing(), app.keep_membership() from public;
