-- Permissive policies of tenant tables decide which rows a tenant sees. Restrictive ones only take rows away.
-- `reader` is the functions that read the setting, also those that call such a function.
with recursive reader as (
    select f.oid
    from pg_proc f
    join pg_namespace n on n.oid = f.pronamespace and n.nspname not in ('pg_catalog', 'information_schema')
    cross join parameter p
    where case when f.prokind = 'f' then position(quote_literal(p.setting) in pg_get_functiondef(f.oid)) > 0 end
    union
    select d.objid
    from reader r
    join pg_depend d on d.refclassid = 'pg_proc'::regclass and d.refobjid = r.oid and d.classid = 'pg_proc'::regclass
),
expression as (
    select p.oid, p.name, p.polname, p.polrelid, part.name as part, part.text
    from policy p
    cross join lateral (values ('USING', p.using_text), ('WITH CHECK', p.check_text)) as part (name, text)
    where p.polpermissive and p.tenant is not null and part.text is not null
      and exists (
          select from service s where p.polroles = '{0}' or exists (
              select from unnest(p.polroles) as r (oid) where pg_has_role(s.oid, r.oid, 'usage')))
),
judged as (
    select e.*, case
        when e.text = 'true' then 'is always true'
        -- Neither a helper with the name of the column, nor the name of its result in a sub-select.
        when regexp_replace(e.text, '\( SELECT (?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\)', '', 'g')
             !~ ('\m' || p.tenant_column || '\M(?!\()') then format('does not compare the column %I', p.tenant_column)
        when e.text ~ '\mOR\M' then 'contains OR, so a second condition opens rows of other tenants'
        when e.text ~ 'current_setting\(''' and replace(e.text, format('current_setting(''%s''', p.setting), '')
             ~ 'current_setting\(' then format('reads a setting other than %s', p.setting)
        when e.text !~ ('current_setting\(''' || p.setting || '''') and not exists (
             select from pg_depend d
             join reader f on f.oid = d.refobjid
             where d.classid = 'pg_policy'::regclass and d.objid = e.oid and d.refclassid = 'pg_proc'::regclass
               -- The context of Palisade has more fields than the tenant.
               and f.oid = coalesce(to_regprocedure('app.tenant_id()'), f.oid))
             then format('does not read the setting %s', p.setting)
        end as verdict
    from expression e
    cross join parameter p
)
select 'pg_policy'::regclass::oid as catalog, j.oid as id, 'policy ' || j.name as object,
       format('The %s expression of the policy %s %s: %s', j.part, j.name, j.verdict, j.text) as problem,
       format('alter policy %s using (%I = <the tenant of the context>) with check (%2$I = <the tenant of the context>)',
              j.name, p.tenant_column) as fix
from judged j
cross join parameter p
where j.verdict is not null
