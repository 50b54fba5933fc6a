select 'pg_proc'::regclass::oid as catalog, f.oid as id, 'function ' || f.name as object,
       format('%s is marked LEAKPROOF: PostgreSQL may run it before the policies, on rows of every tenant.', f.name)
           as problem,
       format('alter function %s not leakproof', f.name) as fix
from routine f
where f.proleakproof
