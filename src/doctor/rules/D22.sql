select 'pg_class'::regclass::oid as catalog, c.oid as id, 'table ' || c.name as object,
       format('%I has %s on %s. Row level security does not limit it.', s.rolname, privilege, c.name) as problem,
       format('revoke %s on %s from public, %I', lower(privilege), c.name, s.rolname) as fix
from relation c
cross join service s
cross join unnest('{TRUNCATE,REFERENCES,TRIGGER}'::text[]) as privilege
where c.relkind in ('r', 'p') and not s.rolsuper and not pg_has_role(s.oid, c.relowner, 'member')
  and case when privilege = 'REFERENCES' then has_any_column_privilege(s.oid, c.oid, privilege)
           else has_table_privilege(s.oid, c.oid, privilege) end
