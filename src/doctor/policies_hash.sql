-- A hash of what the rules about the expressions of policies read. It prints no expression, so it needs no lock on a
-- table.
select md5(concat_ws(E'\n',
    (select string_agg(concat_ws(' ', p.oid, p.polname, p.polrelid, p.polcmd, p.polpermissive, p.polroles,
                                 p.polqual::text, p.polwithcheck::text), E'\n' order by p.oid)
       from pg_policy p join relation c on c.oid = p.polrelid),
    (select string_agg(concat_ws(' ', f.oid, f.proname, f.prosrc, f.prosqlbody::text, f.proconfig::text), E'\n' order by f.oid)
       from routine f),
    (select string_agg(concat_ws(' ', c.oid, c.name, c.relkind, c.tenant, c.relrowsecurity, c.relacl::text), E'\n' order by c.oid)
       from relation c),
    (select string_agg(concat_ws(' ', a.attrelid, a.attnum, a.attname, a.attacl::text), E'\n' order by a.attrelid, a.attnum)
       from pg_attribute a
       join relation c on c.oid = a.attrelid and (a.attnum = c.tenant or a.attacl is not null)),
    (select string_agg(concat_ws(' ', s.oid, s.rolname, s.rolsuper), E'\n' order by s.oid) from service s),
    (select string_agg(concat_ws(' ', m.roleid, m.member), E'\n' order by m.roleid, m.member) from pg_auth_members m)
))
