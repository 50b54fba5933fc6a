//! The parts of the isolation, taken away one at a time. Doctor, the start of the service, the running service and
//! `prove` each name what is missing.

use macro_rules_attribute::apply;
use serde_json::Value;

use super::{Service, doctor::OwnCluster, palisade, run_palisade, run_to_exit, serve_command};
use crate::harness::{SECRET, eventually, palisade_test};

/// A part of the isolation, and what each observer reports if it is missing.
struct Removal {
    part: &'static str,
    take: &'static str,
    give: &'static str,
    /// The finding of doctor, and of `prove` with `--database-url`.
    doctor: &'static str,
    /// What the service prints when it starts.
    start: &'static str,
    /// What the running service reports.
    running: &'static str,
    /// What `prove` finds with requests alone: a field, and the problem with it. Empty if no request shows the gap,
    /// because another part of the isolation still holds.
    attacks: &'static [(&'static str, &'static str)],
}

impl Removal {
    /// Whether the service rejects all requests.
    fn stops_the_service(&self) -> bool {
        !self.running.starts_with("WARN ")
    }
}

const REMOVALS: [Removal; 7] = [
    Removal {
        part: "FORCE",
        take: "alter table projects no force row level security",
        give: "alter table projects force row level security",
        doctor: "D05 rls-not-forced: ",
        start: "the database does not isolate the tenants: D05 rls-not-forced: ",
        running: "the database does not isolate the tenants: D05 rls-not-forced\n",
        attacks: &[],
    },
    Removal {
        part: "a policy",
        take: "drop policy tenant on projects",
        give: "create policy tenant on projects using (tenant_id = (select app.tenant_id()))
                   with check (tenant_id = (select app.tenant_id()))",
        doctor: "D08 policy-count: ",
        start: "the database does not isolate the tenants: D08 policy-count: ",
        running: "the database does not isolate the tenants: D08 policy-count\n",
        // Without a policy, PostgreSQL hides every row, also from A.
        attacks: &[
            ("Query.project", "not attacked"),
            ("Query.projects", "not attacked"),
        ],},
    Removal {
        part: "WITH CHECK, so that USING also applies to new rows",
        take: "drop policy tenant on projects;
               create policy tenant on projects using (tenant_id = (select app.tenant_id()))",
        give: "alter policy tenant on projects with check (tenant_id = (select app.tenant_id()))",
        doctor: "D45 no-with-check: ",
        start: "the database does not isolate the tenants: D45 no-with-check: ",
        running: "the database does not isolate the tenants: D45 no-with-check\n",
        attacks: &[],
    },
    Removal {
        part: "the effect of WITH CHECK",
        take: "alter policy tenant on projects with check (true)",
        give: "alter policy tenant on projects with check (tenant_id = (select app.tenant_id()))",
        doctor: "D45 no-with-check: ",
        // The service names the first rule that is violated.
        start: "the database does not isolate the tenants: D09 policy-expression: ",
        running: "the database does not isolate the tenants: D09 policy-expression\n",
        attacks: &[],
    },
    Removal {
        part: "the tenant column of a foreign key",
        take: "create unique index projects_id on projects (id);
               comment on index projects_id is 'doctor: allow D13 D14, for the test';
               alter table comments drop constraint comments_project_fkey;
               alter table comments add constraint comments_project_fkey
                   foreign key (project_id) references projects (id)",
        give: "alter table comments drop constraint comments_project_fkey;
               alter table comments add constraint comments_project_fkey
                   foreign key (tenant_id, project_id) references projects (tenant_id, id);
               drop index projects_id",
        doctor: "D12 foreign-key-without-tenant: ",
        start: "the database does not isolate the tenants: D12 foreign-key-without-tenant: ",
        running: "the database does not isolate the tenants: D12 foreign-key-without-tenant\n",
        attacks: &[("Mutation.createComment", "difference")],
    },
    Removal {
        part: "the first column of an index",
        take: "drop index invoices_created_at_idx;
               create index invoices_created_at_idx on invoices (created_at desc, id desc)",
        give: "drop index invoices_created_at_idx;
               create index invoices_created_at_idx on invoices (tenant_id, created_at desc, id desc)",
        doctor: "D14 index-without-tenant: ",
        start: "WARN D14 index-without-tenant: The index public.invoices_created_at_idx ",
        running: "WARN D14 index-without-tenant: The index public.invoices_created_at_idx ",
        attacks: &[],
    },
    Removal {
        part: "NOBYPASSRLS",
        take: "alter role palisade_app bypassrls",
        give: "alter role palisade_app nobypassrls",
        doctor: "D01 role-bypass: ",
        start: "the role palisade_app has BYPASSRLS",
        running: "the database does not isolate the tenants: D01 role-bypass\n",
        attacks: &[],
    },
];

/// The fields that `prove` attacks: reads and writes of projects, and the foreign key.
const FIELDS: &str = "Query.project,Query.projects,Mutation.createComment";

/// Creates two demo tenants. Returns the tokens of their owners.
async fn demo_tokens(cluster: &OwnCluster) -> [String; 2] {
    let urls = ["palisade_app", "palisade_admin", "palisade_auth"].map(|role| cluster.url(role));
    let mut demo = palisade(&[
        "demo",
        "--tenants",
        "2",
        "--projects",
        "2",
        "--invoices",
        "1",
    ]);
    demo.env("PALISADE_APP_DATABASE_URL", &urls[0]);
    demo.env("PALISADE_ADMIN_DATABASE_URL", &urls[1]);
    run_to_exit(demo).await.success();
    let mut tokens = Vec::new();
    for (tenant, user) in palisade::demo::owners(2) {
        let mut token = palisade(&["token", "--tenant", &tenant, "--user", &user]);
        token.env("PALISADE_AUTH_DATABASE_URL", &urls[2]);
        token.env("PALISADE_JWT_SECRET", SECRET);
        let printed = run_to_exit(token).await.success();
        tokens.push(printed.lines().last().unwrap().to_owned());
    }
    tokens.try_into().unwrap()
}

/// A service that checks its database at this interval. Returns the URL of its API, too.
async fn serve(cluster: &OwnCluster, interval: &str) -> (Service, String) {
    let mut command = serve_command(&cluster.url("palisade_app"));
    command.env("PALISADE_ISOLATION_CHECK_INTERVAL", interval);
    command.env("PALISADE_INTROSPECTION", "true");
    Service::serve(command).await
}

/// The findings of `prove`: the rules of doctor, and the fields with their problems.
async fn prove(
    cluster: &OwnCluster,
    api: &str,
    tokens: &[String; 2],
) -> (Vec<String>, Vec<(String, String)>) {
    let mut command = palisade(&[
        "prove",
        "--url",
        api,
        "--field",
        FIELDS,
        "--samples",
        "0",
        "--format",
        "json",
    ]);
    command.env("PALISADE_PROVE_TOKEN_A", &tokens[0]);
    command.env("PALISADE_PROVE_TOKEN_B", &tokens[1]);
    command.env("PALISADE_PROVE_DATABASE_URL", cluster.url("palisade_auth"));
    let result = run_to_exit(command).await;
    let report: Value =
        serde_json::from_str(&result.stdout).unwrap_or_else(|_| panic!("{result:?}"));
    let findings = report["findings"].as_u64().unwrap();
    assert_eq!(result.code, Some(i32::from(findings > 0)), "{result:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let general = report["general"].as_array().unwrap();
    assert!(
        general.iter().all(|finding| finding["problem"] == "doctor"),
        "{report:#}"
    );
    let fields = report["fields"].as_array().unwrap();
    assert_eq!(fields.len(), 3, "{report:#}");
    let problems = fields.iter().filter(|field| field["result"] != "ok");
    (
        general
            .iter()
            .map(|finding| text(&finding["detail"]))
            .collect(),
        problems
            .map(|field| (text(&field["field"]), text(&field["result"])))
            .collect(),
    )
}

#[apply(palisade_test)]
async fn doctor_the_start_the_running_service_and_prove_each_name_what_is_missing() {
    let mut cluster = OwnCluster::start().await;
    let tokens = demo_tokens(&cluster).await;
    let (watching, api) = serve(&cluster, "100ms").await;
    let ready = api.replace("/graphql", "/health/ready");
    assert_eq!(prove(&cluster, &api, &tokens).await, (vec![], vec![]));

    for removal in &REMOVALS {
        let part = removal.part;
        // Does not check its database again before `prove` has attacked it.
        let (attacked, attacked_api) = serve(&cluster, "1m").await;
        cluster.execute(removal.take).await;

        let report = cluster.doctor(&[]).await;
        assert!(report.stdout.contains(removal.doctor), "{part}: {report:?}");
        let code = i32::from(removal.stops_the_service());
        assert_eq!(report.code, Some(code), "{part}: {report:?}");

        let printed = if removal.stops_the_service() {
            let started = run_to_exit(serve_command(&cluster.url("palisade_app"))).await;
            assert_eq!(started.code, Some(1), "{part}: {started:?}");
            started.stderr
        } else {
            let (started, _) = serve(&cluster, "1m").await;
            started.terminate().await
        };
        assert!(printed.contains(removal.start), "{part}: {printed}");

        eventually("the running service reports what is missing", async || {
            if !removal.stops_the_service() {
                return watching.stderr.text().contains(removal.running);
            }
            let response = reqwest::get(&ready).await.unwrap();
            response.status() == 503 && response.text().await.unwrap() == removal.running
        })
        .await;

        let (doctor, attacks) = prove(&cluster, &attacked_api, &tokens).await;
        let is_named = doctor
            .iter()
            .any(|finding| finding.starts_with(removal.doctor));
        assert!(is_named, "{part}: {doctor:?}");
        let expected = removal.attacks.iter();
        let expected: Vec<_> = expected
            .map(|(field, problem)| ((*field).to_owned(), (*problem).to_owned()))
            .collect();
        assert_eq!(attacks, expected, "{part}");

        cluster.execute(removal.give).await;
        eventually("the running service serves again", async || {
            reqwest::get(&ready).await.unwrap().status() == 200
        })
        .await;
        attacked.terminate().await;
    }
    watching.terminate().await;
    // Every part is back.
    cluster.doctor(&[]).await.success();
    cluster.stop().await;
}

#[apply(palisade_test)]
async fn prove_names_the_gap_for_which_the_service_rejects_its_requests() {
    let mut cluster = OwnCluster::start().await;
    cluster.execute(REMOVALS[0].take).await;
    // As a service that no longer accepts requests.
    let url = "http://127.0.0.1:1/graphql";
    let database = cluster.url("palisade_auth");
    let tokens = ["--token-a", "x", "--token-b", "y"];
    let options = ["prove", "--url", url, "--database-url", &database];
    let result = run_palisade(&[&options[..], &tokens].concat()).await;
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.stdout.contains(REMOVALS[0].doctor), "{result:?}");
    let message =
        "the isolation of the tenants is not proved, findings: 1; no attack: cannot reach ";
    assert!(result.stderr.contains(message), "{result:?}");
    cluster.stop().await;
}
