//! Query plans: the frequent statements find their rows with an index, run as the role of the service.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::harness::{
    Caller, REMOVE_CANARY, ServiceOptions, TestApp, enter, id, palisade_test, session_context,
};

/// Two tenants with enough rows that the planner prefers an index to a full scan.
struct Big {
    tenant: Uuid,
    caller: Caller,
    /// The project and the organization with the most child rows.
    project: Uuid,
    organization: Uuid,
    app: PgConnection,
}

/// The rows of two tenants. Plans depend on the number of rows and on how their values are distributed, so these
/// are not the rows of [`Tenant::fill`](crate::harness::Tenant::fill), which change with the samples. The superuser
/// inserts them without triggers, which take too long for so many rows.
const ROWS: &[&str] = &[
    REMOVE_CANARY,
    "set session_replication_role = replica",
    "insert into tenants (id, slug, name)
     select t::uuid, 'tenant-' || left(t, 8), 'Tenant' from unnest(array[$TENANTS]) t",
    "insert into identities (id, email)
     select gen_random_uuid(), n || '@example.com' from generate_series(1, 2) n",
    "insert into users (tenant_id, id, identity_id, email, role, status)
     select t.id, gen_random_uuid(), i.id, t.slug || i.email, 'OWNER', 'ACTIVE'
     from tenants t, identities i",
    "insert into memberships (tenant_id, id, identity_id, role, status)
     select tenant_id, id, identity_id, role, status from users",
    "insert into organizations (tenant_id, id, name, slug)
     select t.id, gen_random_uuid(), 'Organization ' || n, 'organization-' || n
     from tenants t, generate_series(1, 50) n",
    "insert into projects (tenant_id, id, organization_id, owner_id, name, status, created_at)
     select t.id, gen_random_uuid(), o.ids[1 + n % 50], u.ids[1 + n % 2], 'Project ' || n,
            (array['ACTIVE', 'PLANNED', 'COMPLETED', 'ARCHIVED'])[1 + n % 4],
            timestamptz '2026-01-01' + n * interval '7 minutes'
     from tenants t
     join (select tenant_id, array_agg(id) ids from organizations group by 1) o on o.tenant_id = t.id
     join (select tenant_id, array_agg(id) ids from users group by 1) u on u.tenant_id = t.id,
     generate_series(1, 20000) n",
    "insert into invoices (tenant_id, id, organization_id, project_id, number, status, currency, created_at)
     select tenant_id, gen_random_uuid(), organization_id, id, row_number() over (partition by tenant_id),
            (array['OPEN', 'PAID', 'VOID'])[1 + (row_number() over ())::integer % 3], 'EUR',
            created_at + n * interval '1 hour'
     from projects, generate_series(1, 2) n",
    "insert into audit_logs (tenant_id, id, occurred_at, action, subject_type, subject_id, project_id, changes,
                             hash)
     select tenant_id, gen_random_uuid(), created_at + n * interval '1 hour', 'project.updated', 'projects',
            id, id, '[]', sha256('')
     from projects, generate_series(1, 3) n",
    "vacuum analyze",
];

impl Big {
    async fn fill() -> Self {
        Self::fill_database("", ROWS).await
    }

    /// Creates a database with these options of `create database`, and inserts the rows.
    async fn fill_database(options: &str, rows: &[&str]) -> Self {
        let app = TestApp::shared().await;
        let database = app.own_database_with(options).await;
        let mut postgres = PgConnection::connect(&app.server.url("postgres", &database))
            .await
            .unwrap();
        let (tenant, other) = (Uuid::now_v7(), Uuid::new_v4());
        for statement in rows {
            let text = statement.replace("$TENANTS", &format!("'{tenant}', '{other}'"));
            sqlx::query(sqlx::AssertSqlSafe(text))
                .execute(&mut postgres)
                .await
                .unwrap();
        }
        let row = sqlx::query(
            "select (select id from users where tenant_id = $1 limit 1),
                    (select id from projects where tenant_id = $1 limit 1),
                    (select id from organizations where tenant_id = $1 limit 1)",
        )
        .bind(tenant)
        .fetch_one(&mut postgres)
        .await
        .unwrap();
        let user: Uuid = row.get(0);
        let url = app
            .serve_database(&database, ServiceOptions::default())
            .await;
        let caller = app.caller(&url, tenant.into(), user.into(), UserRole::Owner);

        let mut connection = PgConnection::connect(&app.server.url("palisade_app", &database))
            .await
            .unwrap();
        let context = session_context(tenant.into(), None, Some(UserRole::Owner));
        enter(&mut connection, &context).await;
        let (project, organization) = (row.get(1), row.get(2));
        Self {
            tenant,
            caller,
            project,
            organization,
            app: connection,
        }
    }

    /// The last SQL statement that the service sends for a document.
    async fn statement(&self, document: &str) -> String {
        let response = self.caller.query(document).await;
        response.data();
        response.statements().pop().unwrap()
    }

    /// The plan of a statement with arguments, for `palisade_app` in the tenant. With `generic`, it is the plan that
    /// PostgreSQL may use after some executions of a prepared statement, which does not depend on the arguments.
    async fn plan(&mut self, statement: &str, arguments: &[String], generic: bool) -> Plan {
        let mode = if generic {
            "force_generic_plan"
        } else {
            "force_custom_plan"
        };
        let quoted: Vec<String> = arguments.iter().map(|one| format!("'{one}'")).collect();
        let mut plan = None;
        for text in [
            format!("set plan_cache_mode = {mode}"),
            format!("prepare hot as {statement}"),
            format!(
                "explain (format json, costs off) execute hot ({})",
                quoted.join(", ")
            ),
            "deallocate hot".to_owned(),
        ] {
            let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(text))
                .fetch_all(&mut self.app)
                .await
                .unwrap();
            if let Some(row) = rows.first() {
                plan = Some(row.get::<Value, _>(0)[0]["Plan"].clone());
            }
        }
        Plan {
            nodes: nodes(&plan.unwrap()),
            statement: statement.to_owned(),
        }
    }

    /// Executes a statement ten times as a prepared statement, as the service does. Returns how many executions used
    /// the generic plan, and for how many PostgreSQL made a custom plan.
    async fn plans_of_ten(&mut self, statement: &str, arguments: &[String]) -> (i64, i64) {
        let quoted: Vec<String> = arguments.iter().map(|one| format!("'{one}'")).collect();
        let execute = format!("execute hot ({})", quoted.join(", "));
        let mut texts = vec![
            "set plan_cache_mode = auto".to_owned(),
            format!("prepare hot as {statement}"),
        ];
        texts.extend(std::iter::repeat_n(execute, 10));
        for text in texts {
            sqlx::raw_sql(sqlx::AssertSqlSafe(text))
                .execute(&mut self.app)
                .await
                .unwrap();
        }
        let row = sqlx::raw_sql(
            "select generic_plans, custom_plans from pg_prepared_statements where name = 'hot'",
        )
        .fetch_one(&mut self.app)
        .await
        .unwrap();
        sqlx::raw_sql("deallocate hot")
            .execute(&mut self.app)
            .await
            .unwrap();
        (row.get(0), row.get(1))
    }
}

/// Every node of a plan, from the top.
struct Plan {
    nodes: Vec<Value>,
    statement: String,
}

fn nodes(top: &Value) -> Vec<Value> {
    let mut all = vec![top.clone()];
    for below in top["Plans"].as_array().into_iter().flatten() {
        all.extend(nodes(below));
    }
    all
}

impl Plan {
    fn describe(&self) -> String {
        let own = |node: &Value| {
            let mut node = node.clone();
            node.as_object_mut().unwrap().remove("Plans");
            node.to_string()
        };
        let nodes: Vec<String> = self.nodes.iter().map(own).collect();
        format!("{}\n{}", self.statement, nodes.join("\n"))
    }

    /// Asserts that the plan scans `index` with a condition that contains every part of `condition`.
    fn assert_condition(&self, index: &str, condition: &[&str]) {
        let by = self.nodes.iter().find(|node| node["Index Name"] == *index);
        let by = by.unwrap_or_else(|| panic!("not by {index}:\n{}", self.describe()));
        let held = by["Index Cond"].as_str().unwrap_or_default();
        for part in condition {
            assert!(
                held.contains(part),
                "{part} is not in {held}:\n{}",
                self.describe()
            );
        }
    }

    /// Asserts that the plan scans `index` with this condition, and that it reads no table completely.
    fn assert_searches(&self, index: &str, condition: &[&str]) {
        let kinds = |kind: &str| self.nodes.iter().any(|node| node["Node Type"] == *kind);
        assert!(!kinds("Seq Scan"), "{}", self.describe());
        self.assert_condition(index, condition);
    }

    /// Asserts that the plan reads `table` only with index scans, that the condition on `index` contains every part of
    /// `condition`, that the plan does not sort, and that it evaluates the policy once and not for each row.
    fn assert_index(&self, table: &str, index: &str, condition: &[&str]) {
        let scans: Vec<&Value> = self
            .nodes
            .iter()
            .filter(|node| node["Relation Name"] == *table || node["Index Name"] == *index)
            .collect();
        assert!(
            !scans.is_empty(),
            "{table} is not read:\n{}",
            self.describe()
        );
        for scan in &scans {
            let kind = scan["Node Type"].as_str().unwrap();
            assert!(
                matches!(
                    kind,
                    "Index Scan" | "Index Only Scan" | "Bitmap Heap Scan" | "Bitmap Index Scan"
                ),
                "{kind}:\n{}",
                self.describe()
            );
        }
        self.assert_condition(index, condition);
        for node in &self.nodes {
            let kind = node["Node Type"].as_str().unwrap();
            assert!(
                !matches!(kind, "Seq Scan" | "Sort" | "Incremental Sort"),
                "{kind}:\n{}",
                self.describe()
            );
            // A filter with `app.verified()` would evaluate the policy for each row.
            for filter in ["Filter", "Join Filter"] {
                let filter = node[filter].as_str().unwrap_or_default();
                assert!(
                    !filter.contains("current_setting") && !filter.contains("verified"),
                    "per row: {filter}\n{}",
                    self.describe()
                );
            }
        }
        let has =
            |key: &str, is: &dyn Fn(&Value) -> bool| self.nodes.iter().any(|node| is(&node[key]));
        let once = has("Parent Relationship", &|is| is == "InitPlan")
            && has("One-Time Filter", &Value::is_string);
        assert!(
            once,
            "the policy is not evaluated once:\n{}",
            self.describe()
        );
    }
}

/// The arguments of a statement, in the order of its placeholders.
fn args<const N: usize>(values: [&dyn std::fmt::Display; N]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

#[apply(palisade_test)]
#[expect(
    clippy::too_many_lines,
    reason = "one table of statements, each with its plan"
)]
async fn the_hot_statements_use_an_index_whose_condition_holds_tenant_parent_and_cursor() {
    let mut big = Big::fill().await;
    let (tenant, project, organization) = (big.tenant, big.project, big.organization);
    let no_row = Uuid::now_v7();
    let at = "2026-02-01T00:00:00Z";
    let parents = format!("{{{project},{no_row}}}");
    let organizations = format!("{{{organization},{no_row}}}");
    let project_id = id("prj", project);
    let organization_id = id("org", organization);

    // Get a cursor of each list from the service.
    let cursor = |response: &Value| {
        response["pageInfo"]["endCursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let lists = big
        .caller
        .query(&format!(
            "{{ projects {{ pageInfo {{ endCursor }} }} invoices {{ pageInfo {{ endCursor }} }}
                auditLogs {{ pageInfo {{ endCursor }} }}
                project(id: \"{project_id}\") {{ auditLogs(first: 1) {{ pageInfo {{ endCursor }} }}
                                               invoices(first: 1) {{ pageInfo {{ endCursor }} }} }} }}"
        ))
        .await;
    let lists = lists.data().clone();
    let (after_projects, after_invoices, after_logs) = (
        cursor(&lists["projects"]),
        cursor(&lists["invoices"]),
        cursor(&lists["auditLogs"]),
    );

    let tenant_is = "tenant_id = ";
    let after_cursor = "ROW(created_at, id) < ROW(";
    let after_log = "ROW(occurred_at, id) < ROW(";
    let parent = |column: &str| format!("{column} = ");
    for (document, table, index, condition, arguments) in [
        // Root lists: the first page, and one after a cursor.
        (
            "{ projects { nodes { id } } }".to_owned(),
            "projects",
            "projects_created_at_idx",
            vec![tenant_is.to_owned()],
            args([&tenant, &21]),
        ),
        (
            format!("{{ projects(after: \"{after_projects}\") {{ nodes {{ id }} }} }}"),
            "projects",
            "projects_created_at_idx",
            vec![tenant_is.to_owned(), after_cursor.to_owned()],
            args([&tenant, &at, &no_row, &21]),
        ),
        (
            format!("{{ invoices(after: \"{after_invoices}\") {{ nodes {{ id }} }} }}"),
            "invoices",
            "invoices_created_at_idx",
            vec![tenant_is.to_owned(), after_cursor.to_owned()],
            args([&tenant, &at, &no_row, &21]),
        ),
        (
            format!("{{ auditLogs(after: \"{after_logs}\") {{ nodes {{ id }} }} }}"),
            "audit_logs",
            "audit_logs_occurred_at_idx",
            vec![tenant_is.to_owned(), after_log.to_owned()],
            args([&tenant, &at, &no_row, &21]),
        ),
        // A page with `last` reads the same index backwards.
        (
            format!("{{ projects(last: 20, before: \"{after_projects}\") {{ nodes {{ id }} }} }}"),
            "projects",
            "projects_created_at_idx",
            vec![
                tenant_is.to_owned(),
                "ROW(created_at, id) > ROW(".to_owned(),
            ],
            args([&tenant, &at, &no_row, &21]),
        ),
        // A root list sorted by name.
        (
            "{ projects(orderBy: [{ field: NAME }]) { nodes { id } } }".to_owned(),
            "projects",
            "projects_name_idx",
            vec![tenant_is.to_owned()],
            args([&tenant, &21]),
        ),
        // A filter by a column that has its own index.
        (
            format!(
                "{{ projects(filter: {{ status: {{ eq: ACTIVE }} }}, after: \"{after_projects}\") {{ nodes {{ id }} }} }}"
            ),
            "projects",
            "projects_status_idx",
            vec![
                tenant_is.to_owned(),
                parent("status"),
                after_cursor.to_owned(),
            ],
            args([&tenant, &"ACTIVE", &at, &no_row, &21]),
        ),
        (
            format!(
                "{{ invoices(filter: {{ status: {{ eq: OPEN }} }}, after: \"{after_invoices}\") {{ nodes {{ id }} }} }}"
            ),
            "invoices",
            "invoices_status_idx",
            vec![
                tenant_is.to_owned(),
                parent("status"),
                after_cursor.to_owned(),
            ],
            args([&tenant, &"OPEN", &at, &no_row, &21]),
        ),
        // One row by its id.
        (
            format!("{{ project(id: \"{project_id}\") {{ id }} }}"),
            "projects",
            "projects_pkey",
            vec![tenant_is.to_owned(), "id = ANY (".to_owned()],
            args([&tenant, &parents]),
        ),
        // The connections of a parent object: the first page, and a page after a cursor.
        (
            format!(
                "{{ project(id: \"{project_id}\") {{ invoices(first: 5) {{ nodes {{ id }} }} }} }}"
            ),
            "invoices",
            "invoices_project_idx",
            vec![tenant_is.to_owned(), parent("project_id")],
            args([&parents, &tenant, &6]),
        ),
        (
            format!(
                "{{ project(id: \"{project_id}\") {{ invoices(first: 5, after: \"{after_invoices}\") {{ nodes {{ id }} }} }} }}"
            ),
            "invoices",
            "invoices_project_idx",
            vec![
                tenant_is.to_owned(),
                parent("project_id"),
                after_cursor.to_owned(),
            ],
            args([&parents, &tenant, &at, &no_row, &6]),
        ),
        (
            format!(
                "{{ project(id: \"{project_id}\") {{ auditLogs(first: 10, after: \"{after_logs}\") {{ nodes {{ id }} }} }} }}"
            ),
            "audit_logs",
            "audit_logs_project_idx",
            vec![
                tenant_is.to_owned(),
                parent("project_id"),
                after_log.to_owned(),
            ],
            args([&parents, &tenant, &at, &no_row, &11]),
        ),
        (
            format!(
                "{{ organization(id: \"{organization_id}\") {{ projects(first: 5, after: \"{after_projects}\") {{ nodes {{ id }} }} }} }}"
            ),
            "projects",
            "projects_organization_idx",
            vec![
                tenant_is.to_owned(),
                parent("organization_id"),
                after_cursor.to_owned(),
            ],
            args([&organizations, &tenant, &at, &no_row, &6]),
        ),
        // Counts: of all rows of the tenant, and of the rows of each parent.
        (
            "{ projects { totalCount } }".to_owned(),
            "projects",
            "projects_pkey",
            vec![tenant_is.to_owned()],
            args([&tenant, &10_001]),
        ),
        (
            format!("{{ project(id: \"{project_id}\") {{ invoices {{ totalCount }} }} }}"),
            "invoices",
            "invoices_project_idx",
            vec![tenant_is.to_owned(), parent("project_id")],
            args([&parents, &tenant, &10_001]),
        ),
    ] {
        let statement = big.statement(&document).await;
        let condition: Vec<&str> = condition.iter().map(String::as_str).collect();
        for generic in [false, true] {
            let plan = big.plan(&statement, &arguments, generic).await;
            plan.assert_index(table, index, &condition);
        }
    }
}

/// The options of the databases for the tests of strings: one sorts by code point, one as a dictionary does.
const LOCALES: [&str; 2] = [
    "template template0 encoding 'UTF8' locale 'C'",
    "template template0 encoding 'UTF8' locale 'C' locale_provider icu icu_locale 'de-DE'",
];

#[apply(palisade_test)]
async fn searches_of_strings_and_orders_use_an_index_under_any_collation() {
    let rows: Vec<&str> = ROWS
        .iter()
        .filter(|text| !text.contains("into invoices") && !text.contains("into audit_logs"))
        .copied()
        .collect();
    for locale in LOCALES {
        let mut big = Big::fill_database(locale, &rows).await;
        let tenant = big.tenant;
        // Exactly one project has the name "Project 12345", and all names start with "Project ".
        for (filter, condition) in [
            ("startsWith: \"Project 12345\"", "name_folded >= "),
            ("startsWithIgnoreCase: \"pROJECT 12345\"", "name_folded >= "),
            ("equalsIgnoreCase: \"pROJECT 12345\"", "name_folded = "),
        ] {
            let document = format!(
                "{{ projects(filter: {{ name: {{ {filter} }} }}) {{ nodes {{ name }} }} }}"
            );
            let found = big.caller.query(&document).await;
            assert_eq!(
                found.data()["projects"]["nodes"][0]["name"],
                "Project 12345",
                "{locale}"
            );
            let statement = big.statement(&document).await;
            // `startsWith` compares both the folded column and the original column.
            let arguments = if filter.starts_with("startsWith:") {
                args([&tenant, &"Project 12345", &"Project 12345", &21])
            } else {
                args([&tenant, &"pROJECT 12345", &21])
            };
            let plan = big.plan(&statement, &arguments, false).await;
            plan.assert_searches("projects_name_folded_idx", &["tenant_id = ", condition]);
            if filter.starts_with("startsWith") {
                // The number of matching rows depends on the prefix, so PostgreSQL plans each execution anew.
                let plans = big.plans_of_ten(&statement, &arguments).await;
                assert_eq!(plans, (0, 10), "{statement}");
                // All rows match this prefix, so reading the newest rows is faster than searching for the prefix.
                let all: Vec<String> = arguments
                    .iter()
                    .map(|one| one.replace(" 12345", ""))
                    .collect();
                let plan = big.plan(&statement, &all, false).await;
                plan.assert_searches("projects_created_at_idx", &["tenant_id = "]);
            } else {
                let (generic, _) = big.plans_of_ten(&statement, &arguments).await;
                assert_eq!(generic, 5, "{statement}");
            }
        }
        for (order, index) in [
            ("NAME", "projects_name_idx"),
            ("UPDATED_AT", "projects_updated_at_idx"),
            ("DUE_ON", "projects_due_on_idx"),
        ] {
            for direction in ["ASC", "DESC"] {
                let statement = big
                    .statement(&format!(
                        "{{ projects(orderBy: [{{ field: {order}, direction: {direction} }}]) {{ nodes {{ id }} }} }}"
                    ))
                    .await;
                for generic in [false, true] {
                    let plan = big.plan(&statement, &args([&tenant, &21]), generic).await;
                    plan.assert_index("projects", index, &["tenant_id = "]);
                }
            }
        }
    }
}

#[apply(palisade_test)]
async fn loads_by_id_keep_one_plan_for_any_number_of_ids() {
    let mut big = Big::fill().await;
    let (tenant, project) = (big.tenant, big.project);
    let document = format!("{{ project(id: \"{}\") {{ id }} }}", id("prj", project));
    let statement = big.statement(&document).await;
    let random = std::iter::repeat_with(Uuid::now_v7).take(40);
    let many: Vec<String> = random.map(|id| id.to_string()).collect();
    for ids in [format!("{{{project}}}"), format!("{{{}}}", many.join(","))] {
        let plans = big.plans_of_ten(&statement, &args([&tenant, &ids])).await;
        assert_eq!(plans, (5, 5), "{statement}");
    }
}
