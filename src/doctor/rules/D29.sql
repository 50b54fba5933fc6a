select 'pg_extension'::regclass::oid as catalog, e.oid as id, format('extension %I', e.extname) as object,
       format('The extension %I opens ways around row level security.', e.extname) as problem,
       format('drop extension %I', e.extname) as fix
from pg_extension e
where e.extname in ('dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'refint', 'pageinspect')
union all
select 'pg_language'::regclass, l.oid, format('language %I', l.lanname),
       format('The language %I is not trusted: its functions read files and run programs.', l.lanname),
       format('drop language %I', l.lanname)
from pg_language l
where l.lanispl and not l.lanpltrusted
