-- What every rule can select from. `Scope` in mod.rs has the parameters. The search_path is `pg_catalog, pg_temp`, so
-- regclass and regprocedure print names with their schema.
with parameter as (
    select $1::text[] as roles, $2::text as tenant_column, $3::text as setting, $4::text[] as schemas
),
-- The roles with which the service connects. By default the role that has logged in, to which RESET ROLE returns.
service as (
    select r.* from pg_roles r join parameter p
        on case when p.roles = '{}' then r.rolname = session_user else r.rolname = any (p.roles) end
),
-- The inspected schemas.
namespace as (
    select n.* from pg_namespace n join parameter p
        on case when p.schemas = '{}' then n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
                else n.nspname = any (p.schemas) end
),
-- The objects that belong to an extension are not inspected.
of_extension as (
    select classid, objid from pg_depend where deptype = 'e'
),
-- The tables, views and sequences. `tenant` is the number of the tenant column, or null.
relation as (
    select c.*, c.oid::regclass::text as name, a.attnum as tenant
    from pg_class c
    join namespace n on n.oid = c.relnamespace
    cross join parameter p
    left join pg_attribute a on a.attrelid = c.oid and a.attname = p.tenant_column and not a.attisdropped
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and not exists (select from of_extension e where e.classid = 'pg_class'::regclass and e.objid = c.oid)
),
-- The functions and procedures.
routine as (
    select r.*, r.oid::regprocedure::text as name
    from pg_proc r
    join namespace n on n.oid = r.pronamespace
    where r.prokind in ('f', 'p')
      and not exists (select from of_extension e where e.classid = 'pg_proc'::regclass and e.objid = r.oid)
),
-- What a role of the service can read or write, through its own rights, those of its groups and those of PUBLIC.
reachable as (
    select s.oid as role, s.rolname, c.oid as relation
    from service s
    cross join relation c
    where c.relkind <> 'S'
      and (has_table_privilege(s.oid, c.oid, 'select, insert, update, delete')
           or has_any_column_privilege(s.oid, c.oid, 'select, insert, update'))
),
-- The tables that a role of the service reaches, without partitions and inheritance children: D19 checks those.
reached_table as (
    select * from relation c
    where c.relkind in ('r', 'p')
      and exists (select from reachable r where r.relation = c.oid)
      and not exists (select from pg_inherits i where i.inhrelid = c.oid)
),
-- The tables with a tenant column, also those that the service does not reach.
tenant_table as (
    select * from relation c where c.relkind in ('r', 'p') and c.tenant is not null
),
-- The policies, with their expressions as text.
policy as (
    select p.*, c.name as table_name, c.tenant, format('%I on %s', p.polname, c.name) as name,
           pg_get_expr(p.polqual, p.polrelid) as using_text, pg_get_expr(p.polwithcheck, p.polrelid) as check_text
    from pg_policy p
    join relation c on c.oid = p.polrelid
),
-- The settings of a role of the service that apply in this database, also those for all roles.
role_setting as (
    select s.oid as role, s.rolname, d.setrole, d.setdatabase, split_part(config, '=', 1) as name,
           substr(config, position('=' in config) + 1) as value,
           format('alter %s reset %s',
               case when d.setrole = 0 then format('database %I', current_database())
                    when d.setdatabase = 0 then format('role %I', s.rolname)
                    else format('role %I in database %I', s.rolname, current_database()) end,
               split_part(config, '=', 1)) as reset
    from service s
    join pg_db_role_setting d on d.setrole in (0, s.oid)
    join pg_database b on b.datname = current_database() and d.setdatabase in (0, b.oid)
    cross join unnest(d.setconfig) as config
),
