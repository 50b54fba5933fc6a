-- Each row is an attack that must fail. The statement runs as the role, in the context, and is rolled back.
with tenant_of_type (type, own, other) as (
    values ('uuid'::regtype, gen_random_uuid()::text, gen_random_uuid()::text),
           ('bigint'::regtype, '-4611686018427387904', '-4611686018427387905'),
           ('integer'::regtype, '-1073741824', '-1073741825'),
           ('smallint'::regtype, '-16384', '-16385'),
           ('text'::regtype, 'palisade doctor a', 'palisade doctor b'),
           ('varchar'::regtype, 'palisade doctor a', 'palisade doctor b')
),
target as (
    select c.oid, c.name, s.oid as role, s.rolname, a.attname, t.type, t.own, t.other
    from reached_table c
    join service s on exists (select from reachable r where r.relation = c.oid and r.role = s.oid)
    join pg_attribute a on a.attrelid = c.oid and a.attnum = c.tenant
    join tenant_of_type t on t.type = a.atttypid
)
select 'pg_class'::regclass::oid as catalog, t.oid as id, 'table ' || t.name as object,
       format('%I reads rows of %s %s.', t.rolname, t.name, read.as_whom) as problem,
       'find out why the policies do not hide the rows: the other rules name the usual causes' as fix,
       t.rolname::text as role, read.context, format('select from %s limit 1', t.name) as statement
from target t
cross join lateral (values ('without a context', ''), ('as a tenant that does not exist', t.own)) as read (as_whom, context)
where has_table_privilege(t.role, t.oid, 'select')
union all
select 'pg_class'::regclass, t.oid, 'table ' || t.name,
       format('%s, %I inserts a row of a tenant into %s.', write.as_whom, t.rolname, t.name),
       'find out why the policies do not reject the row: the other rules name the usual causes',
       t.rolname::text, write.context, format('insert into %s (%I) values (%L)', t.name, t.attname, t.other)
from target t
cross join lateral (values ('Without a context', ''), ('As another tenant', t.own)) as write (as_whom, context)
where has_column_privilege(t.role, t.oid, t.attname, 'insert')
