//! Opens one gap in the isolation at a time. Each must be found.
//!
//! A missing policy alone shows nothing foreign, because each statement names the tenant, too. So these tests take the
//! tenant predicate away first. Then row level security alone isolates the tenants.

use macro_rules_attribute::apply;
use palisade::{
    entities::ENTITIES,
    prove::{
        self,
        report::{Problem, Report},
    },
};
use uuid::Uuid;

use super::{assert_isolated, attack, has, tenants};
use crate::harness::{
    FieldExt as _, REMOVE_CANARY, ServiceOptions, Tenant, TestApp, attempt, entity, model,
    palisade_test, without_predicate,
};

/// The fields that read or write projects without a parent, which the database still hides.
const FIELDS: [&str; 5] = [
    "Query.node",
    "Query.project",
    "Query.projects",
    "Mutation.updateProject",
    "Mutation.deleteProject",
];

/// Two tenants in a database of their own, whose projects only row level security isolates.
async fn only_policies() -> (&'static TestApp, Tenant, Tenant) {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let (a, b) = tenants(app).await;
    without_predicate(app, "projects").await;
    // The service would replace each response that contains the canary.
    execute(app, REMOVE_CANARY).await;
    (app, a, b)
}

async fn execute(app: &TestApp, sql: &str) {
    let mut superuser = app.connect("postgres").await;
    attempt(&mut superuser, sql.to_owned()).await.unwrap();
}

/// Asserts that each query leaks, and that each mutation finds the rows of A.
fn assert_leaks(report: &Report) {
    for name in FIELDS {
        let problem = if name.starts_with("Query") {
            Problem::Leak
        } else {
            Problem::Difference
        };
        assert!(has(report, name, problem), "{name}: {report:#?}");
    }
    assert!(has(report, "Query.project", Problem::Difference));
    let mut general = report.general.iter();
    assert!(
        general.any(|finding| finding.problem == Problem::Leak),
        "{:?}",
        report.general
    );
}

#[apply(palisade_test)]
async fn without_the_predicate_row_level_security_isolates_until_a_policy_lets_everything_through()
{
    let (app, a, b) = only_policies().await;
    assert_isolated(&attack(&a, &b, &FIELDS).await);

    execute(
        app,
        "alter policy tenant on projects_rows using (true) with check (true)",
    )
    .await;
    assert_leaks(&attack(&a, &b, &FIELDS).await);
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_table_without_row_level_security_leaks() {
    let (app, a, b) = only_policies().await;
    execute(app, "alter table projects_rows disable row level security").await;
    assert_leaks(&attack(&a, &b, &FIELDS).await);
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn an_owner_without_force_leaks() {
    let (app, a, b) = only_policies().await;
    let own = "alter table projects_rows owner to palisade_app; alter view projects owner to palisade_app";
    execute(app, own).await;
    assert_isolated(&attack(&a, &b, &["Query.project", "Query.projects"]).await);
    execute(app, "alter table projects_rows no force row level security").await;
    assert_leaks(&attack(&a, &b, &FIELDS).await);
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_role_with_bypassrls_leaks() {
    let (app, a, b) = only_policies().await;
    // Roles belong to the cluster, so other tests must not use this one.
    let role = format!("palisade_app_{}", Uuid::now_v7().simple());
    let create = format!("create role {role} login nobypassrls; grant palisade_app to {role}");
    execute(app, &create).await;
    let url = app.serve_as(&role, ServiceOptions::default()).await;
    // Another service, because the sessions of the first keep the plans of their statements.
    let url_without_plans = app.serve_as(&role, ServiceOptions::default()).await;
    let run = async |url: &str| {
        let (a, b) = (a.owner().at(url), b.owner().at(url));
        prove::run(super::settings(&a, &b, &FIELDS)).await.unwrap()
    };
    assert_isolated(&run(&url).await);
    execute(app, &format!("alter role {role} bypassrls")).await;
    assert_leaks(&run(&url_without_plans).await);
    execute(app, &format!("alter role {role} nobypassrls nologin")).await;
    app.drop_database().await;
    let drop = format!("drop role {role}");
    let mut superuser = TestApp::shared().await.connect("postgres").await;
    attempt(&mut superuser, drop).await.unwrap();
}

#[apply(palisade_test)]
async fn the_rows_of_each_table_are_searched() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let (a, b) = tenants(app).await;
    execute(app, REMOVE_CANARY).await;
    let lists = model()
        .root_lists()
        .filter(|list| ENTITIES.iter().any(|of| of.type_name == list.row()));
    let mut names = Vec::new();
    for list in lists {
        let table = entity(list.row()).table;
        without_predicate(app, table).await;
        let open = format!("alter policy tenant on {table}_rows using (true) with check (true)");
        execute(app, &open).await;
        names.push(format!("Query.{}", list.name));
    }
    let fields: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(fields.len() >= 6, "{fields:?}");
    let report = attack(&a, &b, &fields).await;
    for field in fields {
        assert!(has(&report, field, Problem::Leak), "{field}: {report:#?}");
    }
    app.drop_database().await;
}

/// Another way to the rows than a table: SQL that replaces the table, whose rows only row level security isolates.
#[apply(palisade_test)]
async fn a_view_or_function_with_the_rights_of_its_owner_leaks() {
    let (app, a, b) = only_policies().await;
    let fields = ["Query.project", "Query.projects"];
    assert_isolated(&attack(&a, &b, &fields).await);
    execute(
        app,
        "alter view projects set (security_invoker = false); alter view projects owner to postgres",
    )
    .await;
    for field in fields {
        let report = attack(&a, &b, &[field]).await;
        assert!(has(&report, field, Problem::Leak), "{field}: {report:#?}");
    }
    execute(
        app,
        "create function app.every_project() returns setof projects_rows
             language sql stable security definer as 'select * from public.projects_rows';
         do $$ begin execute (
             select format('create or replace view projects with (security_invoker = true) as
                                select %s from app.every_project()',
                           string_agg(case attname when 'tenant_id' then 'app.tenant_id() as tenant_id'
                                      else quote_ident(attname) end, ', ' order by attnum))
               from pg_attribute
              where attrelid = 'projects_rows'::regclass and attnum > 0 and not attisdropped);
         end $$;
         alter view projects owner to palisade_owner",
    )
    .await;
    for field in fields {
        let report = attack(&a, &b, &[field]).await;
        assert!(has(&report, field, Problem::Leak), "{field}: {report:#?}");
    }
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_unique_key_without_the_tenant_reveals_that_a_value_exists() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let (a, b) = tenants(app).await;
    // Other samples give the same numbers to the products of all tenants.
    execute(
        app,
        "set session_replication_role = replica;
         update products set asin = upper('B' || left(md5(id::text), 9))",
    )
    .await;
    let fields = [
        "Mutation.createOrganization",
        "Mutation.createProduct",
        "Mutation.inviteUser",
    ];
    assert_isolated(&attack(&a, &b, &fields).await);
    for (key, field) in [
        ("organizations (slug)", fields[0]),
        ("products (asin)", fields[1]),
        ("users (email)", fields[2]),
    ] {
        execute(app, &format!("create unique index extra on {key}")).await;
        let report = attack(&a, &b, &[field]).await;
        assert!(
            has(&report, field, Problem::Difference),
            "{key}: {report:#?}"
        );
        execute(app, "drop index extra").await;
    }
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_foreign_key_without_the_tenant_reveals_that_a_row_exists() {
    let app = TestApp::shared().await.in_own_database(&[]).await;
    let (a, b) = tenants(app).await;
    let fields = ["Mutation.createComment", "Mutation.updateProject"];
    assert_isolated(&attack(&a, &b, &fields).await);
    execute(
        app,
        "create unique index projects_id on projects (id);
         alter table comments drop constraint comments_project_fkey;
         alter table comments add constraint comments_project_fkey
             foreign key (project_id) references projects (id)",
    )
    .await;
    let report = attack(&a, &b, &fields).await;
    assert!(
        has(&report, "Mutation.createComment", Problem::Difference),
        "{report:#?}"
    );
    assert!(!has(&report, "Mutation.updateProject", Problem::Difference));
    app.drop_database().await;
}

#[apply(palisade_test)]
async fn a_gap_that_the_other_layer_hides_is_found_in_the_database(app: &'static TestApp) {
    // In one transaction, which is rolled back: other tests do not see the gap.
    let mut superuser = app.connect("postgres").await;
    for (gap, code) in [
        ("alter table projects no force row level security", "D05"),
        ("drop policy tenant on projects", "D08"),
        ("alter policy tenant on projects with check (true)", "D45"),
        ("alter role palisade_app bypassrls", "D01"),
        (
            "create unique index projects_id on projects (id);
             alter table comments drop constraint comments_project_fkey;
             alter table comments add constraint comments_project_fkey
                 foreign key (project_id) references projects (id)",
            "D12",
        ),
        (
            "drop index invoices_created_at_idx;
             create index on invoices (created_at desc, tenant_id)",
            "D14",
        ),
    ] {
        let mut codes = async |sql: &str| -> Vec<String> {
            attempt(&mut superuser, format!("begin; {sql}"))
                .await
                .unwrap();
            let findings = prove::inspect(&mut superuser, "palisade_app")
                .await
                .unwrap();
            attempt(&mut superuser, "rollback".to_owned())
                .await
                .unwrap();
            let details = findings.iter().map(|finding| finding.detail.as_str());
            details.map(|detail| detail[..3].to_owned()).collect()
        };
        assert_eq!(codes("select 1").await, Vec::<String>::new());
        let found = codes(gap).await;
        assert!(found.iter().any(|found| found == code), "{gap}: {found:?}");
    }
}
