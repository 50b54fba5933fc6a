select 'pg_class'::regclass::oid as catalog, oid as id, 'table ' || name as object,
       format('Row level security of %s is not forced, so it does not apply to the owner of the table.', name) as problem,
       format('alter table %s force row level security', name) as fix
from reached_table
where relrowsecurity and not relforcerowsecurity
