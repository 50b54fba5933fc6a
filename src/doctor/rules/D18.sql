select 'pg_class'::regclass::oid as catalog, c.oid as id, kind.name || ' ' || c.name as object,
       format('The service reaches the %s %s, which cannot have policies.', kind.name, c.name) as problem,
       format('revoke all on %s from %s', c.name,
              (select string_agg(quote_ident(r.rolname), ', ' order by r.rolname)
                 from reachable r where r.relation = c.oid)) as fix
from relation c
join (values ('m'::"char", 'materialized view'), ('f', 'foreign table')) as kind (relkind, name) using (relkind)
where exists (select from reachable r where r.relation = c.oid)
