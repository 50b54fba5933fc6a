select 'pg_proc'::regclass::oid as catalog, f.oid as id, 'function ' || f.name as object,
       format('%s sets %s for the session and not for the transaction. The next user of the connection gets the tenant.',
              f.name, p.setting) as problem,
       format('create or replace function %s with set_config(%L, …, true) or SET LOCAL', f.name, p.setting) as fix
from routine f
cross join parameter p
where coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) ~* format(
    'set_config\(\s*''%s''(::text)?\s*,[^;]*,\s*false\s*\)|\mset\s+(session\s+)?%1$s\M', replace(p.setting, '.', '\.'))
