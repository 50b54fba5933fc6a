select 'pg_authid'::regclass::oid as catalog, s.oid as id, format('role %I', s.rolname) as object,
       format('%I has no %s.', s.rolname, timeout.name) as problem,
       format('alter role %I set %s = %L', s.rolname, timeout.name, timeout.value) as fix
from service s
cross join (values
    ('statement_timeout', '5s'), ('lock_timeout', '2s'), ('idle_in_transaction_session_timeout', '10s')
) as timeout (name, value)
where coalesce((
    select r.value from role_setting r where r.role = s.oid and r.name = timeout.name
    order by r.setrole = 0, r.setdatabase = 0 limit 1), '0') = '0'
