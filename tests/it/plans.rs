//! Plans: the frequent statements find their rows by an index, with the role of the service.

use chrono::{DateTime, Utc};
use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, entities::ENTITIES, ids::EntityId as _};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::harness::{Tenant, TestApp, attempt, copy_rows, eventually, id, palisade_test};

/// Two tenants with enough rows that the planner prefers an index to a full scan.
struct Big {
    app: &'static TestApp,
    tenant: Tenant,
    /// The project and the organization with the most child rows.
    project: Uuid,
    organization: Uuid,
    /// A time between those of the oldest and the newest project.
    middle: DateTime<Utc>,
    /// As `palisade_app` in the tenant.
    sql: PgConnection,
}

impl Big {
    async fn fill() -> Self {
        let app = TestApp::shared().await.in_own_database(&[]).await;
        let (other, tenant) = (app.tenant().await, app.tenant().await);
        for tenant in [&other, &tenant] {
            tenant.fill(12).await;
            let mut postgres = tenant.connect_as("postgres", UserRole::Owner).await.0;
            // A count stops at 10,000 rows, so each tenant has more projects.
            copy_rows(&mut postgres, 900).await;
        }
        let mut postgres = tenant.connect_as("postgres", UserRole::Owner).await.0;
        // An index-only scan is cheap only if the rows are visible to all transactions. Any transaction that
        // runs during the vacuum, such as one that seals the audit log, prevents this. The pages with updated
        // rows never count.
        eventually("most rows are visible to all transactions", async || {
            let vacuum = "vacuum analyze".to_owned();
            attempt(&mut postgres, vacuum).await.unwrap();
            let tables: Vec<&str> = ENTITIES.iter().map(|entity| entity.table).collect();
            sqlx::query_scalar(
                "select bool_and(relallvisible > 0.9 * relpages) from pg_class
                 where relname = any($1) and relnamespace = 'public'::regnamespace and relpages > 50",
            )
            .bind(tables)
            .fetch_one(&mut postgres)
            .await
            .unwrap()
        })
        .await;
        let mut sql = tenant.begin().await.0;
        let row = sqlx::query(
            "select (select project_id from invoices where project_id is not null
                     group by 1 order by count(*) desc limit 1),
                    (select organization_id from projects group by 1 order by count(*) desc limit 1),
                    (select created_at from projects order by 1 offset 5000 limit 1)",
        )
        .fetch_one(&mut sql)
        .await
        .unwrap();
        Self {
            app,
            tenant,
            project: row.get(0),
            organization: row.get(1),
            middle: row.get(2),
            sql,
        }
    }

    /// The last statement of a document, as the service sends it.
    async fn statement(&self, document: &str) -> String {
        let response = self.tenant.owner().query(document).await;
        response.data();
        response.statements().pop().unwrap()
    }

    /// The plan of a statement with arguments, as `palisade_app` in the tenant. `generic` is the plan
    /// that a prepared statement may get after some executions: the one without the values.
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
                .fetch_all(&mut self.sql)
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

    /// The rows of `table` come only from `index`, whose condition contains every part of `condition`;
    /// nothing is filtered or sorted afterwards, and the policy is evaluated once.
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
        let by = scans.iter().find(|scan| scan["Index Name"] == *index);
        let by = by.unwrap_or_else(|| panic!("not by {index}:\n{}", self.describe()));
        let held = by["Index Cond"].as_str().unwrap_or_default();
        for part in condition {
            assert!(
                held.contains(part),
                "{part} is not in {held}:\n{}",
                self.describe()
            );
        }
        for node in &self.nodes {
            let kind = node["Node Type"].as_str().unwrap();
            assert!(
                !matches!(kind, "Seq Scan" | "Sort" | "Incremental Sort"),
                "{kind}:\n{}",
                self.describe()
            );
            // The policy is evaluated once: as an InitPlan, in a one-time filter.
            for filter in ["Filter", "Join Filter"] {
                let filter = node[filter].as_str().unwrap_or_default();
                assert!(
                    !filter.contains("current_setting"),
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
    let (tenant, project, organization) = (big.tenant.id.uuid(), big.project, big.organization);
    let no_row = Uuid::now_v7();
    let at = big.middle.to_rfc3339();
    let parents = format!("{{{project},{no_row}}}");
    let organizations = format!("{{{organization},{no_row}}}");
    let project_id = id("prj", project);
    let organization_id = id("org", organization);

    // A cursor of each list, from the service itself.
    let cursor = |response: &Value| {
        response["pageInfo"]["endCursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let lists = big
        .tenant
        .owner()
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
        // A page from the end reads the same index backwards.
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
        // By name, ascending.
        (
            "{ projects(orderBy: [{ field: NAME }]) { nodes { id } } }".to_owned(),
            "projects",
            "projects_name_idx",
            vec![tenant_is.to_owned()],
            args([&tenant, &21]),
        ),
        // With a filter whose column has its own index.
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
        // By id.
        (
            format!("{{ project(id: \"{project_id}\") {{ id }} }}"),
            "projects",
            "projects_pkey",
            vec![tenant_is.to_owned(), "id = ANY (".to_owned()],
            args([&tenant, &parents]),
        ),
        // Below parents: the first page, and one after a cursor.
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
        // Counts: of the tenant, and of each parent.
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
    big.sql.close().await.unwrap();
    big.app.drop_database().await;
}
