select 'pg_class'::regclass::oid as catalog, i.indexrelid as id, 'index ' || i.indexrelid::regclass::text as object,
       format('The index %s does not begin with %I, so a query of one tenant reads entries of all tenants.',
              i.indexrelid::regclass, p.tenant_column) as problem,
       format('create index on %s (%I, …); drop index %s', c.name, p.tenant_column, i.indexrelid::regclass) as fix
from tenant_table c
join pg_index i on i.indrelid = c.oid
cross join parameter p
where i.indkey[0] <> c.tenant
  and not exists (select from pg_inherits h where h.inhrelid = i.indexrelid)
  -- D13 reports the unique ones, except for keys of uuids.
  and (not (i.indisunique or i.indisexclusion)
       or exists (select from generate_series(0, i.indnkeyatts - 1) as position where i.indkey[position] = c.tenant)
       or not exists (
           select from generate_series(0, i.indnkeyatts - 1) as position
           left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[position]
           where a.atttypid is distinct from 'uuid'::regtype))
union all
select 'pg_class'::regclass, c.oid, 'table ' || c.name,
       format('No index of %s begins with %I, so each query of a tenant reads the whole table.', c.name, p.tenant_column),
       format('create index on %s (%I)', c.name, p.tenant_column)
from tenant_table c
cross join parameter p
where not exists (select from pg_index i where i.indrelid = c.oid and i.indisvalid and i.indkey[0] = c.tenant)
  and not exists (select from pg_inherits h where h.inhrelid = c.oid)
