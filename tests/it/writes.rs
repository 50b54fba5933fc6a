//! What each mutation writes: what it was told, nothing else, and only if nothing is in the way.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::{auth::role::UserRole, ids::UserId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Caller, Tenant, palisade_test, refusals},
    made::{self, asin, fingerprint, read, unique},
};

/// How an object is made and changed, with what is stored after each step.
struct Life {
    root: &'static str,
    object: &'static str,
    selection: &'static str,
    create: &'static str,
    input: Value,
    made: Value,
    update: &'static str,
    changes: Vec<(Value, Value)>,
    /// The fields that cannot be cleared.
    fixed: &'static [&'static str],
}

impl Life {
    async fn lead(self, caller: &Caller) {
        let Self {
            root,
            object,
            create,
            update,
            ..
        } = self;
        let selection = format!("id version {}", self.selection);
        let of_payload = format!("{object} {{ {selection} }}");
        let payload = caller.does(create, self.input, &of_payload).await;
        let mut stored = payload[object].clone();
        assert_eq!(without(&stored, &["id", "version"]), self.made, "{create}");
        let id = stored["id"].as_str().unwrap().to_owned();
        assert_eq!(read(caller, root, &id, &selection).await, stored);

        for (mut input, effect) in self.changes {
            let told = input.clone();
            input["id"] = json!(id);
            let payload = caller.does(update, input, &of_payload).await;
            stored["version"] = json!(stored["version"].as_i64().unwrap() + 1);
            for (field, value) in effect.as_object().unwrap() {
                stored[field] = value.clone();
            }
            assert_eq!(payload[object], stored, "{update} {told}");
            assert_eq!(read(caller, root, &id, &selection).await, stored);
        }

        let payload = caller.does(update, json!({ "id": id }), &of_payload).await;
        assert_eq!(payload[object], stored, "{update} of nothing");
        for field in self.fixed {
            let input = json!({ "id": id, *field: null });
            let payload = caller.mutate(update, input, &of_payload).await;
            let expected = vec![("REQUIRED", format!("input.{field}"))];
            assert_eq!(refusals(&payload), expected, "{update} {field}");
            assert!(payload[object].is_null(), "{payload}");
        }
        assert_eq!(read(caller, root, &id, &selection).await, stored);
    }
}

fn without(object: &Value, fields: &[&str]) -> Value {
    let mut object = object.clone();
    for field in fields {
        object.as_object_mut().unwrap().remove(*field);
    }
    object
}

#[apply(palisade_test)]
async fn organizations_hold_what_they_were_told_and_keep_what_was_left_out(acme: Tenant) {
    let life = Life {
        root: "organization",
        object: "organization",
        selection: "name slug status",
        create: "createOrganization",
        input: json!({ "name": "Acme GmbH & Co. KG" }),
        made: json!({ "name": "Acme GmbH & Co. KG", "slug": "acme-gmbh-co-kg", "status": "ACTIVE" }),
        update: "updateOrganization",
        changes: vec![
            (json!({ "name": "Acme" }), json!({ "name": "Acme" })),
            (json!({ "slug": "acme-2" }), json!({ "slug": "acme-2" })),
            (
                json!({ "name": "日本", "slug": "jp" }),
                json!({ "name": "日本", "slug": "jp" }),
            ),
        ],
        fixed: &["name", "slug"],
    };
    life.lead(acme.owner()).await;
    let given = json!({ "name": "Acme", "slug": "given" });
    let payload = acme
        .owner()
        .does("createOrganization", given, "organization { slug }")
        .await;
    assert_eq!(payload["organization"]["slug"], "given");
}

#[apply(palisade_test)]
async fn projects_hold_what_they_were_told_and_keep_what_was_left_out(acme: Tenant) {
    let caller = acme.caller(UserRole::Member);
    let (one, two) = (
        made::organization(caller).await,
        made::organization(caller).await,
    );
    let (member, owner) = (caller.user.to_string(), acme.owner().user.to_string());
    let life = Life {
        root: "project",
        object: "project",
        selection: "name description status dueOn organization { id } owner { id }",
        create: "createProject",
        input: json!({ "name": "Apollo", "organizationId": one }),
        made: json!({
            "name": "Apollo", "description": null, "status": "PLANNED", "dueOn": null,
            "organization": { "id": one }, "owner": { "id": member },
        }),
        update: "updateProject",
        changes: vec![
            (
                json!({ "description": "To the moon.\n", "dueOn": "2026-12-24" }),
                json!({ "description": "To the moon.\n", "dueOn": "2026-12-24" }),
            ),
            (
                json!({ "status": "ON_HOLD", "ownerId": owner }),
                json!({ "status": "ON_HOLD", "owner": { "id": owner } }),
            ),
            (
                json!({ "organizationId": two }),
                json!({ "organization": { "id": two } }),
            ),
            (
                json!({ "description": null }),
                json!({ "description": null }),
            ),
            (
                json!({ "dueOn": null, "name": "Gemini" }),
                json!({ "dueOn": null, "name": "Gemini" }),
            ),
            (json!({ "description": "" }), json!({ "description": "" })),
        ],
        fixed: &["name", "organizationId", "ownerId", "status"],
    };
    life.lead(caller).await;
    let given = json!({
        "name": "Apollo", "organizationId": one, "ownerId": owner, "description": "d",
        "status": "COMPLETED", "dueOn": "2000-02-29",
    });
    let selection = "project { name description status dueOn owner { id } }";
    let payload = caller.does("createProject", given, selection).await;
    assert_eq!(
        payload["project"],
        json!({ "name": "Apollo", "description": "d", "status": "COMPLETED",
                "dueOn": "2000-02-29", "owner": { "id": owner } })
    );
}

#[apply(palisade_test)]
async fn products_hold_what_they_were_told_and_keep_what_was_left_out(acme: Tenant) {
    let life = Life {
        root: "product",
        object: "product",
        selection: "asin title status price { amount currencyCode }",
        create: "createProduct",
        input: json!({
            "asin": "B000000001", "title": "Rocket",
            "price": { "amount": "19.99", "currencyCode": "EUR" },
        }),
        made: json!({
            "asin": "B000000001", "title": "Rocket", "status": "ACTIVE",
            "price": { "amount": "19.99", "currencyCode": "EUR" },
        }),
        update: "updateProduct",
        changes: vec![
            (json!({ "title": null }), json!({ "title": null })),
            (json!({ "price": null }), json!({ "price": null })),
            (
                json!({ "price": { "amount": "500", "currencyCode": "JPY" } }),
                json!({ "price": { "amount": "500", "currencyCode": "JPY" } }),
            ),
            (
                json!({ "asin": "B000000002", "title": "Engine" }),
                json!({ "asin": "B000000002", "title": "Engine" }),
            ),
        ],
        fixed: &["asin"],
    };
    life.lead(acme.owner()).await;
    let bare = json!({ "asin": "B000000003" });
    let selection = "product { title price { amount } }";
    let payload = acme.owner().does("createProduct", bare, selection).await;
    assert_eq!(payload["product"], json!({ "title": null, "price": null }));
}

#[apply(palisade_test)]
async fn drafts_hold_what_they_were_told_and_keep_what_was_left_out(acme: Tenant) {
    let caller = acme.caller(UserRole::Billing);
    let (one, two) = (
        made::organization(caller).await,
        made::organization(caller).await,
    );
    let project = made::project(caller, &one).await;
    let life = Life {
        root: "invoice",
        object: "invoice",
        selection: "number status currencyCode issuedOn dueOn organization { id } project { id }
                    total { amount currencyCode }",
        create: "createInvoice",
        input: json!({ "organizationId": one, "currencyCode": "EUR" }),
        made: json!({
            "number": null, "status": "DRAFT", "currencyCode": "EUR", "issuedOn": null,
            "dueOn": null, "organization": { "id": one }, "project": null,
            "total": { "amount": "0.00", "currencyCode": "EUR" },
        }),
        update: "updateInvoice",
        changes: vec![
            (
                json!({ "projectId": project, "dueOn": "2026-12-24" }),
                json!({ "project": { "id": project }, "dueOn": "2026-12-24" }),
            ),
            (
                json!({ "organizationId": two }),
                json!({ "organization": { "id": two } }),
            ),
            (
                json!({ "projectId": null, "dueOn": null }),
                json!({ "project": null, "dueOn": null }),
            ),
        ],
        fixed: &["organizationId"],
    };
    life.lead(caller).await;
}

#[apply(palisade_test)]
async fn lines_hold_what_they_were_told_and_keep_what_was_left_out(acme: Tenant) {
    let caller = acme.caller(UserRole::Billing);
    let organization = made::organization(caller).await;
    let (one, two) = (made::product(caller).await, made::product(caller).await);
    let invoice = made::draft(caller, &organization, &["1.00"]).await;
    let life = Life {
        root: "invoiceLineItem",
        object: "lineItem",
        selection: "position description quantity taxRate unitPrice { amount currencyCode }
                    amount { amount currencyCode } product { id } invoice { id }",
        create: "addInvoiceLineItem",
        input: json!({
            "invoiceId": invoice, "description": "Work", "quantity": "2.5", "unitPrice": "3.33",
            "taxRate": "0.19", "productId": one,
        }),
        made: json!({
            "position": 2, "description": "Work", "quantity": "2.5000", "taxRate": "0.1900",
            "unitPrice": { "amount": "3.33", "currencyCode": "EUR" },
            "amount": { "amount": "8.33", "currencyCode": "EUR" },
            "product": { "id": one }, "invoice": { "id": invoice },
        }),
        update: "updateInvoiceLineItem",
        changes: vec![
            (
                json!({ "quantity": "3" }),
                json!({ "quantity": "3.0000", "amount": { "amount": "9.99", "currencyCode": "EUR" } }),
            ),
            (
                json!({ "unitPrice": "1.00" }),
                json!({ "unitPrice": { "amount": "1.00", "currencyCode": "EUR" },
                        "amount": { "amount": "3.00", "currencyCode": "EUR" } }),
            ),
            (
                json!({ "quantity": "-1", "unitPrice": "0.50", "description": "Discount" }),
                json!({ "quantity": "-1.0000", "description": "Discount",
                        "unitPrice": { "amount": "0.50", "currencyCode": "EUR" },
                        "amount": { "amount": "-0.50", "currencyCode": "EUR" } }),
            ),
            (json!({ "taxRate": null }), json!({ "taxRate": null })),
            (json!({ "productId": null }), json!({ "product": null })),
            (
                json!({ "productId": two, "taxRate": "1" }),
                json!({ "product": { "id": two }, "taxRate": "1.0000" }),
            ),
        ],
        fixed: &["description", "quantity", "unitPrice"],
    };
    life.lead(caller).await;
}

#[apply(palisade_test)]
async fn comments_are_their_authors_and_hold_what_was_said_last(acme: Tenant) {
    let caller = acme.caller(UserRole::Member);
    let organization = made::organization(caller).await;
    let invoice = made::draft(acme.owner(), &organization, &["1.00"]).await;
    for subject in [
        made::project(caller, &organization).await,
        made::product(caller).await,
        invoice,
    ] {
        let selection = "comment { id version body author { id }
            subject { ... on Node { id } } }";
        let input = json!({ "subjectId": subject, "body": "First!\n\n日本 🚀" });
        let said = caller.does("createComment", input, selection).await["comment"].clone();
        let mut expected = json!({
            "id": said["id"], "version": 1, "body": "First!\n\n日本 🚀",
            "author": { "id": caller.user.to_string() }, "subject": { "id": subject },
        });
        assert_eq!(said, expected);
        let input = json!({ "id": said["id"], "body": "Second" });
        let said = caller.does("updateComment", input, selection).await["comment"].clone();
        expected["version"] = json!(2);
        expected["body"] = json!("Second");
        assert_eq!(said, expected);
        let id = said["id"].as_str().unwrap();
        let body = read(caller, "comment", id, "body").await;
        assert_eq!(body, json!({ "body": "Second" }));
    }
}

#[apply(palisade_test)]
async fn users_are_invited_in_lower_case_change_their_roles_and_lose_their_access(acme: Tenant) {
    let owner = acme.owner();
    let selection = "user { id email displayName role status version }";
    let input = json!({ "email": "Ada@Example.ORG", "displayName": "Ada" });
    let ada = owner.does("inviteUser", input, selection).await["user"].clone();
    let mut expected = json!({
        "id": ada["id"], "email": "ada@example.org", "displayName": "Ada", "role": "MEMBER",
        "status": "INVITED", "version": 1,
    });
    assert_eq!(ada, expected);
    let id = json!({ "id": ada["id"] });
    let input = json!({ "id": ada["id"], "role": "BILLING" });
    let ada = owner.does("changeUserRole", input, selection).await["user"].clone();
    expected["role"] = json!("BILLING");
    expected["version"] = json!(2);
    assert_eq!(ada, expected);
    let ada = owner.does("deactivateUser", id, selection).await["user"].clone();
    expected["status"] = json!("DEACTIVATED");
    expected["version"] = json!(3);
    assert_eq!(ada, expected);
    let stored = read(
        owner,
        "user",
        ada["id"].as_str().unwrap(),
        "id email displayName role status version",
    );
    assert_eq!(stored.await, expected);
    let input = json!({ "email": "grace@example.org", "role": "OWNER" });
    let grace = owner.does("inviteUser", input, selection).await["user"].clone();
    assert_eq!(
        (&grace["role"], &grace["displayName"]),
        (&json!("OWNER"), &Value::Null)
    );
}

#[apply(palisade_test)]
async fn the_archive_gives_back_what_it_was_given(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    for status in ["PLANNED", "ACTIVE", "ON_HOLD", "COMPLETED"] {
        let id = made::project(owner, &organization).await;
        let told = json!({ "id": id, "status": status });
        owner.does("updateProject", told, "project { id }").await;
        let target = json!({ "id": id });
        let selection = "project { status version }";
        let payload = owner
            .does("archiveProject", target.clone(), selection)
            .await;
        assert_eq!(
            payload["project"],
            json!({ "status": "ARCHIVED", "version": 3 })
        );
        // What else changes meanwhile does not change where it returns to.
        let renamed = json!({ "id": id, "name": "Renamed" });
        owner.does("updateProject", renamed, selection).await;
        let refused = owner
            .mutate("archiveProject", target.clone(), selection)
            .await;
        assert_eq!(
            refusals(&refused),
            [("INVALID_STATE", "input.id".to_owned())]
        );
        let payload = owner
            .does("unarchiveProject", target.clone(), selection)
            .await;
        assert_eq!(
            payload["project"],
            json!({ "status": status, "version": 5 })
        );
        let refused = owner.mutate("unarchiveProject", target, selection).await;
        assert_eq!(
            refusals(&refused),
            [("INVALID_STATE", "input.id".to_owned())]
        );
    }
    for (object, kind, id) in [
        ("organization", "Organization", organization),
        ("product", "Product", made::product(owner).await),
    ] {
        let target = json!({ "id": id });
        let selection = format!("{object} {{ status }}");
        for (verb, status) in [("archive", "ARCHIVED"), ("unarchive", "ACTIVE")] {
            let name = format!("{verb}{kind}");
            let payload = owner.does(&name, target.clone(), &selection).await;
            assert_eq!(payload[object]["status"], status);
            let refused = owner.mutate(&name, target.clone(), &selection).await;
            assert_eq!(
                refusals(&refused),
                [("INVALID_STATE", "input.id".to_owned())]
            );
            assert_eq!(
                read(owner, object, &id, "status").await,
                json!({ "status": status })
            );
        }
    }
}

#[apply(palisade_test)]
async fn what_is_deleted_is_answered_once_more_and_then_gone_with_its_comments(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    let free = made::organization(owner).await;
    let project = made::project(owner, &organization).await;
    let product = made::product(owner).await;
    let member = acme.caller(UserRole::Member);
    let of_project = made::comment(member, &project).await;
    let of_product = made::comment(member, &product).await;
    let alone = made::comment(member, &made::project(owner, &organization).await).await;
    let invoice = made::draft(owner, &organization, &["1.00"]).await;
    let line = made::line(owner, &invoice).await;
    for (name, object, root, id) in [
        ("deleteOrganization", "organization", "organization", free),
        ("deleteProject", "project", "project", project),
        ("deleteProduct", "product", "product", product),
        ("deleteComment", "comment", "comment", alone),
        ("removeInvoiceLineItem", "lineItem", "invoiceLineItem", line),
    ] {
        let selection = format!("{object} {{ id version }}");
        let target = json!({ "id": id });
        let payload = owner.does(name, target.clone(), &selection).await;
        assert_eq!(payload[object], json!({ "id": id, "version": 1 }), "{name}");
        assert!(read(owner, root, &id, "id").await.is_null(), "{name}");
        let payload = owner.mutate(name, target, &selection).await;
        assert_eq!(refusals(&payload), [("NOT_FOUND", "input.id".to_owned())]);
    }
    for comment in [of_project, of_product] {
        assert!(read(owner, "comment", &comment, "id").await.is_null());
    }
    let total = read(owner, "invoice", &invoice, "total { amount }").await;
    assert_eq!(total, json!({ "total": { "amount": "1.00" } }));
}

/// The mutations of the schema whose input has a field.
async fn with_input_field(caller: &Caller, field: &str) -> BTreeSet<String> {
    let document = "{ __schema { mutationType { fields { name
        args { type { ofType { inputFields { name } } } } } } } }";
    let answer = caller.query(document).await;
    let fields = answer.data()["__schema"]["mutationType"]["fields"].as_array();
    let has = |mutation: &&Value| {
        let inputs = mutation["args"][0]["type"]["ofType"]["inputFields"].as_array();
        inputs.unwrap().iter().any(|input| input["name"] == field)
    };
    let names = fields.unwrap().iter().filter(has);
    names
        .map(|mutation| mutation["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A new object on which a mutation can be done, as its payload calls it, with what it takes besides
/// the id.
async fn target(owner: &Caller, organization: &str, name: &str) -> (&'static str, String, Value) {
    let archived = async |kind: &str, object: &str, id: String| {
        let selection = format!("{object} {{ id }}");
        owner
            .does(&format!("archive{kind}"), json!({ "id": id }), &selection)
            .await;
        id
    };
    let nothing = json!({});
    match name {
        "updateOrganization" => (
            "organization",
            made::organization(owner).await,
            json!({ "name": "Renamed" }),
        ),
        "archiveOrganization" | "deleteOrganization" => {
            ("organization", made::organization(owner).await, nothing)
        }
        "unarchiveOrganization" => {
            let id = made::organization(owner).await;
            let id = archived("Organization", "organization", id).await;
            ("organization", id, nothing)
        }
        "updateProject" => {
            let id = made::project(owner, organization).await;
            ("project", id, json!({ "dueOn": "2026-01-01" }))
        }
        "archiveProject" | "deleteProject" => {
            ("project", made::project(owner, organization).await, nothing)
        }
        "unarchiveProject" => {
            let id = made::project(owner, organization).await;
            ("project", archived("Project", "project", id).await, nothing)
        }
        "updateProduct" => (
            "product",
            made::product(owner).await,
            json!({ "title": "Renamed" }),
        ),
        "archiveProduct" | "deleteProduct" => ("product", made::product(owner).await, nothing),
        "unarchiveProduct" => {
            let id = made::product(owner).await;
            ("product", archived("Product", "product", id).await, nothing)
        }
        "updateInvoice" => {
            let id = made::draft(owner, organization, &[]).await;
            ("invoice", id, json!({ "dueOn": "2030-01-01" }))
        }
        "issueInvoice" => {
            let id = made::invoice(owner, organization, "DRAFT").await;
            ("invoice", id, nothing)
        }
        "payInvoice" | "voidInvoice" | "markInvoiceUncollectible" => {
            let id = made::invoice(owner, organization, "OPEN").await;
            ("invoice", id, nothing)
        }
        "updateInvoiceLineItem" | "removeInvoiceLineItem" => {
            let invoice = made::draft(owner, organization, &["1.00"]).await;
            let line = made::line(owner, &invoice).await;
            let change = match name {
                "updateInvoiceLineItem" => json!({ "unitPrice": "2.00" }),
                _ => nothing,
            };
            ("lineItem", line, change)
        }
        "updateComment" | "deleteComment" => {
            let project = made::project(owner, organization).await;
            let change = match name {
                "updateComment" => json!({ "body": "Changed" }),
                _ => nothing,
            };
            ("comment", made::comment(owner, &project).await, change)
        }
        "changeUserRole" => ("user", made::user(owner).await, json!({ "role": "VIEWER" })),
        "deactivateUser" => ("user", made::user(owner).await, nothing),
        other => panic!("no test makes an object for {other}"),
    }
}

#[apply(palisade_test)]
async fn every_mutation_of_one_object_obeys_its_version_and_finds_it(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    let names = with_input_field(owner, "ifVersion").await;
    assert_eq!(names, with_input_field(owner, "id").await);
    assert!(names.len() >= 23, "{names:?}");
    for name in names {
        let (object, id, more) = target(owner, &organization, &name).await;
        let selection = format!("{object} {{ id version }}");
        let mut input = more.clone();
        let before = fingerprint(&acme).await;

        // The same kind of id, of a row that is not there.
        let (prefix, _) = id.split_once('_').unwrap();
        input["id"] = json!(format!("{prefix}_{}", Uuid::now_v7().simple()));
        for version in [Value::Null, json!(1)] {
            input["ifVersion"] = version;
            let payload = owner.mutate(&name, input.clone(), &selection).await;
            assert!(payload[object].is_null(), "{name}: {payload}");
            let expected = [("NOT_FOUND", "input.id".to_owned())];
            assert_eq!(refusals(&payload), expected, "{name}");
        }

        input["id"] = json!(id);
        input["ifVersion"] = json!(99);
        let payload = owner.mutate(&name, input.clone(), &selection).await;
        let expected = [("CONFLICT", "input.ifVersion".to_owned())];
        assert_eq!(refusals(&payload), expected, "{name}");
        assert_eq!(payload[object]["id"], id, "{name}: {payload}");
        let present = payload[object]["version"].clone();
        assert!(
            fingerprint(&acme).await == before,
            "{name} wrote what it refused"
        );

        input["ifVersion"] = present.clone();
        let payload = owner.does(&name, input, &selection).await;
        let deletes = name.starts_with("delete") || name.starts_with("remove");
        let version = present.as_i64().unwrap() + i64::from(!deletes);
        assert_eq!(
            payload[object],
            json!({ "id": id, "version": version }),
            "{name}"
        );
        assert!(fingerprint(&acme).await != before, "{name} wrote nothing");
    }
}

fn rows(rows: &[(&str, &str)]) -> Vec<Value> {
    rows.iter()
        .map(|(asin, title)| json!({ "asin": asin, "title": title }))
        .collect()
}

const IMPORTED: &str = "results { index product { asin title } userErrors { code field } }";

#[apply(palisade_test)]
async fn an_import_makes_all_products_or_none(acme: Tenant) {
    let caller = acme.caller(UserRole::Member);
    let input = json!({ "rows": rows(&[("B000000001", "One"), ("B000000002", "Two")]) });
    let payload = caller.does("importProducts", input, IMPORTED).await;
    assert_eq!(
        payload["results"],
        json!([
            { "index": 0, "product": { "asin": "B000000001", "title": "One" }, "userErrors": [] },
            { "index": 1, "product": { "asin": "B000000002", "title": "Two" }, "userErrors": [] },
        ])
    );

    let before = fingerprint(&acme).await;
    let some_bad = rows(&[
        ("B000000003", "Three"),
        ("B000000001", "Taken"),
        ("lower", ""),
        ("B000000003", "Twice"),
    ]);
    let input = json!({ "rows": some_bad });
    let payload = caller.mutate("importProducts", input, IMPORTED).await;
    let at = |row: u32, field: &str| format!("input.rows.{row}.{field}");
    assert_eq!(
        refusals(&payload),
        [
            ("ALREADY_EXISTS", at(1, "asin")),
            ("INVALID", at(2, "asin")),
            ("REQUIRED", at(2, "title")),
            ("ALREADY_EXISTS", at(3, "asin")),
        ]
    );
    let results = payload["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    assert!(
        results.iter().all(|row| row["product"].is_null()),
        "{payload}"
    );
    let codes: Vec<&Value> = results
        .iter()
        .map(|row| &row["userErrors"][0]["code"])
        .collect();
    assert_eq!(
        codes,
        [
            &Value::Null,
            &json!("ALREADY_EXISTS"),
            &json!("INVALID"),
            &json!("ALREADY_EXISTS")
        ]
    );
    assert!(fingerprint(&acme).await == before);

    let input = json!({ "rows": some_bad, "atomic": false });
    let payload = caller.does("importProducts", input, IMPORTED).await;
    let made: Vec<&Value> = payload["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["product"]["title"])
        .collect();
    assert_eq!(
        made,
        [&json!("Three"), &Value::Null, &Value::Null, &Value::Null]
    );
    let of_second = &payload["results"][1]["userErrors"];
    assert_eq!(
        of_second,
        &json!([{ "code": "ALREADY_EXISTS", "field": ["input", "asin"] }])
    );
    let answer = caller
        .query("{ products(orderBy: [{ field: CREATED_AT }]) { nodes { title } } }")
        .await;
    assert_eq!(
        answer.data()["products"]["nodes"],
        json!([{ "title": "One" }, { "title": "Two" }, { "title": "Three" }])
    );
}

#[apply(palisade_test)]
async fn a_thousand_whole_products_are_imported_and_one_more_is_not(acme: Tenant) {
    let owner = acme.owner();
    let price = json!({ "amount": "1.00", "currencyCode": "EUR" });
    let mut rows: Vec<Value> = (0..1_001)
        .map(|n| json!({ "asin": format!("C{n:09}"), "title": format!("{n}"), "price": price }))
        .collect();
    for (count, code) in [(0, "REQUIRED"), (1_001, "LIMIT_REACHED")] {
        let input = json!({ "rows": rows[..count] });
        let payload = owner.mutate("importProducts", input, IMPORTED).await;
        assert_eq!(refusals(&payload), [(code, "input.rows".to_owned())]);
        assert_eq!(payload["results"], json!([]));
    }
    rows.pop();
    let input = json!({ "rows": rows });
    let payload = owner.does("importProducts", input, IMPORTED).await;
    let results = payload["results"].as_array().unwrap();
    assert_eq!(results.len(), 1_000);
    for (index, row) in results.iter().enumerate() {
        assert_eq!(row["product"]["title"], index.to_string(), "{row}");
        assert_eq!(row["index"], index, "{row}");
    }
    let answer = owner.query("{ products { totalCount } }").await;
    assert_eq!(answer.data()["products"]["totalCount"], 1_000);
}

const DELETED: &str = "results { index deletedId userErrors { code field } }";

#[apply(palisade_test)]
async fn a_deletion_of_many_deletes_all_or_none_and_says_why(acme: Tenant) {
    let owner = acme.owner();
    let member = acme.caller(UserRole::Member);
    let organization = made::organization(owner).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(made::project(member, &organization).await);
    }
    let [free, own, billed, discussed, last] = &<[String; 5]>::try_from(ids).unwrap();
    let input =
        json!({ "organizationId": organization, "projectId": billed, "currencyCode": "EUR" });
    owner.does("createInvoice", input, "invoice { id }").await;
    let own_comment = made::comment(member, own).await;
    let others_comment = made::comment(owner, discussed).await;
    let missing = format!("prj_{}", Uuid::now_v7().simple());
    let all = [free, own, billed, discussed, &missing, free];

    let before = fingerprint(&acme).await;
    let payload = member
        .mutate("deleteProjects", json!({ "ids": all }), DELETED)
        .await;
    let at = |row: u32| format!("input.ids.{row}");
    let expected = [
        ("INVALID_STATE", at(2)),
        ("INVALID_STATE", at(3)),
        ("NOT_FOUND", at(4)),
        ("INVALID", at(5)),
    ];
    assert_eq!(refusals(&payload), expected);
    let results = payload["results"].as_array().unwrap();
    assert!(
        results.iter().all(|row| row["deletedId"].is_null()),
        "{payload}"
    );
    assert!(fingerprint(&acme).await == before);

    let input = json!({ "ids": all, "atomic": false });
    let payload = member.does("deleteProjects", input, DELETED).await;
    let told: Vec<(Value, Value)> = payload["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["deletedId"].clone(),
                row["userErrors"][0]["code"].clone(),
            )
        })
        .collect();
    let gone = |id: &str| (json!(id), Value::Null);
    let stays = |code: &str| (Value::Null, json!(code));
    assert_eq!(
        told,
        [
            gone(free),
            gone(own),
            stays("INVALID_STATE"),
            stays("INVALID_STATE"),
            stays("NOT_FOUND"),
            stays("INVALID"),
        ]
    );
    for (id, is_there) in [(free, false), (own, false), (billed, true), (last, true)] {
        let there = !read(owner, "project", id, "id").await.is_null();
        assert_eq!(there, is_there, "{id}");
    }
    assert!(read(owner, "comment", &own_comment, "id").await.is_null());

    // An owner may take the comments of others along.
    let input = json!({ "ids": [discussed, last] });
    owner.does("deleteProjects", input, DELETED).await;
    assert!(
        read(owner, "comment", &others_comment, "id")
            .await
            .is_null()
    );
}

#[apply(palisade_test)]
async fn a_hundred_projects_are_deleted_at_once_and_one_more_is_not(acme: Tenant) {
    let owner = acme.owner();
    let organization = made::organization(owner).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let one = |n| {
            format!(
                "p{n}: createProject(input: {{ name: \"p\", organizationId: \"{organization}\" }}) {{ project {{ id }} }}"
            )
        };
        let document = (0..20).map(one).collect::<String>();
        let answer = owner.query(&format!("mutation {{ {document} }}")).await;
        let made = answer.data().as_object().unwrap().values();
        ids.extend(made.map(|payload| payload["project"]["id"].clone()));
    }
    ids.truncate(101);
    let before = fingerprint(&acme).await;
    for (count, code) in [(0, "REQUIRED"), (101, "LIMIT_REACHED")] {
        let input = json!({ "ids": ids[..count] });
        let payload = owner.mutate("deleteProjects", input, DELETED).await;
        assert_eq!(refusals(&payload), [(code, "input.ids".to_owned())]);
    }
    assert!(fingerprint(&acme).await == before);
    ids.pop();
    let payload = owner
        .does("deleteProjects", json!({ "ids": ids }), DELETED)
        .await;
    let deleted: Vec<&Value> = payload["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["deletedId"])
        .collect();
    assert_eq!(deleted, ids.iter().collect::<Vec<_>>());
    let answer = owner.query("{ projects { totalCount } }").await;
    assert_eq!(answer.data()["projects"]["totalCount"], 20);
}

#[apply(palisade_test)]
async fn ids_of_another_type_are_refused_before_anything_is_done(acme: Tenant) {
    let owner = acme.owner();
    let project = made::project(owner, &made::organization(owner).await).await;
    let before = fingerprint(&acme).await;
    for (name, input) in [
        ("deleteOrganization", json!({ "id": project })),
        (
            "createProject",
            json!({ "name": "p", "organizationId": project }),
        ),
        (
            "deleteProjects",
            json!({ "ids": [project, UserId::generate().to_string()] }),
        ),
    ] {
        let document = crate::harness::mutation(name, "");
        let reply = owner
            .send(&document, &json!({ "input": input }), &[])
            .await
            .answer();
        assert_eq!(reply.code(), "BAD_USER_INPUT", "{}", reply.body);
        assert!(reply.body["data"].is_null());
    }
    let (name, asin) = (unique("name"), asin());
    // Text that cannot be stored is refused as well, wherever it stands.
    for (mutation, input, field) in [
        (
            "createOrganization",
            json!({ "name": format!("{name}\0") }),
            "name",
        ),
        (
            "createProduct",
            json!({ "asin": asin, "title": "\0" }),
            "title",
        ),
        (
            "createComment",
            json!({ "subjectId": project, "body": "a\0b" }),
            "body",
        ),
        ("inviteUser", json!({ "email": "a\0@b.example" }), "email"),
    ] {
        let payload = owner.mutate(mutation, input, "").await;
        let told = refusals(&payload);
        assert!(
            told.contains(&("INVALID", format!("input.{field}"))),
            "{mutation}: {told:?}"
        );
    }
    assert!(fingerprint(&acme).await == before);
}
