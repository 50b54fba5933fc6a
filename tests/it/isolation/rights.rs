//! The rights and policies in the catalogue of the database.

use std::{collections::BTreeSet, fmt::Write as _};

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::harness::{TestApp, attempt, palisade_test, scratch};

/// Tables whose rows belong to no tenant, with the reason. The test fails if one is protected or does not exist.
const SHARED: [(&str, &str); 5] = [
    (
        "_sqlx_migrations",
        "which migrations ran; no role of the service may see it",
    ),
    (
        "context_keys",
        "the keys of contexts; only the owner of app.verified() reads it",
    ),
    ("currencies", "read by every tenant and written by none"),
    (
        "identities",
        "people who can sign in; only the sign-in's role and the admin plane see them",
    ),
    (
        "replaced_context_keys",
        "hashes of the keys that were replaced; no role of the service may see it",
    ),
];

/// Indexes of tenants' tables that do not begin with the tenant, with the reason.
const ACROSS_TENANTS: [(&str, &str); 2] = [
    (
        "memberships_of_identity_idx",
        "not unique; serves the sign-in, which asks across tenants",
    ),
    (
        "tenants_slug_key",
        "a slug is an address that its owner chose in public",
    ),
];

/// Tables to which a foreign key may refer without including the tenant: they have no column `tenant_id`.
const SHARED_TARGETS: [&str; 3] = ["currencies", "identities", "tenants"];

/// Functions with `security definer` that a role may call, with the reason.
const DEFINERS: [(&str, &str); 7] = [
    (
        "app.cancel(text) for palisade_app",
        "cancels only statements of the login that calls it; returns whether there was one",
    ),
    (
        "app.limit_kept_responses() for palisade_app",
        "removes old responses of the tenant of the context; takes no argument, returns a number",
    ),
    (
        "app.schema_versions() for palisade_app",
        "returns the versions of the migrations; takes no argument",
    ),
    (
        "app.seal_audit_log() for palisade_app",
        "seals what the tenant of the context has written; takes no argument, returns a number",
    ),
    ("app.verified() for palisade_admin", VERIFIED),
    ("app.verified() for palisade_app", VERIFIED),
    ("app.verified() for palisade_auth", VERIFIED),
];

const VERIFIED: &str = "returns the context that the caller has set; takes no argument";

/// Runs a query and returns the first column of every row.
async fn names(connection: &mut PgConnection, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(connection).await.unwrap()
}

async fn catalogue() -> PgConnection {
    TestApp::shared().await.connect("postgres").await
}

/// Tables whose row level security does not have the required form.
async fn unprotected(connection: &mut PgConnection) -> Vec<String> {
    names(
        connection,
        "select c.relname::text
         from pg_class c
         where c.relnamespace in ('public'::regnamespace, 'app'::regnamespace)
           and c.relkind in ('r', 'p', 'm', 'f')
           and not (
               c.relrowsecurity and c.relforcerowsecurity
               and (select count(*) = 1
                           and bool_and(p.polname = 'tenant' and p.polcmd = '*' and p.polroles = '{0}'
                               and pg_get_expr(p.polqual, p.polrelid)
                                   = pg_get_expr(p.polwithcheck, p.polrelid)
                               and pg_get_expr(p.polqual, p.polrelid) = format(
                                   '(%s = ( SELECT app.tenant_id() AS tenant_id))',
                                   case c.relname when 'tenants' then 'id' else 'tenant_id' end))
                    from pg_policy p
                    where p.polrelid = c.oid and p.polpermissive
                      and ('palisade_app'::regrole = any (p.polroles) or 0 = any (p.polroles)))
           )
         order by 1",
    )
    .await
}

#[apply(palisade_test)]
async fn every_table_has_the_one_permissive_policy_or_a_reason_to_be_shared() {
    let mut connection = catalogue().await;
    let shared: Vec<&str> = SHARED.iter().map(|(name, _)| *name).collect();
    assert_eq!(unprotected(&mut connection).await, shared);
    let bare = names(
        &mut connection,
        "select c.relname::text from pg_class c, pg_roles r
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
           and (c.relname = '_sqlx_migrations' and r.rolname <> 'palisade_owner'
                or c.relname = 'identities' and r.rolname = 'palisade_app'
                or c.relkind in ('v', 'm', 'f'))
           and r.rolname ~ '^palisade_'
           and has_any_column_privilege(r.oid, c.oid, 'select, insert, update, references')",
    )
    .await;
    assert_eq!(bare, [""; 0], "visible to a role that must not see it");
    let writers = names(
        &mut connection,
        "select rolname::text from pg_roles
         where rolname ~ '^palisade_' and rolname <> 'palisade_owner'
           and has_table_privilege(rolname, 'currencies', 'insert, update, delete')",
    )
    .await;
    assert_eq!(writers, [""; 0], "a tenant could change what all read");
}

#[apply(palisade_test)]
async fn a_table_without_protection_is_detected() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let mut connection = app.connect("postgres").await;
    let before: BTreeSet<String> = unprotected(&mut connection).await.into_iter().collect();
    for change in [
        "create table bare (tenant_id uuid, id uuid)",
        "alter table projects no force row level security",
        "alter table products disable row level security",
        "create policy wide on comments for select using (true)",
        "alter policy tenant on invoices with check (true)",
        "drop policy tenant on users",
    ] {
        attempt(&mut connection, change.to_owned()).await.unwrap();
    }
    let after: BTreeSet<String> = unprotected(&mut connection).await.into_iter().collect();
    let found: Vec<&String> = after.difference(&before).collect();
    assert_eq!(
        found,
        [
            "bare", "comments", "invoices", "products", "projects", "users"
        ]
    );
}

#[apply(palisade_test)]
async fn every_key_and_index_of_a_tenants_table_begins_with_the_tenant() {
    let mut connection = catalogue().await;
    let across = names(
        &mut connection,
        "select i.indexrelid::regclass::text
         from pg_index i
         join pg_class c on c.oid = i.indrelid
         left join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
         left join pg_attribute id on id.attrelid = c.oid and id.attname = 'id'
         where c.relnamespace = 'public'::regnamespace
           and (a.attnum is not null or c.relname = 'tenants')
           and i.indkey[0] <> coalesce(a.attnum, id.attnum)
         order by 1",
    )
    .await;
    let allowed: Vec<&str> = ACROSS_TENANTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(across, allowed);
    let unique = names(
        &mut connection,
        "select indexrelid::regclass::text from pg_index
         where indisunique and indexrelid = 'memberships_of_identity_idx'::regclass",
    )
    .await;
    assert_eq!(unique, [""; 0], "its exemption rests on not being unique");
}

#[apply(palisade_test)]
async fn no_foreign_key_can_leave_the_tenant() {
    let mut connection = catalogue().await;
    // Both sides of a foreign key must begin with the tenant, and a deletion must not set the key's columns to null.
    let loose = names(
        &mut connection,
        "select distinct f.confrelid::regclass::text
         from pg_constraint f
         join pg_attribute a on a.attrelid = f.conrelid and a.attname = 'tenant_id'
         left join pg_attribute b on b.attrelid = f.confrelid and b.attname = 'tenant_id'
         where f.contype = 'f'
           and (b.attnum is null or f.conkey[1] <> a.attnum or f.confkey[1] <> b.attnum
                or f.confdeltype in ('n', 'd') or f.confupdtype <> 'a')
         order by 1",
    )
    .await;
    assert_eq!(loose, SHARED_TARGETS);
    let cascading = names(
        &mut connection,
        "select conname::text from pg_constraint
         where contype = 'f' and confdeltype <> 'a'
           and confrelid in ('currencies'::regclass, 'identities'::regclass, 'tenants'::regclass)",
    )
    .await;
    assert_eq!(
        cascading, [""; 0],
        "a shared row takes tenants' rows with it"
    );
}

#[apply(palisade_test)]
async fn no_role_has_a_privilege_that_row_level_security_does_not_cover() {
    let mut connection = catalogue().await;
    let uncovered = names(
        &mut connection,
        "select format('%s %s %s', g.grantee::regrole, g.privilege_type, c.oid::regclass)
         from pg_class c, aclexplode(c.relacl) g
         where c.relnamespace in ('public'::regnamespace, 'app'::regnamespace)
           and g.grantee <> c.relowner
           and (g.grantee = 0 or g.is_grantable
                or g.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))",
    )
    .await;
    assert_eq!(uncovered, [""; 0]);
    let definers = names(
        &mut connection,
        "select format('%s for %s', p.oid::regprocedure, r)
         from pg_proc p, unnest('{palisade_app,palisade_auth,palisade_admin}'::text[]) as r
         where p.prosecdef and has_function_privilege(r, p.oid, 'execute')
         union all
         select p.oid::regprocedure::text || ' has no search_path' from pg_proc p
         where p.prosecdef and not coalesce(p.proconfig::text ~ 'search_path=', false)
         order by 1",
    )
    .await;
    let allowed: Vec<&str> = DEFINERS.iter().map(|(name, _)| *name).collect();
    assert_eq!(definers, allowed, "runs with its owner's rights");
    let roles = names(
        &mut connection,
        "select format('%s is or has something', r.rolname) from pg_roles r
         where r.rolname in ('palisade_app', 'palisade_auth')
           and (r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication
                or exists (select from pg_auth_members where member = r.oid)
                or exists (select from pg_shdepend d
                           where d.refclassid = 'pg_authid'::regclass and d.refobjid = r.oid
                             and d.deptype = 'o')
                or has_schema_privilege(r.oid, 'public', 'create')
                or has_schema_privilege(r.oid, 'app', 'create')
                or has_database_privilege(r.oid, current_database(), 'create, temporary'))",
    )
    .await;
    assert_eq!(roles, [""; 0]);
}

#[apply(palisade_test)]
async fn functions_in_policies_are_stable_and_parallel_safe() {
    let mut connection = catalogue().await;
    let used =
        "select distinct p.oid::regprocedure::text, p.provolatile::text || p.proparallel::text
         from pg_depend d
         join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
         where d.classid = 'pg_policy'::regclass and p.pronamespace = 'app'::regnamespace
         order by 1";
    let rows = sqlx::query(used).fetch_all(&mut connection).await.unwrap();
    let functions: Vec<(String, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(functions.iter().any(|(name, _)| name == "app.tenant_id()"));
    for (name, form) in functions {
        assert_eq!(
            form, "ss",
            "{name}: IMMUTABLE would freeze a tenant into a plan"
        );
    }
}

#[apply(palisade_test)]
async fn the_sign_in_role_reads_the_directory_and_nothing_that_a_tenant_owns() {
    let mut connection = catalogue().await;
    let columns = names(
        &mut connection,
        "select format('%s.%s', c.relname, a.attname)
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
           and c.relname not in ('identities', 'memberships')
           and has_column_privilege('palisade_auth', c.oid, a.attnum, 'select, insert, update')
         order by 1",
    )
    .await;
    assert_eq!(
        columns,
        [
            "tenants.id",
            "tenants.name",
            "tenants.slug",
            "tenants.status"
        ]
    );
    let app = TestApp::shared().await;
    app.tenant().await.seed(1, 1).await;
    let mut auth = app.connect("palisade_auth").await;
    for table in ["users", "projects", "invoices", "audit_logs"] {
        let read = attempt(&mut auth, format!("select from {table}")).await;
        assert_eq!(read, Err("42501".to_owned()), "{table}");
    }
}

#[apply(palisade_test)]
async fn the_service_writes_neither_tenants_nor_identities(app: &'static TestApp) {
    let tenant = app.tenant().await;
    let mut service = tenant.begin().await.0;
    let mut auth = app.connect("palisade_auth").await;
    for write in [
        "insert into tenants (id, slug, name) values (gen_random_uuid(), 'planted', 'n')",
        "update tenants set plan = 'ENTERPRISE'",
        "update tenants set status = 'DELETING'",
        "update tenants set slug = 'another'",
        "update tenants set name = 'n'",
        "update tenants set version = 7",
        "delete from tenants",
        "insert into identities (id, email) values (gen_random_uuid(), 'planted@example.com')",
        "update identities set email = 'planted@example.com'",
        "delete from identities",
    ] {
        for connection in [&mut service, &mut auth] {
            let done = attempt(connection, write.to_owned()).await;
            assert_eq!(done, Err("42501".to_owned()), "{write}");
        }
    }
}

#[apply(palisade_test)]
async fn every_login_role_has_time_limits_and_logs_no_values() {
    let mut connection = catalogue().await;
    let settings = names(
        &mut connection,
        "select format('%s %s', s.setrole::regrole, setting)
         from pg_db_role_setting s, unnest(s.setconfig) as setting
         where s.setdatabase = 0 and s.setrole::regrole::text like 'palisade\\_%' order by 1",
    )
    .await;
    let mut expected = Vec::new();
    for (role, idle, lock, statement) in [
        ("palisade_admin", "10min", "2s", "5min"),
        ("palisade_app", "10s", "2s", "5s"),
        ("palisade_auth", "10s", "2s", "5s"),
    ] {
        expected.extend([
            format!("{role} idle_in_transaction_session_timeout={idle}"),
            format!("{role} lock_timeout={lock}"),
            format!("{role} log_error_verbosity=terse"),
            format!("{role} log_parameter_max_length=0"),
            format!("{role} log_parameter_max_length_on_error=0"),
            format!("{role} statement_timeout={statement}"),
        ]);
    }
    assert_eq!(settings, expected);
}

#[apply(palisade_test)]
async fn the_log_of_the_database_has_no_value_of_a_row(app: &'static TestApp) {
    let tenant = app.tenant().await;
    tenant.seed(1, 1).await;
    let mut service = tenant.begin().await.0;
    let mut admin = tenant.connect_as("palisade_admin", UserRole::Owner).await.0;
    let canary = format!("canary-{}", Uuid::now_v7().simple());
    let overlong_name = format!("{canary}{}", "x".repeat(200));
    let asin = canary[canary.len() - 10..].to_uppercase();
    // The parameters are bound, as the service binds all values.
    for (statement, value, code) in [
        (
            "insert into organizations (id, slug, name) values (app.uuid_v7(), 'too-long', $1)",
            overlong_name.as_str(),
            "23514",
        ),
        (
            "insert into products (id, asin) select app.uuid_v7(), $1 from generate_series(1, 2)",
            &asin,
            "23505",
        ),
        (
            "insert into products (id, asin, price_minor, currency)
             values (app.uuid_v7(), '0000000000', 1, $1)",
            &canary,
            "23503",
        ),
        (
            "insert into products (id, asin, title) values (app.uuid_v7(), null, $1)",
            &canary,
            "23502",
        ),
        ("select $1, 1 / (length($1) * 0)", &canary, "22012"),
        ("select pg_sleep(60) where $1 <> ''", &canary, "57014"),
    ] {
        for (sql, role) in [
            (&mut service, "palisade_app"),
            (&mut admin, "palisade_admin"),
        ] {
            if code == "57014" {
                attempt(sql, "set statement_timeout = '100ms'".to_owned())
                    .await
                    .unwrap();
            }
            let done = sqlx::query(statement).bind(value).execute(sql).await;
            let Err(sqlx::Error::Database(error)) = done else {
                panic!("{role}: {statement}: {done:?}");
            };
            assert_eq!(error.code().as_deref(), Some(code), "{role}: {statement}");
            // The client still receives the detail, unless row level security hides it.
            let error = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
            if (role, code) == ("palisade_admin", "23505") {
                assert!(error.detail().unwrap().contains(&asin), "{error:?}");
            }
        }
    }
    let log = scratch("postgres").await.join("postgres.log");
    let log = std::fs::read_to_string(log).unwrap();
    for written in [
        "violates check constraint \"organizations_name_length\"",
        "canceling statement due to statement timeout",
    ] {
        assert!(log.contains(written), "{written}");
    }
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(&canary) || line.contains(&asin))
        .collect();
    assert_eq!(lines, [""; 0]);
}

#[apply(palisade_test)]
async fn the_catalogue_is_as_reviewed() {
    let mut connection = catalogue().await;
    let tables = sqlx::query(
        "select c.oid, c.relname::text,
                case when c.relrowsecurity then 'row security' else 'NO ROW SECURITY' end
                || case when c.relforcerowsecurity then ', forced' else ', NOT FORCED' end
         from pg_class c
         where c.relnamespace in ('public'::regnamespace, 'app'::regnamespace)
           and c.relkind in ('r', 'p', 'v', 'm', 'f')
         order by 2",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut text = String::new();
    for table in tables {
        let (oid, name, security): (sqlx::postgres::types::Oid, String, String) =
            (table.get(0), table.get(1), table.get(2));
        writeln!(text, "{name}: {security}").unwrap();
        let lines: Vec<String> = sqlx::query_scalar(
            "select line from (
                 select 1, polname::text, format('policy %s: %s %s to %s%s%s', polname,
                     case when polpermissive then 'permissive' else 'restrictive' end,
                     case polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                                 when 'd' then 'delete' else 'all' end,
                     (select string_agg(case role when 0 then 'public' else role::regrole::text end, ', ')
                      from unnest(polroles) role),
                     E'\\n    using ' || pg_get_expr(polqual, polrelid),
                     E'\\n    check ' || pg_get_expr(polwithcheck, polrelid))
                 from pg_policy where polrelid = $1
                 union all
                 select 2, grantee::regrole::text, format('grant %s to %s',
                     lower(string_agg(privilege_type, ', ' order by privilege_type)), grantee::regrole)
                 from pg_class, aclexplode(relacl) where oid = $1 and grantee <> relowner group by grantee
                 union all
                 select 3, grantee::regrole::text, format('grant %s (%s) to %s', lower(privilege_type),
                     string_agg(attname, ', ' order by attnum), grantee::regrole)
                 from pg_attribute, aclexplode(attacl) where attrelid = $1 group by grantee, privilege_type
                 union all
                 select 4, conname::text, format('%s: %s', conname, pg_get_constraintdef(oid))
                 from pg_constraint where conrelid = $1 and contype in ('p', 'u', 'x', 'f')
                 union all
                 select 5, tgname::text, format('trigger %s: %s%s%s', tgname, tgfoid::regprocedure,
                     -- The arguments, each of which ends with a zero byte.
                     case when tgnargs > 0 then E'\\n    with ' || replace(
                         left(encode(tgargs, 'escape'), -4), '\\000', ', ') end,
                     case tgenabled when 'O' then '' else ' NOT ENABLED' end)
                 from pg_trigger where tgrelid = $1 and not tgisinternal
             ) lines (kind, name, line) order by kind, name",
        )
        .bind(oid)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        for line in lines {
            writeln!(text, "  {line}").unwrap();
        }
    }
    let functions = names(
        &mut connection,
        "select format('function %s: %s, parallel %s, security %s, for %s', p.oid::regprocedure,
                case provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
                case proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end,
                case when prosecdef then 'definer' else 'invoker' end,
                coalesce((select string_agg(case grantee when 0 then 'public' else grantee::regrole::text end,
                                            ', ' order by grantee::regrole::text)
                          from aclexplode(coalesce(proacl, acldefault('f', proowner)))
                          where grantee <> proowner), 'its owner alone'))
         from pg_proc p where pronamespace = 'app'::regnamespace order by 1",
    )
    .await;
    for function in functions {
        writeln!(text, "{function}").unwrap();
    }
    insta::assert_snapshot!(text);
}
