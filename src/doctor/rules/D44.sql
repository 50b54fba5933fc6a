-- D02 reports the dangerous memberships.
select 'pg_authid'::regclass::oid as catalog, s.oid as id, format('role %I', s.rolname) as object,
       format('%I is a member of %I, so each new right of %2$I is also one of the service.', s.rolname, g.rolname) as problem,
       format('revoke %I from %I', g.rolname, s.rolname) as fix
from service s
join pg_auth_members m on m.member = s.oid
join pg_roles g on g.oid = m.roleid
where g.rolname !~ '^pg_' and not (g.rolsuper or g.rolbypassrls or g.rolcreaterole or g.rolreplication)
union all
select 'pg_authid'::regclass, s.oid, format('role %I', s.rolname),
       format('%I has CREATEDB: it can create a database, of which it is the owner.', s.rolname),
       format('alter role %I nocreatedb', s.rolname)
from service s
where s.rolcreatedb
union all
select 'pg_authid'::regclass, r.role, format('role %I', r.rolname),
       format('%s = %s is a default of %I.', r.name, r.value, r.rolname), r.reset
from role_setting r
where r.name in ('row_security', 'role', 'search_path', 'session_preload_libraries', 'local_preload_libraries')
