select 'pg_publication'::regclass::oid as catalog, b.oid as id, format('publication %I', b.pubname) as object,
       format('The publication %I sends the rows of all tenants of %s to its subscribers.', b.pubname, c.name) as problem,
       case when b.puballtables then format('drop publication %I; create it again for single tables with a row filter',
                                            b.pubname)
            else format('alter publication %I set table %s where (%I = <a tenant>)', b.pubname, c.name, p.tenant_column)
       end as fix
from pg_publication b
join pg_publication_tables t on t.pubname = b.pubname
join tenant_table c on c.oid = format('%I.%I', t.schemaname, t.tablename)::regclass
cross join parameter p
where t.rowfilter is null
