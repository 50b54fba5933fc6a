-- D50
-- Only for the schema of Palisade. The function acts as its owner if it is a SECURITY DEFINER function, and otherwise as
-- its caller. It must find the sessions of the service and may end their statements.
select 'pg_proc'::regclass::oid as catalog, f.oid as id, 'function ' || f.name as object,
       format('%s does not cancel the statements of %I, because %I lacks rights.', f.name, s.rolname, r.rolname) as problem,
       'run `palisade migrate` as a superuser' as fix
from routine f
join service s on has_function_privilege(s.oid, f.oid, 'execute')
join pg_roles r on r.oid = case when f.prosecdef then f.proowner else s.oid end
where f.oid = to_regprocedure('app.cancel(text)')
  and not (has_table_privilege(r.oid, 'pg_stat_activity', 'select')
           and has_function_privilege(r.oid, 'pg_stat_get_activity(integer)', 'execute')
           and has_function_privilege(r.oid, 'pg_cancel_backend(integer)', 'execute')
           and (pg_has_role(r.oid, s.oid, 'usage')
                or pg_has_role(r.oid, 'pg_read_all_stats', 'usage') and pg_has_role(r.oid, 'pg_signal_backend', 'usage')))
