-- The minor releases with the last known fixes of row level security and of its neighbors.
select 'pg_database'::regclass::oid as catalog, d.oid as id, 'server' as object,
       format('PostgreSQL %s lacks security fixes.', current_setting('server_version')) as problem,
       format('install PostgreSQL %s.%s or newer', floor.major, floor.minor) as fix
from pg_database d
cross join (values (15, 18), (16, 14), (17, 10), (18, 4)) as floor (major, minor)
where d.datname = current_database()
  and current_setting('server_version_num')::integer / 10000 = floor.major
  and current_setting('server_version_num')::integer % 10000 < floor.minor
