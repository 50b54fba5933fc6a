select 'pg_authid'::regclass::oid as catalog, s.oid as id, format('role %I', s.rolname) as object,
       format('%s is not %s for %I, so the log of PostgreSQL can quote values of rows.', wanted.name, wanted.value,
              s.rolname) as problem,
       format('alter role %I set %s = %s', s.rolname, wanted.name, wanted.value) as fix
from service s
cross join (values
    ('log_error_verbosity', 'terse'), ('log_parameter_max_length', '0'), ('log_parameter_max_length_on_error', '0')
) as wanted (name, value)
where (select r.value from role_setting r where r.role = s.oid and r.name = wanted.name
       order by r.setrole = 0, r.setdatabase = 0 limit 1) is distinct from wanted.value
