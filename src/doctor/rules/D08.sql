-- The permissive policies of each reached table that apply to a role of the service. The first one of a command is the
-- one that names the tenant column.
with permissive as (
    select distinct p.oid, p.polrelid, p.name, p.table_name, p.polname,
           row_number() over (
               partition by p.polrelid, s.oid, command
               order by coalesce(p.using_text, p.check_text, '') like '%' || (select tenant_column from parameter) || '%' desc,
                        p.oid
           ) > 1 as is_further
    from policy p
    join service s on p.polroles = '{0}' or exists (
        select from unnest(p.polroles) as r (oid) where pg_has_role(s.oid, r.oid, 'usage'))
    cross join unnest('{r,a,w,d}'::"char"[]) as command
    where p.polpermissive and p.polcmd in ('*', command)
)
select 'pg_class'::regclass::oid as catalog, c.oid as id, 'table ' || c.name as object,
       format('No policy of %s permits %I anything: every row is hidden.', c.name, r.rolname) as problem,
       format('create policy tenant on %s for all using (%I = <the tenant of the context>) '
              'with check (%2$I = <the tenant of the context>)', c.name, p.tenant_column) as fix
from reached_table c
join reachable r on r.relation = c.oid
join service s on s.oid = r.role
cross join parameter p
where c.relrowsecurity
  and not exists (
      select from policy q where q.polrelid = c.oid and q.polpermissive
         and (q.polroles = '{0}' or exists (
             select from unnest(q.polroles) as o (oid) where pg_has_role(s.oid, o.oid, 'usage'))))
union all
select distinct 'pg_policy'::regclass::oid, f.oid, 'policy ' || f.name,
       format('%s has more than one permissive policy for the same command. PostgreSQL combines them with OR, so %I '
              'permits rows that the other one rejects.', f.table_name, f.polname),
       format('drop policy %s; or create it again as restrictive', f.name)
from permissive f
where f.is_further
