-- D04 reports the tables with a tenant column that the service reaches.
select distinct 'pg_class'::regclass::oid as catalog, c.oid as id, 'table ' || c.name as object,
       format('%s has policies, but row level security is off, so they do nothing.', c.name) as problem,
       format('alter table %s enable row level security; alter table %1$s force row level security', c.name) as fix
from relation c
join pg_policy p on p.polrelid = c.oid
where not c.relrowsecurity
  and not exists (select from reached_table t where t.oid = c.oid and t.tenant is not null)
