select 'pg_class'::regclass::oid as catalog, c.oid as id, 'sequence ' || c.name as object,
       format('%I may use the sequence %s. All tenants share it, so its values show how many rows the others insert.',
              s.rolname, c.name) as problem,
       format('revoke all on sequence %s from public, %I; use uuids or a counter per tenant', c.name, s.rolname) as fix
from relation c
cross join service s
where c.relkind = 'S' and has_sequence_privilege(s.oid, c.oid, 'usage, select, update')
  and not s.rolsuper and not pg_has_role(s.oid, c.relowner, 'member')
