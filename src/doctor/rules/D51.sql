-- D51
-- Only for the schema of Palisade, whose statements contain signed contexts.
select 'pg_database'::regclass::oid as catalog, d.oid as id, format('database %I', d.datname) as object,
       format('%I may connect to the database %I.', s.rolname, d.datname) as problem,
       format('revoke connect on database %I from public, %I', d.datname, s.rolname) as fix
from pg_database d
join service s on has_database_privilege(s.oid, d.oid, 'connect')
where d.datname <> current_database() and d.datallowconn and not s.rolsuper
  -- The other role of the service opens no transactions with a context, and null is false.
  and has_function_privilege(s.oid, to_regprocedure('app.cancel(text)'), 'execute')
