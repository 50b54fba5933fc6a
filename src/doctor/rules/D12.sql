select 'pg_constraint'::regclass::oid as catalog, k.oid as id, format('constraint %I on %s', k.conname, c.name) as object,
       format('The foreign key %I of %s to %s does not contain %I on both sides. PostgreSQL checks it without row level '
              'security, so a tenant can reference, test and delete rows of another tenant.',
              k.conname, c.name, target.name, p.tenant_column) as problem,
       format('alter table %s drop constraint %I, add constraint %2$I foreign key (%I, %s) references %s (%3$I, %s)',
              c.name, k.conname, p.tenant_column, own.columns, target.name, other.columns) as fix
from pg_constraint k
join tenant_table c on c.oid = k.conrelid
join tenant_table target on target.oid = k.confrelid
cross join parameter p
cross join lateral (
    select string_agg(quote_ident(a.attname), ', ' order by key.position) as columns
    from unnest(k.conkey) with ordinality as key (number, position)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = key.number and a.attnum <> c.tenant
) as own
cross join lateral (
    select string_agg(quote_ident(a.attname), ', ' order by key.position) as columns
    from unnest(k.confkey) with ordinality as key (number, position)
    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = key.number and a.attnum <> target.tenant
) as other
where k.contype = 'f' and k.conparentid = 0
  and not exists (
      select from unnest(k.conkey, k.confkey) as pair (own, other)
      where pair.own = c.tenant and pair.other = target.tenant)
