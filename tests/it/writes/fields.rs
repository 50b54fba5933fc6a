//! Creating and updating: the service stores the given fields, and an update keeps the omitted ones.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};

use super::Lifecycle;
use crate::{
    create::{self, read},
    harness::{Tenant, palisade_test},
};

#[apply(palisade_test)]
async fn organizations_store_given_fields_and_keep_omitted_ones(acme: Tenant) {
    let lifecycle = Lifecycle {
        root: "organization",
        object: "organization",
        selection: "name slug status",
        create: "createOrganization",
        input: json!({ "name": "Acme GmbH & Co. KG" }),
        created: json!({ "name": "Acme GmbH & Co. KG", "slug": "acme-gmbh-co-kg", "status": "ACTIVE" }),
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
    lifecycle.check(acme.owner()).await;
    let given = json!({ "name": "Acme", "slug": "given" });
    let payload = acme
        .owner()
        .mutate_ok("createOrganization", given, "organization { slug }")
        .await;
    assert_eq!(payload["organization"]["slug"], "given");
}

#[apply(palisade_test)]
async fn projects_store_given_fields_and_keep_omitted_ones(acme: Tenant) {
    let caller = acme.caller(UserRole::Member);
    let (one, two) = (
        create::organization(caller).await,
        create::organization(caller).await,
    );
    let (member, owner) = (caller.user.to_string(), acme.owner().user.to_string());
    let lifecycle = Lifecycle {
        root: "project",
        object: "project",
        selection: "name description status dueOn organization { id } owner { id }",
        create: "createProject",
        input: json!({ "name": "Apollo", "organizationId": one }),
        created: json!({
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
    lifecycle.check(caller).await;
    let given = json!({
        "name": "Apollo", "organizationId": one, "ownerId": owner, "description": "d",
        "status": "COMPLETED", "dueOn": "2000-02-29",
    });
    let selection = "project { name description status dueOn owner { id } }";
    let payload = caller.mutate_ok("createProject", given, selection).await;
    assert_eq!(
        payload["project"],
        json!({ "name": "Apollo", "description": "d", "status": "COMPLETED",
                "dueOn": "2000-02-29", "owner": { "id": owner } })
    );
}

#[apply(palisade_test)]
async fn products_store_given_fields_and_keep_omitted_ones(acme: Tenant) {
    let lifecycle = Lifecycle {
        root: "product",
        object: "product",
        selection: "asin title status price { amount currencyCode }",
        create: "createProduct",
        input: json!({
            "asin": "B000000001", "title": "Rocket",
            "price": { "amount": "19.99", "currencyCode": "EUR" },
        }),
        created: json!({
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
    lifecycle.check(acme.owner()).await;
    let bare = json!({ "asin": "B000000003" });
    let selection = "product { title price { amount } }";
    let payload = acme
        .owner()
        .mutate_ok("createProduct", bare, selection)
        .await;
    assert_eq!(payload["product"], json!({ "title": null, "price": null }));
}

#[apply(palisade_test)]
async fn drafts_store_given_fields_and_keep_omitted_ones(acme: Tenant) {
    let caller = acme.caller(UserRole::Billing);
    let (one, two) = (
        create::organization(caller).await,
        create::organization(caller).await,
    );
    let project = create::project(caller, &one).await;
    let lifecycle = Lifecycle {
        root: "invoice",
        object: "invoice",
        selection: "number status currencyCode issuedOn dueOn organization { id } project { id }
                    total { amount currencyCode }",
        create: "createInvoice",
        input: json!({ "organizationId": one, "currencyCode": "EUR" }),
        created: json!({
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
    lifecycle.check(caller).await;
}

#[apply(palisade_test)]
async fn lines_store_given_fields_and_keep_omitted_ones(acme: Tenant) {
    let caller = acme.caller(UserRole::Billing);
    let organization = create::organization(caller).await;
    let (one, two) = (create::product(caller).await, create::product(caller).await);
    let invoice = create::draft(caller, &organization, &["1.00"]).await;
    let lifecycle = Lifecycle {
        root: "invoiceLineItem",
        object: "lineItem",
        selection: "position description quantity taxRate unitPrice { amount currencyCode }
                    amount { amount currencyCode } product { id } invoice { id }",
        create: "addInvoiceLineItem",
        input: json!({
            "invoiceId": invoice, "description": "Work", "quantity": "2.5", "unitPrice": "3.33",
            "taxRate": "0.19", "productId": one,
        }),
        created: json!({
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
    lifecycle.check(caller).await;
}

#[apply(palisade_test)]
async fn a_comment_belongs_to_its_author_and_holds_the_latest_text(acme: Tenant) {
    let caller = acme.caller(UserRole::Member);
    let organization = create::organization(caller).await;
    let invoice = create::draft(acme.owner(), &organization, &["1.00"]).await;
    for subject in [
        create::project(caller, &organization).await,
        create::product(caller).await,
        invoice,
    ] {
        let selection = "comment { id version body author { id }
            subject { ... on Node { id } } }";
        let input = json!({ "subjectId": subject, "body": "First!\n\n日本 🚀" });
        let written_comment =
            caller.mutate_ok("createComment", input, selection).await["comment"].clone();
        let mut expected = json!({
            "id": written_comment["id"], "version": 1, "body": "First!\n\n日本 🚀",
            "author": { "id": caller.user.to_string() }, "subject": { "id": subject },
        });
        assert_eq!(written_comment, expected);
        let input = json!({ "id": written_comment["id"], "body": "Second" });
        let written_comment =
            caller.mutate_ok("updateComment", input, selection).await["comment"].clone();
        expected["version"] = json!(2);
        expected["body"] = json!("Second");
        assert_eq!(written_comment, expected);
        let id = written_comment["id"].as_str().unwrap();
        let body = read(caller, "comment", id, "body").await;
        assert_eq!(body, json!({ "body": "Second" }));
    }
}

#[apply(palisade_test)]
async fn users_are_invited_in_lower_case_change_their_roles_and_lose_their_access(acme: Tenant) {
    let owner = acme.owner();
    let selection = "user { id email displayName role status version }";
    let input = json!({ "email": "Ada@Example.ORG", "displayName": "Ada" });
    let ada = owner.mutate_ok("inviteUser", input, selection).await["user"].clone();
    let mut expected = json!({
        "id": ada["id"], "email": "ada@example.org", "displayName": "Ada", "role": "MEMBER",
        "status": "INVITED", "version": 1,
    });
    assert_eq!(ada, expected);
    let id = json!({ "id": ada["id"] });
    let input = json!({ "id": ada["id"], "role": "BILLING" });
    let ada = owner.mutate_ok("changeUserRole", input, selection).await["user"].clone();
    expected["role"] = json!("BILLING");
    expected["version"] = json!(2);
    assert_eq!(ada, expected);
    let ada = owner.mutate_ok("deactivateUser", id, selection).await["user"].clone();
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
    let grace = owner.mutate_ok("inviteUser", input, selection).await["user"].clone();
    assert_eq!(
        (&grace["role"], &grace["displayName"]),
        (&json!("OWNER"), &Value::Null)
    );
}
