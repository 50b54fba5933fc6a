select 'pg_authid'::regclass::oid as catalog, r.role as id, format('role %I', r.rolname) as object,
       format('%s has a default for %I: a session without a context acts for a tenant.', r.name, r.rolname) as problem,
       r.reset as fix
from role_setting r
cross join parameter p
where r.name like split_part(p.setting, '.', 1) || '.%'
