select 'pg_proc'::regclass::oid as catalog, f.oid as id, 'function ' || f.name as object,
       format('%s runs with the rights of its owner and has no search_path, so the caller decides which objects its names '
              'mean.', f.name) as problem,
       format('alter function %s set search_path = pg_catalog, pg_temp', f.name) as fix
from routine f
where f.prosecdef and not coalesce(exists (select from unnest(f.proconfig) as c where c ~ '^search_path='), false)
union all
select 'pg_proc'::regclass, f.oid, 'function ' || f.name,
       format('%s runs with the rights of %I, to which row level security does not apply.', f.name, o.rolname),
       format('alter function %s owner to <a role without SUPERUSER and BYPASSRLS>', f.name)
from routine f
join pg_roles o on o.oid = f.proowner
where f.prosecdef and (o.rolsuper or o.rolbypassrls)
