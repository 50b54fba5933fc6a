//! The rest of the catalogue as reviewed files: owners, columns, indexes, functions with their settings, triggers, and
//! roles. `isolation/rights.rs` has the tables with their policies, grants and keys.
//!
//! After a change of a migration, run these tests with `INSTA_UPDATE=always` and review the difference.

use std::fmt::Write as _;

use macro_rules_attribute::apply;
use sqlx::PgConnection;

use crate::harness::{TestApp, palisade_test};

/// Runs queries that return one line per row. Returns their lines below their titles.
async fn lines(connection: &mut PgConnection, queries: &[(&str, &'static str)]) -> String {
    let mut text = String::new();
    for (title, query) in queries {
        let rows: Vec<String> = sqlx::query_scalar(*query)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        writeln!(text, "{title}:").unwrap();
        for row in rows {
            writeln!(text, "  {row}").unwrap();
        }
    }
    text
}

#[apply(palisade_test)]
async fn the_functions_and_triggers_are_as_reviewed(app: &'static TestApp) {
    let mut connection = app.connect("postgres").await;
    let text = lines(
        &mut connection,
        &[
            (
                "functions",
                "select format('%s: owner %s, %s, %s, parallel %s, security %s, settings %s, for %s',
                        p.oid::regprocedure, p.proowner::regrole, l.lanname,
                        case provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
                        case proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end,
                        case when prosecdef then 'definer' else 'invoker' end,
                        coalesce(array_to_string(p.proconfig, '; '), 'none'),
                        coalesce((select string_agg(case grantee when 0 then 'public' else grantee::regrole::text end,
                                                    ', ' order by grantee::regrole::text)
                                  from aclexplode(coalesce(proacl, acldefault('f', proowner)))
                                  where grantee <> proowner), 'its owner alone'))
                 from pg_proc p
                 join pg_language l on l.oid = p.prolang
                 where p.pronamespace in ('app'::regnamespace, 'public'::regnamespace)
                   and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
                 order by p.oid::regprocedure::text",
            ),
            (
                "triggers",
                "select format('%s%s', pg_get_triggerdef(t.oid, true),
                        case t.tgenabled when 'O' then '' else ' NOT ENABLED' end)
                 from pg_trigger t
                 join pg_class c on c.oid = t.tgrelid
                 where not t.tgisinternal
                 order by c.relname, t.tgname",
            ),
            (
                "event triggers",
                "select evtname::text from pg_event_trigger order by 1",
            ),
        ],
    )
    .await;
    insta::assert_snapshot!(text);
}

#[apply(palisade_test)]
async fn the_owners_columns_and_indexes_are_as_reviewed(app: &'static TestApp) {
    let mut connection = app.connect("postgres").await;
    let text = lines(
        &mut connection,
        &[
            (
                "relations",
                "select format('%s %s: owner %s', case relkind when 'r' then 'table' when 'p' then 'partitioned table'
                        when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' else relkind::text end,
                        c.oid::regclass, c.relowner::regrole)
                 from pg_class c
                 where c.relnamespace in ('app'::regnamespace, 'public'::regnamespace) and c.relkind not in ('i', 'I', 't', 'c')
                 order by c.oid::regclass::text",
            ),
            (
                "columns",
                "select format('%s.%s: %s%s%s%s', c.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
                        case when a.attnotnull then ' not null' else '' end,
                        case when a.attcollation <> t.typcollation then ' collate ' || l.collname else '' end,
                        case when d.oid is not null then case a.attgenerated when '' then ' default ' else ' generated ' end
                             || pg_get_expr(d.adbin, d.adrelid) else '' end)
                 from pg_class c
                 join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                 join pg_type t on t.oid = a.atttypid
                 left join pg_collation l on l.oid = a.attcollation
                 left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
                 where c.relnamespace in ('app'::regnamespace, 'public'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm')
                   and c.relname <> '_sqlx_migrations'
                 order by c.oid::regclass::text, a.attnum",
            ),
            (
                "checks",
                "select format('%s: %s', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
                 where contype = 'c' and connamespace in ('app'::regnamespace, 'public'::regnamespace)
                 order by conrelid::regclass::text, conname",
            ),
            (
                "indexes",
                "select pg_get_indexdef(i.indexrelid) from pg_index i
                 join pg_class c on c.oid = i.indexrelid
                 where c.relnamespace in ('app'::regnamespace, 'public'::regnamespace)
                 order by c.relname",
            ),
        ],
    )
    .await;
    insta::assert_snapshot!(text);
}

/// Other tests create roles with digits in their names.
#[apply(palisade_test)]
async fn the_roles_are_as_reviewed(app: &'static TestApp) {
    let mut connection = app.connect("postgres").await;
    let text = lines(
        &mut connection,
        &[
            (
                "roles",
                "select format('%s:%s%s%s%s%s%s%s', r.rolname,
                        case when rolcanlogin then ' login' else ' nologin' end,
                        case when rolsuper then ' SUPERUSER' else '' end,
                        case when rolbypassrls then ' bypassrls' else '' end,
                        case when rolcreaterole then ' CREATEROLE' else '' end,
                        case when rolcreatedb then ' CREATEDB' else '' end,
                        case when rolreplication then ' REPLICATION' else '' end,
                        case when rolconnlimit >= 0 then ' connection limit ' || rolconnlimit else '' end)
                 from pg_roles r where rolname ~ '^palisade_[a-z]+$' order by rolname",
            ),
            (
                "memberships",
                "select format('%s is a member of %s', m.member::regrole, m.roleid::regrole) from pg_auth_members m
                 where m.member::regrole::text ~ '^palisade_[a-z]+$'
                    or m.member::regrole::text !~ '^palisade_' and m.roleid::regrole::text ~ '^palisade_[a-z]+$' order by 1",
            ),
            (
                "settings",
                "select format('%s %s: %s', s.setrole::regrole, case s.setdatabase when 0 then 'in every database' else 'in this database' end, setting)
                 from pg_db_role_setting s, unnest(s.setconfig) as setting
                 where s.setrole::regrole::text ~ '^palisade_[a-z]+$'
                   and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
                 order by 1",
            ),
            (
                "rights on the database",
                "select format('%s to %s', string_agg(lower(privilege_type), ', ' order by privilege_type),
                        case grantee when 0 then 'public' else grantee::regrole::text end)
                 from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
                 where datname = current_database() and grantee <> datdba group by grantee order by grantee::regrole::text",
            ),
            (
                "rights on the schemas",
                "select format('%s (owner %s): %s to %s', nspname, nspowner::regrole,
                        string_agg(lower(privilege_type), ', ' order by privilege_type),
                        case grantee when 0 then 'public' else grantee::regrole::text end)
                 from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
                 where nspname in ('app', 'public') and grantee <> nspowner
                 group by nspname, nspowner, grantee order by nspname, grantee::regrole::text",
            ),
            (
                "default rights",
                "select format('%s %s', defaclrole::regrole, defaclacl) from pg_default_acl order by 1",
            ),
            (
                "extensions",
                "select extname::text from pg_extension order by 1",
            ),
        ],
    )
    .await;
    insta::assert_snapshot!(text);
}
