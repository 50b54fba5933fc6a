-- A relation is an audit log by its name: it begins with `audit_`.
select 'pg_class'::regclass::oid as catalog, c.oid as id, 'relation ' || c.name as object,
       format('%s is not a table, so what it shows can differ from what is stored.', c.name) as problem,
       format('drop %s %s; and rename the table back', case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
                                                                      else 'foreign table' end, c.name) as fix
from relation c
where c.relname ~ '^audit_' and c.relkind in ('v', 'm', 'f')
