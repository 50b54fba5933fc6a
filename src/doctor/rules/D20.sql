-- No role can call a trigger function. D21 checks those.
select 'pg_proc'::regclass::oid as catalog, f.oid as id, 'function ' || f.name as object,
       format('%I may call %s, which runs with the rights of %I.', s.rolname, f.name, o.rolname) as problem,
       format('revoke execute on function %s from public, %I; or alter function %1$s security invoker; or, after a review: '
              'comment on function %1$s is ''doctor: allow D20, <the reason>''', f.name, s.rolname) as fix
from routine f
join service s on has_function_privilege(s.oid, f.oid, 'execute')
join pg_roles o on o.oid = f.proowner
where f.prosecdef and f.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
