select 'pg_default_acl'::regclass::oid as catalog, d.oid as id,
       format('default privileges of %s', d.defaclrole::regrole) as object,
       format('The default privileges of %s give %s rights on every new object%s.', d.defaclrole::regrole,
              coalesce(quote_ident(s.rolname), 'PUBLIC'),
              case when d.defaclnamespace = 0 then '' else ' in the schema ' || d.defaclnamespace::regnamespace end)
           as problem,
       format('alter default privileges for role %s%s revoke all on %s from %s', d.defaclrole::regrole,
              case when d.defaclnamespace = 0 then '' else ' in schema ' || d.defaclnamespace::regnamespace end,
              case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                                   when 'T' then 'types' else 'schemas' end,
              coalesce(quote_ident(s.rolname), 'public')) as fix
from pg_default_acl d
cross join lateral (select distinct grantee from aclexplode(d.defaclacl)) as a
left join service s on s.oid = a.grantee
where a.grantee = 0 or s.oid is not null
