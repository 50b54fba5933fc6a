select distinct 'pg_class'::regclass::oid as catalog, i.indexrelid as id,
       'index ' || i.indexrelid::regclass::text as object,
       format('The column %s of the index %s is compared by %s, which is not leakproof. Under row level security, '
              'PostgreSQL does not use the index for it.',
              position + 1, i.indexrelid::regclass, fault.name) as problem,
       format('drop index %s; create an index on a column whose operators are leakproof: text, uuid, integer, boolean, '
              'date or timestamptz', i.indexrelid::regclass) as fix
from tenant_table c
join pg_index i on i.indrelid = c.oid
cross join generate_series(0, i.indnkeyatts - 1) as position
join pg_opclass o on o.oid = i.indclass[position]
cross join lateral (
    select 'an expression' as name where i.indkey[position] = 0
    union all
    select 'the operator ' || min(m.amopopr::regoperator::text)
    from pg_amop m
    join pg_operator p on p.oid = m.amopopr
    join pg_proc f on f.oid = p.oprcode
    where i.indkey[position] <> 0 and m.amopfamily = o.opcfamily and m.amoplefttype = o.opcintype
      and (m.amoprighttype = o.opcintype or not exists (
          select from pg_amop e where e.amopfamily = o.opcfamily and e.amoplefttype = o.opcintype
             and e.amoprighttype = o.opcintype))
      and m.amoppurpose = 's' and not f.proleakproof
    having count(*) > 0
) as fault
where c.relrowsecurity
