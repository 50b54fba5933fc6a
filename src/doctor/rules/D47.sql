-- Only for the schema of Palisade: app.context_keys has the keys, and the owner of app.verified() reads them.
select 'pg_class'::regclass::oid as catalog, c.oid as id, 'table ' || c.name as object,
       format('%I can read or write %s.', s.rolname, c.name) as problem,
       format('revoke all on %s from public, %I', c.name, s.rolname) as fix
from relation c
join service s on has_any_column_privilege(s.oid, c.oid, 'select, insert, update')
               or has_table_privilege(s.oid, c.oid, 'delete, truncate')
where c.oid = to_regclass('app.context_keys') and not s.rolsuper
union all
select 'pg_authid'::regclass::oid, o.oid, format('role %I', o.rolname),
       format('%I, which owns %s, can log in or bypasses row level security.', o.rolname, f.name),
       format('alter role %I nologin nosuperuser nobypassrls', o.rolname)
from routine f
join pg_roles o on o.oid = f.proowner
where f.oid = to_regprocedure('app.verified()') and f.prosecdef and o.rolname = 'palisade_context'
  and (o.rolcanlogin or o.rolsuper or o.rolbypassrls)
