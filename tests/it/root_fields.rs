//! Mutations with several root fields: the fields run in order, and each is independent. Also the cost of mutations.

use macro_rules_attribute::apply;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    create::{self, fingerprint, read, unique},
    harness::{Caller, TRACE, Tenant, palisade_test, user_errors},
};

/// The outcome of one root field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// An organization is created.
    Done,
    /// The database rejects the statement.
    Taken,
    /// The input is rejected, and no statement is sent.
    Nameless,
    /// A statement finds no row.
    Missing,
}

const STEPS: [Step; 4] = [Step::Done, Step::Taken, Step::Nameless, Step::Missing];

impl Step {
    fn field(self, slug: &str) -> String {
        let errors = "{ userErrors { code } }";
        match self {
            Self::Done => {
                format!("createOrganization(input: {{ name: \"n\", slug: \"{slug}\" }}) {errors}")
            }
            Self::Taken => {
                format!("createOrganization(input: {{ name: \"n\", slug: \"taken\" }}) {errors}")
            }
            Self::Nameless => {
                format!("createOrganization(input: {{ name: \"\", slug: \"{slug}\" }}) {errors}")
            }
            Self::Missing => {
                let id = format!("org_{}", Uuid::nil().simple());
                format!("updateOrganization(input: {{ id: \"{id}\", name: \"n\" }}) {errors}")
            }
        }
    }

    fn errors(self) -> Value {
        match self {
            Self::Done => json!([]),
            Self::Taken => json!([{ "code": "ALREADY_EXISTS" }]),
            Self::Nameless => json!([{ "code": "REQUIRED" }]),
            Self::Missing => json!([{ "code": "NOT_FOUND" }]),
        }
    }
}

/// The slugs among `slugs` that belong to an organization, in the order of creation.
async fn there(caller: &Caller, slugs: &[String]) -> Vec<String> {
    let document = "query ($slugs: [String!]) { organizations(filter: { slug: { in: $slugs } },
        orderBy: [{ field: CREATED_AT }]) { nodes { slug } } }";
    let reply = caller.send(document, &json!({ "slugs": slugs }), &[]).await;
    let response = reply.response();
    let nodes = response.data()["organizations"]["nodes"]
        .as_array()
        .unwrap();
    let slugs = nodes.iter().map(|node| node["slug"].as_str().unwrap());
    slugs.map(str::to_owned).collect()
}

#[apply(palisade_test)]
async fn a_rejected_root_field_writes_nothing_and_the_others_write(acme: Tenant) {
    let owner = acme.owner();
    let input = json!({ "name": "Taken" });
    owner
        .mutate_ok("createOrganization", input, "organization { id }")
        .await;
    for number in 0..STEPS.len().pow(3) {
        let steps = [number / 16, number / 4 % 4, number % 4].map(|step| STEPS[step]);
        let slugs: Vec<String> = (0..3).map(|n| unique(&format!("s{n}"))).collect();
        let fields = steps.iter().zip(&slugs).enumerate();
        let fields: Vec<String> = fields
            .map(|(at, (step, slug))| format!("f{at}: {}", step.field(slug)))
            .collect();
        let document = format!("mutation {{ {} }}", fields.join(" "));
        let key = Uuid::new_v4().to_string();
        // With a key, the service opens the transaction before the first field, and runs a request that is sent twice
        // only once.
        let with_key = [("idempotency-key", key.as_str())];
        let headers: &[&[(&str, &str)]] = match number % 2 {
            0 => &[&[]],
            _ => &[&with_key, &with_key],
        };
        for headers in headers {
            let reply = owner.send(&document, &json!({}), headers).await.response();
            for (at, step) in steps.iter().enumerate() {
                let found = &reply.data()[format!("f{at}")]["userErrors"];
                assert_eq!(*found, step.errors(), "{steps:?} {at}");
            }
            let done = steps.iter().zip(&slugs);
            let done = done.filter(|(step, _)| **step == Step::Done);
            let done: Vec<&String> = done.map(|(_, slug)| slug).collect();
            assert_eq!(
                there(owner, &slugs).await.iter().collect::<Vec<_>>(),
                done,
                "{steps:?}"
            );
        }
    }
}

#[apply(palisade_test)]
async fn twenty_root_fields_run_in_order_and_see_what_the_earlier_ones_wrote(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let project = create::project(owner, &organization).await;
    // Each even field renames the organization, each odd one reads it through loaders and lists.
    let field = |n: usize| {
        if n.is_multiple_of(2) {
            format!(
                "f{n}: updateOrganization(input: {{ id: \"{organization}\", name: \"Name {n}\" }}) {{
                    organization {{ name version projects {{ totalCount nodes {{ organization {{ name }} }} }} }} }}"
            )
        } else {
            format!(
                "f{n}: createProject(input: {{ name: \"p{n}\", organizationId: \"{organization}\" }}) {{
                    project {{ organization {{ name projects {{ totalCount }} }} }} }}"
            )
        }
    };
    let document = (0..20).map(field).collect::<Vec<_>>().join("\n");
    let reply = owner
        .send(&format!("mutation {{ {document} }}"), &json!({}), &[])
        .await;
    let response = reply.response();
    let data = response.data().as_object().unwrap();
    assert_eq!(
        data.keys().cloned().collect::<Vec<_>>(),
        (0..20).map(|n| format!("f{n}")).collect::<Vec<_>>()
    );
    for n in 0..20 {
        let payload = &data[&format!("f{n}")];
        let name = format!("Name {}", n / 2 * 2);
        if n % 2 == 0 {
            let projects = vec![json!({ "organization": { "name": name } }); n / 2 + 1];
            assert_eq!(
                payload["organization"],
                json!({ "name": name, "version": n / 2 + 2,
                        "projects": { "totalCount": n / 2 + 1, "nodes": projects } })
            );
        } else {
            assert_eq!(
                payload["project"],
                json!({ "organization": { "name": name, "projects": { "totalCount": n / 2 + 2 } } })
            );
        }
    }
    let stored = read(owner, "project", &project, "organization { name }").await;
    assert_eq!(stored, json!({ "organization": { "name": "Name 18" } }));

    let document = (0..21).map(field).collect::<Vec<_>>().join("\n");
    let response = owner.query(&format!("mutation {{ {document} }}")).await;
    assert_eq!(response.code(), "QUERY_TOO_COMPLEX");
}

#[apply(palisade_test)]
async fn a_failing_root_field_undoes_all_of_them_and_returns_no_data(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let before = fingerprint(&acme).await;
    let good = format!(
        "createProject(input: {{ name: \"p\", organizationId: \"{organization}\" }}) {{ project {{ id }} }}"
    );
    // The mutation itself succeeds, but a list below its payload has an invalid argument.
    let with_failing_field = |alias: &str, fails: &str| {
        format!(
            "{alias}: createProject(input: {{ name: \"p\", organizationId: \"{organization}\" }}) {{
                project {{ id organization {{ id {fails} }} }} }}"
        )
    };
    let invalid_id = "b: deleteProject(input: { id: \"org_1\" }) { project { id } }".to_owned();
    for bad in [
        with_failing_field("b", "projects(first: 101) { nodes { id } }"),
        with_failing_field("b", "projects(after: \"no cursor\") { nodes { id } }"),
        invalid_id,
    ] {
        for document in [
            format!("mutation {{ {bad} }}"),
            format!("mutation {{ a: {good} {bad} c: {good} }}"),
            format!("mutation {{ {bad} c: {good} }}"),
        ] {
            for headers in [&[][..], &[("idempotency-key", "fails")]] {
                let reply = owner.send(&document, &json!({}), headers).await;
                let response = reply.response();
                assert_eq!(response.code(), "BAD_USER_INPUT", "{document}");
                assert_eq!(response.body["data"], Value::Null, "{}", response.body);
                assert_eq!(response.body["errors"][0]["path"][0], "b");
                assert_eq!(reply.header("idempotency-replayed"), None);
                assert!(fingerprint(&acme).await == before, "{document}");
            }
        }
    }
}

/// Runs a mutation. Returns the number of its round trips, and the first word of each of its statements.
async fn cost(
    caller: &Caller,
    name: &str,
    input: Value,
    selection: &str,
    key: bool,
) -> (u64, Vec<String>) {
    let key = key.then(|| Uuid::new_v4().to_string());
    let mut headers = vec![(TRACE, "1")];
    headers.extend(key.as_deref().map(|key| ("idempotency-key", key)));
    let document = crate::harness::mutation(name, selection);
    let variables = json!({ "input": input });
    let response = caller
        .send(&document, &variables, &headers)
        .await
        .response();
    response.data();
    let verbs = response.statements();
    let verbs = verbs.iter().map(|statement| {
        let words = statement.split_whitespace();
        words.take(1).collect::<String>().to_lowercase()
    });
    (response.round_trips(), verbs.collect())
}

#[apply(palisade_test)]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn a_mutation_costs_its_opening_its_statements_and_its_commit(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let id = create::project(owner, &organization).await;
    let product = create::product(owner).await;
    let draft = create::draft(owner, &organization, &["1.00"]).await;
    let other = create::draft(owner, &organization, &["1.00"]).await;
    let comment = create::comment(owner, &id).await;
    let project = json!({ "name": "p", "organizationId": organization });
    let invoice = |lines: Value| json!({ "organizationId": organization, "currencyCode": "EUR", "lineItems": lines });
    let mut line = create::line_of("1.00");
    let without_product = json!([line.clone(), line.clone()]);
    line["productId"] = json!(product);
    let with_product = json!([line.clone(), line]);
    let mut added = create::line_of("1.00");
    added["invoiceId"] = json!(other);
    let imported = |count: usize| {
        let rows: Vec<Value> = (0..count)
            .map(|_| json!({ "asin": create::asin() }))
            .collect();
        json!({ "rows": rows })
    };
    let whole = "project { id name status description dueOn version createdAt updatedAt }";
    for (name, input, selection, key, round_trips, statements) in [
        ("createProject", project.clone(), whole, false, 3, "insert"),
        (
            "createProject",
            project.clone(),
            whole,
            true,
            5,
            "with insert update",
        ),
        (
            "createProject",
            project,
            "project { organization { name } }",
            false,
            4,
            "insert select",
        ),
        (
            "createProject",
            json!({ "name": "", "organizationId": organization }),
            whole,
            false,
            0,
            "",
        ),
        (
            "updateProject",
            json!({ "id": id, "name": "n" }),
            whole,
            false,
            3,
            "update",
        ),
        (
            "updateProject",
            json!({ "id": id }),
            whole,
            false,
            3,
            "select",
        ),
        (
            "archiveProject",
            json!({ "id": id }),
            whole,
            false,
            3,
            "update",
        ),
        // The update changes no row. A second statement finds the reason, and there is no commit.
        (
            "archiveProject",
            json!({ "id": id }),
            whole,
            false,
            3,
            "update select",
        ),
        (
            "unarchiveProject",
            json!({ "id": id }),
            whole,
            false,
            3,
            "update",
        ),
        (
            "deleteComment",
            json!({ "id": comment }),
            "",
            false,
            3,
            "delete",
        ),
        (
            "deleteProject",
            json!({ "id": id }),
            whole,
            false,
            4,
            "delete delete",
        ),
        ("createInvoice", invoice(json!([])), "", false, 3, "insert"),
        (
            "createInvoice",
            invoice(without_product),
            "",
            false,
            5,
            "insert insert update",
        ),
        (
            "createInvoice",
            invoice(with_product),
            "",
            false,
            6,
            "insert select insert update",
        ),
        (
            "issueInvoice",
            json!({ "id": draft }),
            "invoice { number }",
            false,
            3,
            "update",
        ),
        ("payInvoice", json!({ "id": draft }), "", false, 3, "update"),
        (
            // The second select reads the next position, after the first has locked the invoice.
            "addInvoiceLineItem",
            added,
            "",
            false,
            6,
            "select select insert update",
        ),
        ("importProducts", imported(1), "", false, 3, "insert"),
        (
            "importProducts",
            imported(100),
            "results { product { asin } }",
            false,
            4,
            "insert select",
        ),
    ] {
        let shown: String = input.to_string().chars().take(100).collect();
        let (trips, sent) = cost(owner, name, input, selection, key).await;
        assert_eq!(
            (trips, sent.join(" ")),
            (round_trips, statements.to_owned()),
            "{name} {shown}"
        );
    }
}

#[apply(palisade_test)]
async fn a_further_root_field_costs_a_savepoint_and_a_rejected_one_a_rollback_to_it(acme: Tenant) {
    let owner = acme.owner();
    let taken = unique("taken");
    let create = |slug: &str| {
        format!(
            "createOrganization(input: {{ name: \"n\", slug: \"{slug}\" }}) {{ userErrors {{ code }} }}"
        )
    };
    owner
        .query(&format!("mutation {{ {} }}", create(&taken)))
        .await
        .data();
    let done = || create(&unique("s"));
    let nameless = "createOrganization(input: { name: \"\", slug: \"s\" }) { userErrors { code } }";
    for (round_trips, fields) in [
        // BEGIN, insert, SAVEPOINT, insert, COMMIT
        (5, vec![done(), done()]),
        (7, vec![done(), done(), done()]),
        // BEGIN, insert, ROLLBACK (not counted), BEGIN, insert, COMMIT
        (5, vec![create(&taken), done()]),
        // BEGIN, insert, SAVEPOINT, insert, ROLLBACK TO, COMMIT
        (6, vec![done(), create(&taken)]),
        (2, vec![create(&taken)]),
        (3, vec![nameless.to_owned(), done(), nameless.to_owned()]),
    ] {
        let fields = fields.iter().enumerate();
        let fields: Vec<String> = fields.map(|(n, field)| format!("f{n}: {field}")).collect();
        let document = format!("mutation {{ {} }}", fields.join(" "));
        let response = owner.query(&document).await;
        response.data();
        assert_eq!(
            response.round_trips(),
            round_trips,
            "{document}\n{:#?}",
            response.statements()
        );
    }
}

#[apply(palisade_test)]
async fn the_audit_log_holds_what_was_done_and_nothing_that_was_rejected(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let project = create::project(owner, &organization).await;
    let missing = format!("usr_{}", Uuid::now_v7().simple());
    let payload = owner
        .mutate(
            "updateProject",
            json!({ "id": project, "ownerId": missing }),
            "",
        )
        .await;
    assert_eq!(
        user_errors(&payload),
        [("NOT_FOUND", "input.ownerId".to_owned())]
    );
    let document = format!(
        "mutation Rename {{
            a: updateProject(input: {{ id: \"{project}\", name: \"One\" }}) {{ project {{ id }} }}
            b: updateProject(input: {{ id: \"{project}\", name: \"\" }}) {{ project {{ id }} }}
            c: updateProject(input: {{ id: \"{project}\", ownerId: \"{missing}\" }}) {{ project {{ id }} }}
            d: updateProject(input: {{ id: \"{project}\", name: \"Two\" }}) {{ project {{ id }} }} }}"
    );
    owner.query(&document).await.data();
    let log = read(
        owner,
        "project",
        &project,
        "auditLogs(orderBy: [{ field: OCCURRED_AT }]) { nodes {
            action operationName changes { field after } } }",
    )
    .await;
    let nodes = log["auditLogs"]["nodes"].as_array().unwrap();
    let mut named: Vec<&Value> = nodes
        .iter()
        .filter(|node| node["operationName"] == "Rename")
        .collect();
    named.sort_by_key(|node| node["changes"].to_string());
    let change = |name: &str| {
        json!({ "action": "project.updated", "operationName": "Rename",
                "changes": [{ "field": "name", "after": name }] })
    };
    assert_eq!(named, [&change("One"), &change("Two")]);
    assert_eq!(nodes.len(), 3, "{nodes:?}");
}

#[apply(palisade_test)]
async fn the_entries_of_one_operation_are_in_the_order_of_its_changes(acme: Tenant) {
    let names: Vec<String> = (0..20).map(|number| format!("Number {number}")).collect();
    let fields: String = (names.iter().enumerate())
        .map(|(at, name)| {
            format!("f{at}: createOrganization(input: {{ name: \"{name}\" }}) {{ userErrors {{ code }} }} ")
        })
        .collect::<Vec<_>>()
        .concat();
    let made = acme
        .owner()
        .query(&format!("mutation {{ {fields} }}"))
        .await;
    made.data();
    let log = acme
        .owner()
        .query(
            "{ auditLogs(first: 20, filter: { action: { eq: \"organization.created\" } }) {
                 nodes { changes { field after } } } }",
        )
        .await;
    let entries = log.data()["auditLogs"]["nodes"].as_array().unwrap();
    let found: Vec<&str> = entries
        .iter()
        .flat_map(|entry| entry["changes"].as_array().unwrap())
        .filter(|change| change["field"] == "name")
        .map(|change| change["after"].as_str().unwrap())
        .rev()
        .collect();
    assert_eq!(
        found, names,
        "the newest first, although their times are equal"
    );
}
