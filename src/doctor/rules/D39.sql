select 'pg_proc'::regclass::oid as catalog, f.oid as id, 'function ' || f.name as object,
       format('%s has the name of a function in pg_catalog. A call without a schema may run it instead.', f.name) as problem,
       format('drop function %s', f.name) as fix
from routine f
where exists (select from pg_proc b where b.pronamespace = 'pg_catalog'::regnamespace and b.proname = f.proname)
union all
select 'pg_class'::regclass, c.oid, 'relation ' || c.name,
       format('%s has the name of a relation in pg_catalog.', c.name),
       format('alter table %s rename to <another name>', c.name)
from relation c
where exists (select from pg_class b where b.relnamespace = 'pg_catalog'::regnamespace and b.relname = c.relname)
union all
select 'pg_operator'::regclass, o.oid, 'operator ' || o.oid::regoperator::text,
       format('The operator %s has the name of an operator in pg_catalog. An expression without a schema may use it '
              'instead.', o.oid::regoperator),
       format('drop operator %s', o.oid::regoperator)
from pg_operator o
join namespace n on n.oid = o.oprnamespace
where exists (select from pg_operator b where b.oprnamespace = 'pg_catalog'::regnamespace and b.oprname = o.oprname)
  and not exists (select from of_extension e where e.classid = 'pg_operator'::regclass and e.objid = o.oid)
