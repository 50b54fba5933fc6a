select 'pg_constraint'::regclass::oid as catalog, k.oid as id, format('constraint %I on %s', k.conname, c.name) as object,
       format('No index begins with the columns of the foreign key %I of %s, so the deletion of a referenced row reads '
              'the whole table.', k.conname, c.name) as problem,
       format('create index on %s (%s)', c.name, (
           select string_agg(quote_ident(a.attname), ', ' order by key.position)
           from unnest(k.conkey) with ordinality as key (number, position)
           join pg_attribute a on a.attrelid = k.conrelid and a.attnum = key.number)) as fix
from pg_constraint k
join tenant_table c on c.oid = k.conrelid
where k.contype = 'f' and k.conparentid = 0
  and not exists (
      select from pg_index i
      where i.indrelid = c.oid and i.indisvalid and i.indnkeyatts >= cardinality(k.conkey)
        and k.conkey @> (select array_agg(i.indkey[position])
                         from generate_series(0, cardinality(k.conkey) - 1) as position))
