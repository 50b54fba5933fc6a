select 'pg_authid'::regclass::oid as catalog, s.oid as id, format('role %I', s.rolname) as object,
       format('The role %I has %s.', s.rolname, attribute.name) as problem,
       format('alter role %I no%s', s.rolname, lower(attribute.name)) as fix
from service s
cross join lateral (values
    ('SUPERUSER', s.rolsuper), ('BYPASSRLS', s.rolbypassrls),
    ('CREATEROLE', s.rolcreaterole), ('REPLICATION', s.rolreplication)
) as attribute (name, is_set)
where attribute.is_set
