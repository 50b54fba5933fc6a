-- pg_has_role is true for a superuser and every role. D01 reports superusers.
select 'pg_authid'::regclass::oid as catalog, s.oid as id, format('role %I', s.rolname) as object,
       format('The role %I is a member of %I, which %s.', s.rolname, g.rolname, case
           when g.rolsuper then 'is a superuser'
           when g.rolbypassrls then 'has BYPASSRLS'
           when g.rolcreaterole then 'has CREATEROLE'
           when g.rolreplication then 'has REPLICATION'
           else 'has rights that row level security does not limit' end) as problem,
       -- The direct membership that leads to the dangerous role.
       (select string_agg(format('revoke %I from %I', direct.rolname, s.rolname), '; ' order by direct.rolname)
          from pg_auth_members m
          join pg_roles direct on direct.oid = m.roleid
         where m.member = s.oid and pg_has_role(m.roleid, g.oid, 'member')) as fix
from service s
join pg_roles g on g.oid <> s.oid and pg_has_role(s.oid, g.oid, 'member')
where not s.rolsuper
  and (g.rolsuper or g.rolbypassrls or g.rolcreaterole or g.rolreplication or g.rolname ~ '^pg_')
  and g.rolname <> 'pg_database_owner'
