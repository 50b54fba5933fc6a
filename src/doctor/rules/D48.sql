-- Only for the schema of Palisade, whose statements contain signed contexts. The views pg_stat_activity and
-- pg_stat_statements need these functions, too. D02 reports a role that is a member of the groups.
select 'pg_proc'::regclass::oid as catalog, f.oid as id, format('function %s', f.oid::regprocedure) as object,
       format('%I may call %s, which returns statements of other sessions.', s.rolname, f.oid::regprocedure) as problem,
       format('revoke execute on function %s from public, %I', f.oid::regprocedure, s.rolname) as fix
from pg_proc f
join service s on has_function_privilege(s.oid, f.oid, 'execute')
where (f.pronamespace = 'pg_catalog'::regnamespace
           and f.proname in ('pg_stat_get_activity', 'pg_stat_get_backend_activity')
       or f.proname = 'pg_stat_statements' and f.probin like '%pg\_stat\_statements')
  and to_regprocedure('app.verified()') is not null
  and not s.rolsuper
  and not pg_has_role(s.oid, 'pg_read_all_stats', 'usage') and not pg_has_role(s.oid, 'pg_signal_backend', 'usage')
