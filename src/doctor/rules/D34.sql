-- Only for the schema of Palisade: app.verified() runs as its owner if it verifies contexts.
select 'pg_proc'::regclass::oid as catalog, f.oid as id, 'function ' || f.name as object,
       format('%s returns every context that a session sets, without a signature.', f.name) as problem,
       'run `palisade migrate` with PALISADE_CONTEXT_KEY' as fix
from routine f
where f.oid = to_regprocedure('app.verified()') and not f.prosecdef
