select 'pg_policy'::regclass::oid as catalog, p.oid as id, 'policy ' || p.name as object,
       format('The policy %s %s.', p.name, case
           when p.check_text is null then 'has no WITH CHECK, so what may be written depends on the expression for reading'
           else format('lets a tenant write rows that it may not read: WITH CHECK is %s', p.check_text) end) as problem,
       format('alter policy %s with check (%s)', p.name, p.using_text) as fix
from policy p
where p.polpermissive and p.tenant is not null and p.polcmd in ('*', 'w')
  and p.check_text is distinct from p.using_text
