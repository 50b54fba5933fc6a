select 'pg_class'::regclass::oid as catalog, c.oid as id, 'relation ' || c.name as object,
       format('PUBLIC, and so every role, has %s on %s.', string_agg(a.privilege_type, ', ' order by a.privilege_type),
              c.name) as problem,
       format('revoke all on %s from public', c.name) as fix
from relation c
cross join aclexplode(c.relacl) as a
where a.grantee = 0
group by c.oid, c.name
union all
select 'pg_namespace'::regclass, n.oid, format('schema %I', n.nspname),
       format('%I may create objects in the schema %I.', s.rolname, n.nspname),
       format('revoke create on schema %I from public, %I', n.nspname, s.rolname)
from pg_namespace n
cross join service s
where n.nspname !~ '^pg_(temp|toast)' and has_schema_privilege(s.oid, n.oid, 'create')
  and not s.rolsuper and not pg_has_role(s.oid, n.nspowner, 'member')
union all
select 'pg_database'::regclass, d.oid, format('database %I', d.datname),
       format('%I has %s on the database %I.', s.rolname, privilege, d.datname),
       format('revoke %s on database %I from public, %I', lower(privilege), d.datname, s.rolname)
from pg_database d
cross join service s
cross join unnest('{CREATE,TEMPORARY}'::text[]) as privilege
where d.datname = current_database() and has_database_privilege(s.oid, d.oid, privilege)
  and not s.rolsuper and not pg_has_role(s.oid, d.datdba, 'member')
