select 'pg_authid'::regclass::oid as catalog, s.oid as id, format('role %I', s.rolname) as object,
       format('%I may call %s functions of large objects, which have no row level security.', s.rolname, count(*)) as problem,
       string_agg(format('revoke execute on function %s from public, %I', f.oid::regprocedure, s.rolname), '; '
                  order by f.oid) as fix
from service s
join pg_proc f on f.pronamespace = 'pg_catalog'::regnamespace
              and (f.proname like 'lo\_%' or f.proname in ('loread', 'lowrite'))
              and has_function_privilege(s.oid, f.oid, 'execute')
where not s.rolsuper
group by s.oid, s.rolname
