//! Archiving, restoring and deleting.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::json;

use crate::{
    harness::{Tenant, palisade_test, refusals},
    made::{self, read},
};

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
