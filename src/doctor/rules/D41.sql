-- The table of the tenants is the one to which the tenant column alone is a foreign key.
select distinct 'pg_class'::regclass::oid as catalog, target.oid as id, 'table ' || target.name as object,
       format('%I has %s on the whole table %s, so a tenant can change its own plan, status or name in URLs.', s.rolname,
              privilege, target.name) as problem,
       case when privilege = 'UPDATE'
            then format('revoke update on %s from public, %I; grant update (<columns>) on %1$s to %2$I', target.name, s.rolname)
            else format('revoke %s on %s from public, %I', lower(privilege), target.name, s.rolname) end as fix
from pg_constraint k
join tenant_table c on c.oid = k.conrelid and k.conkey = array[c.tenant]
join relation target on target.oid = k.confrelid and target.tenant is null
cross join service s
cross join unnest('{INSERT,UPDATE,DELETE}'::text[]) as privilege
where k.contype = 'f' and not s.rolsuper and not pg_has_role(s.oid, target.relowner, 'member')
  and has_table_privilege(s.oid, target.oid, privilege)
