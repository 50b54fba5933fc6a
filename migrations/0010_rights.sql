-- Rights that the first tables left open.

-- A tenant always has an owner who can sign in: whoever would take away the last one is refused, be it
-- by role, by status or by deletion. A tenant that is being deleted is let go of.
--
-- Two owners who demote each other at once would each still see the other, so they take turns; a
-- statement in a volatile function sees what was committed while it waited.
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
            message = 'a tenant keeps at least one active owner';
    end if;
    return coalesce(new, old);
end $$;
revoke execute on function app.keep_an_owner() from public;
create trigger keep_an_owner before update on users for each row
    when (old.role = 'OWNER' and old.status = 'ACTIVE' and (new.role, new.status) <> ('OWNER', 'ACTIVE'))
    execute function app.keep_an_owner();
create trigger keep_an_owner_on_delete before delete on users for each row
    when (old.role = 'OWNER' and old.status = 'ACTIVE')
    execute function app.keep_an_owner();

-- Who a user is when signing in is the sign-in's to say. Otherwise a tenant could enrol any person who
-- has an identity anywhere.
create function app.guard_identity() returns trigger
    language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user = 'palisade_app' then
        raise insufficient_privilege using message = 'a tenant does not choose who signs in as its user';
    end if;
    return new;
end $$;
revoke execute on function app.guard_identity() from public;
create trigger guard_identity before insert on users for each row
    when (new.identity_id is not null)
    execute function app.guard_identity();
create trigger guard_identity_change before update on users for each row
    when (new.identity_id is distinct from old.identity_id)
    execute function app.guard_identity();

-- Deleting a project, invoice or product took everybody's comments along, past the policies that let
-- only their authors, admins and owners delete them. Now whoever deletes the subject deletes its
-- comments first, as far as those policies let them.
alter table comments drop constraint comments_project_fkey;
alter table comments drop constraint comments_invoice_fkey;
alter table comments drop constraint comments_product_fkey;
alter table comments
    add constraint comments_project_fkey foreign key (tenant_id, project_id)
        references projects (tenant_id, id) not valid,
    add constraint comments_invoice_fkey foreign key (tenant_id, invoice_id)
        references invoices (tenant_id, id) not valid,
    add constraint comments_product_fkey foreign key (tenant_id, product_id)
        references products (tenant_id, id) not valid;
alter table comments validate constraint comments_project_fkey;
alter table comments validate constraint comments_invoice_fkey;
alter table comments validate constraint comments_product_fkey;

-- To what status a project returns when it is taken out of the archive.
alter table projects add column archived_from text;
alter table projects
    add constraint projects_archived_from_known
        check (archived_from in ('PLANNED', 'ACTIVE', 'ON_HOLD', 'COMPLETED')) not valid,
    add constraint projects_archived_from_archived
        check (archived_from is null or status = 'ARCHIVED') not valid;
alter table projects validate constraint projects_archived_from_known;
alter table projects validate constraint projects_archived_from_archived;
