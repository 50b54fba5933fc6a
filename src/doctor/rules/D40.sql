-- The triggers of foreign keys are internal. They are disabled by `alter table … disable trigger all`.
select 'pg_trigger'::regclass::oid as catalog, t.oid as id, format('trigger %I on %s', t.tgname, c.name) as object,
       format('The trigger %I of %s does not fire.', t.tgname, c.name) as problem,
       case when t.tgisinternal then format('alter table %s enable trigger all', c.name)
            else format('alter table %s enable trigger %I', c.name, t.tgname) end as fix
from pg_trigger t
join relation c on c.oid = t.tgrelid
where t.tgenabled in ('D', 'R')
union all
select 'pg_authid'::regclass, r.role, format('role %I', r.rolname),
       format('session_replication_role is %s for %I, so its statements fire no trigger.', r.value, r.rolname), r.reset
from role_setting r
where r.name = 'session_replication_role' and r.value = 'replica'
