select 'pg_rewrite'::regclass::oid as catalog, r.oid as id, format('rule %I on %s', r.rulename, c.name) as object,
       format('The rule %I replaces statements on %s by others.', r.rulename, c.name) as problem,
       format('drop rule %I on %s', r.rulename, c.name) as fix
from pg_rewrite r
join relation c on c.oid = r.ev_class
where r.rulename <> '_RETURN'
union all
select 'pg_event_trigger'::regclass, t.oid, format('event trigger %I', t.evtname),
       format('The event trigger %I runs at each %s of any role.', t.evtname, t.evtevent),
       format('drop event trigger %I', t.evtname)
from pg_event_trigger t
where t.evtenabled <> 'D'
  and not exists (select from of_extension e where e.classid = 'pg_event_trigger'::regclass and e.objid = t.oid)
