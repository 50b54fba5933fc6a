-- A key of uuids alone is left out, because its values cannot be guessed. D14 reports its order.
select 'pg_class'::regclass::oid as catalog, i.indexrelid as id, 'index ' || i.indexrelid::regclass::text as object,
       format('The values of %s are unique across all tenants, so a tenant can test which values other tenants have.',
              i.indexrelid::regclass) as problem,
       case when k.oid is null
            then format('drop index %s; create unique index on %s (%I, …)', i.indexrelid::regclass, c.name, p.tenant_column)
            else format('alter table %s drop constraint %I, add constraint %2$I %s (%I, …)', c.name, k.conname,
                        case k.contype when 'p' then 'primary key' when 'x' then 'exclude' else 'unique' end,
                        p.tenant_column) end as fix
from tenant_table c
join pg_index i on i.indrelid = c.oid
cross join parameter p
left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
where (i.indisunique or i.indisexclusion)
  and not exists (
      select from generate_series(0, i.indnkeyatts - 1) as position where i.indkey[position] = c.tenant)
  and exists (
      select from generate_series(0, i.indnkeyatts - 1) as position
      left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[position]
      where a.atttypid is distinct from 'uuid'::regtype)
  and not exists (select from pg_inherits h where h.inhrelid = i.indexrelid)
