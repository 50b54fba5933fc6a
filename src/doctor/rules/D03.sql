select owned.catalog, owned.id, owned.kind || ' ' || owned.name as object,
       format('The role %I %s the %s %s.', s.rolname,
              case when owned.owner = s.oid then 'owns'
                   else format('is a member of %I, which owns', o.rolname) end,
              owned.kind, owned.name) as problem,
       case when owned.owner = s.oid
            then format('alter %s %s owner to <another role>', owned.kind, owned.name)
            else (select string_agg(format('revoke %I from %I', direct.rolname, s.rolname), '; ' order by direct.rolname)
                    from pg_auth_members m
                    join pg_roles direct on direct.oid = m.roleid
                   where m.member = s.oid and pg_has_role(m.roleid, o.oid, 'member')) end as fix
from service s
cross join lateral (
    select 'pg_class'::regclass::oid as catalog, oid as id, relowner as owner, name,
           case relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table'
                        when 'S' then 'sequence' else 'table' end as kind
    from relation
    union all
    select 'pg_proc'::regclass, oid, proowner, name, case prokind when 'p' then 'procedure' else 'function' end
    from routine
    union all
    select 'pg_namespace'::regclass, oid, nspowner, quote_ident(nspname), 'schema' from namespace
    union all
    select 'pg_database'::regclass, oid, datdba, quote_ident(datname), 'database'
    from pg_database where datname = current_database()
) as owned
join pg_roles o on o.oid = owned.owner
where not s.rolsuper and pg_has_role(s.oid, owned.owner, 'member')
