-- Only for the schema of Palisade, which needs none of these rights.
select 'pg_language'::regclass::oid as catalog, l.oid as id, format('language %I', l.lanname) as object,
       format('%I may use the language %I, so it can run DO.', s.rolname, l.lanname) as problem,
       format('revoke usage on language %I from public, %I', l.lanname, s.rolname) as fix
from pg_language l
join service s on has_language_privilege(s.oid, l.oid, 'usage')
where l.laninline <> 0 and to_regprocedure('app.verified()') is not null and not s.rolsuper
union all
select 'pg_proc'::regclass, f.oid, format('function %s', f.oid::regprocedure),
       format('%I may call %s, which takes a lock that stays after the transaction.', s.rolname, f.oid::regprocedure),
       format('revoke execute on function %s from public, %I', f.oid::regprocedure, s.rolname)
from pg_proc f
join service s on has_function_privilege(s.oid, f.oid, 'execute')
where f.pronamespace = 'pg_catalog'::regnamespace and f.proname ~ '^pg_(try_)?advisory_lock'
  and to_regprocedure('app.verified()') is not null and not s.rolsuper
