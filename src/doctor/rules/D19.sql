select 'pg_class'::regclass::oid as catalog, c.oid as id, 'table ' || c.name as object,
       format('The service reaches %s, a partition or child of %s, without the policies of the parent.',
              c.name, i.inhparent::regclass) as problem,
       format('revoke all on %s from %s', c.name,
              (select string_agg(quote_ident(r.rolname), ', ' order by r.rolname)
                 from reachable r where r.relation = c.oid)) as fix
from relation c
join pg_inherits i on i.inhrelid = c.oid
where c.relkind in ('r', 'p') and exists (select from reachable r where r.relation = c.oid)
union all
select 'pg_class'::regclass, c.oid, 'table ' || c.name,
       format('Row level security is off for %s, a partition or child of %s.', c.name, i.inhparent::regclass),
       format('alter table %s enable row level security; alter table %1$s force row level security', c.name)
from relation c
join pg_inherits i on i.inhrelid = c.oid
where c.relkind in ('r', 'p') and c.tenant is not null and not c.relrowsecurity
