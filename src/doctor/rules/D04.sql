select 'pg_class'::regclass::oid as catalog, oid as id, 'table ' || name as object,
       format('Row level security is off for %s, which has a tenant column and which the service reaches.', name)
           as problem,
       format('alter table %s enable row level security; alter table %1$s force row level security', name) as fix
from reached_table
where tenant is not null and not relrowsecurity
