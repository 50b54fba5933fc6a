select 'pg_class'::regclass::oid as catalog, c.oid as id, 'table ' || c.name as object,
       format('The service reaches %s, which has no column %I.', c.name, p.tenant_column) as problem,
       format('revoke all on %s from %s', c.name,
              (select string_agg(quote_ident(r.rolname), ', ' order by r.rolname) from reachable r where r.relation = c.oid))
       || format('; or, if all tenants may share the table: comment on table %s is ''doctor: allow D06, <the reason>''',
                 c.name) as fix
from reached_table c
cross join parameter p
where c.tenant is null
