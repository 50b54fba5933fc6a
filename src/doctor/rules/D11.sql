-- PostgreSQL prints a sub-select as `( SELECT app.tenant_id() AS tenant_id)`. What is left after the removal of all
-- sub-selects, with up to three levels of parentheses in them, runs once per row.
with expression as (
    select p.oid, p.name, regexp_replace(text, '\( SELECT (?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\)', '', 'g') as text
    from policy p
    cross join unnest(array[p.using_text, p.check_text]) as text
    where text is not null
)
select distinct 'pg_policy'::regclass::oid as catalog, e.oid as id, 'policy ' || e.name as object,
       format('The policy %s calls %s once per row, not once per statement.', e.name, call.name) as problem,
       format('alter policy %s using (… (select %s) …) with check (… (select %2$s) …)', e.name, call.name) as fix
from expression e
cross join lateral (
    select 'current_setting(…)' as name where e.text ~ '\mcurrent_setting\('
    union all
    select format('%I.%I()', n.nspname, f.proname)
    from pg_depend d
    join pg_proc f on f.oid = d.refobjid and f.pronargs = 0 and f.provolatile <> 'i'
    join pg_namespace n on n.oid = f.pronamespace
    where d.classid = 'pg_policy'::regclass and d.objid = e.oid and d.refclassid = 'pg_proc'::regclass
      and e.text ~ ('\m' || f.proname || '\(\)')
) as call
