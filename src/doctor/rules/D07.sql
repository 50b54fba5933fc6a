with tenant_column as (
    select c.oid, c.name, a.attname, a.attnotnull, format_type(a.atttypid, a.atttypmod) as type
    from tenant_table c
    join pg_attribute a on a.attrelid = c.oid and a.attnum = c.tenant
),
usual as (
    select mode() within group (order by type) as type from tenant_column
)
select 'pg_class'::regclass::oid as catalog, c.oid as id, 'table ' || c.name as object,
       format('The column %I of %s may be null.', c.attname, c.name) as problem,
       format('alter table %s alter column %I set not null', c.name, c.attname) as fix
from tenant_column c
where not c.attnotnull
union all
select 'pg_class'::regclass, c.oid, 'table ' || c.name,
       format('The column %I of %s has the type %s; in most tables it has the type %s.',
              c.attname, c.name, c.type, usual.type),
       format('alter table %s alter column %I type %s using %2$I::%3$s', c.name, c.attname, usual.type)
from tenant_column c
cross join usual
where c.type <> usual.type
