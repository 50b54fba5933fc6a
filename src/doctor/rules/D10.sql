with helper as (
    select distinct f.oid, f.oid::regprocedure::text as name, f.provolatile, f.proparallel, f.prosecdef, f.proconfig,
           f.pronargs = 0 or pg_get_functiondef(f.oid) ~ 'current_setting' as reads_context
    from policy p
    join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
    join pg_proc f on f.oid = d.refobjid and f.prokind = 'f'
)
select 'pg_proc'::regclass::oid as catalog, h.oid as id, 'function ' || h.name as object,
       format('A policy calls the function %s, which is %s.', h.name, fault.problem) as problem,
       format('alter function %s %s', h.name, fault.fix) as fix
from helper h
cross join lateral (values
    (h.provolatile = 'i' and h.reads_context, 'IMMUTABLE: a cached plan keeps the tenant of its first execution', 'stable'),
    (h.provolatile = 'v' and h.reads_context, 'VOLATILE: it runs for each row', 'stable'),
    (h.proparallel <> 's' and h.reads_context, 'not PARALLEL SAFE: no query on the table uses several processes',
     'parallel safe'),
    (h.prosecdef and not coalesce(h.proconfig::text ~ 'search_path=', false),
     'SECURITY DEFINER without a search_path', 'set search_path = pg_catalog, pg_temp')
) as fault (is_present, problem, fix)
where fault.is_present
