-- The canary: a tenant whose rows no request may ever return. The service replaces a response that contains one of
-- them by an error, because then the isolation has failed (docs/prove.md). The tenant has no identities and no
-- memberships, so that no person can sign in to it, and it is suspended, so that no list of tenants shows it.

-- The marker of the canary's rows: 16 hexadecimal digits, random in each database. It is in the source of a function
-- and not in a table, so that there is no row to protect. It begins with f: no id that the service creates begins so,
-- because an id begins with its time.
do $$
begin
    execute format(
        'create function app.canary_marker() returns text language sql immutable parallel safe return %L',
        'f' || substr(encode(sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'hex'), 1, 15));
end $$;

-- The id of a row of the canary; number 0 is the tenant.
create function app.canary_id(number integer) returns uuid
    language sql immutable parallel safe
    return (app.canary_marker() || lpad(to_hex(number), 16, '0'))::uuid;

-- Inserts a row of the canary, with the values of these columns. Each migration that creates the table of an entity
-- calls this function once, and puts app.canary_marker() into a string of the row if it has one.
--
-- Row level security and the triggers are off meanwhile, because there is no context of the canary: no user of it
-- exists that could be the caller. ALTER TABLE locks the table until the end of the transaction, so no other
-- transaction uses it without them.
create function app.add_canary_row(target regclass, number integer, columns jsonb)
    returns void language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    named constant jsonb := columns || jsonb_build_object('id', app.canary_id(number))
        || case when exists (select from pg_attribute where attrelid = target and attname = 'tenant_id')
                then jsonb_build_object('tenant_id', app.canary_id(0)) else '{}' end;
    names text;
begin
    select string_agg(quote_ident(name), ', ') into names from jsonb_object_keys(named) as name;
    execute format('alter table %s no force row level security', target);
    execute format('alter table %s disable trigger user', target);
    execute format('insert into %1$s (%2$s) select %2$s from jsonb_populate_record(null::%1$s, $1)', target, names)
      using named;
    execute format('alter table %s enable trigger user', target);
    execute format('alter table %s force row level security', target);
end $$;

select app.add_canary_row('tenants', 0, jsonb_build_object(
    'slug', 'canary-' || app.canary_marker(), 'name', 'Canary ' || app.canary_marker(), 'status', 'SUSPENDED'));
select app.add_canary_row('users', 1, jsonb_build_object(
    'email', app.canary_marker() || '@canary.invalid', 'display_name', 'Canary ' || app.canary_marker(),
    'role', 'OWNER', 'status', 'ACTIVE'));
select app.add_canary_row('organizations', 2, jsonb_build_object(
    'slug', 'canary-' || app.canary_marker(), 'name', 'Canary ' || app.canary_marker()));
select app.add_canary_row('projects', 3, jsonb_build_object(
    'organization_id', app.canary_id(2), 'owner_id', app.canary_id(1), 'name', 'Canary ' || app.canary_marker(),
    'description', 'Canary ' || app.canary_marker()));
select app.add_canary_row('products', 4, jsonb_build_object(
    'asin', 'CANARY0000', 'title', 'Canary ' || app.canary_marker()));
select app.add_canary_row('invoices', 5, jsonb_build_object(
    'organization_id', app.canary_id(2), 'project_id', app.canary_id(3), 'currency', 'EUR'));
select app.add_canary_row('invoice_line_items', 6, jsonb_build_object(
    'invoice_id', app.canary_id(5), 'product_id', app.canary_id(4), 'position', 1,
    'description', 'Canary ' || app.canary_marker(), 'quantity', 1, 'unit_price_minor', 100, 'amount_minor', 100,
    'currency', 'EUR'));
select app.add_canary_row('comments', 7, jsonb_build_object(
    'author_id', app.canary_id(1), 'project_id', app.canary_id(3), 'body', 'Canary ' || app.canary_marker()));
-- There is no seal for this entry, and no command seals or verifies it.
select app.add_canary_row('audit_logs', 8, jsonb_build_object(
    'occurred_at', now(), 'action', 'project.created', 'actor_id', app.canary_id(1), 'subject_type', 'projects',
    'subject_id', app.canary_id(3), 'project_id', app.canary_id(3),
    'changes', jsonb_build_array(jsonb_build_object('field', 'name', 'before', null,
                                                    'after', 'Canary ' || app.canary_marker())),
    'hash', sha256('canary')));

select app.revoke_functions_from_public();
grant execute on function app.canary_marker() to palisade_app, palisade_admin;
grant execute on function app.canary_id(integer) to palisade_admin;
