select 'pg_class'::regclass::oid as catalog, c.oid as id, 'view ' || c.name as object,
       format('The service reaches the view %s, which reads its tables with the rights of its owner.', c.name) as problem,
       format('alter view %s set (security_invoker = true)', c.name) as fix
from relation c
where c.relkind = 'v' and exists (select from reachable r where r.relation = c.oid)
  and not exists (
      select from pg_options_to_table(c.reloptions) as o
      where o.option_name = 'security_invoker' and o.option_value::boolean)
