//! Archiving, restoring and deleting.

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::json;

use crate::{
    create::{self, read},
    harness::{Tenant, palisade_test, user_errors},
};

#[apply(palisade_test)]
async fn unarchiving_restores_the_status_before_archiving(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    for status in ["PLANNED", "ACTIVE", "ON_HOLD", "COMPLETED"] {
        let id = create::project(owner, &organization).await;
        let change = json!({ "id": id, "status": status });
        owner
            .mutate_ok("updateProject", change, "project { id }")
            .await;
        let target = json!({ "id": id });
        let selection = "project { status version }";
        let payload = owner
            .mutate_ok("archiveProject", target.clone(), selection)
            .await;
        assert_eq!(
            payload["project"],
            json!({ "status": "ARCHIVED", "version": 3 })
        );
        // A change of another field while the project is archived does not affect the status that is restored.
        let renamed = json!({ "id": id, "name": "Renamed" });
        owner.mutate_ok("updateProject", renamed, selection).await;
        let rejected = owner
            .mutate("archiveProject", target.clone(), selection)
            .await;
        assert_eq!(
            user_errors(&rejected),
            [("INVALID_STATE", "input.id".to_owned())]
        );
        let payload = owner
            .mutate_ok("unarchiveProject", target.clone(), selection)
            .await;
        assert_eq!(
            payload["project"],
            json!({ "status": status, "version": 5 })
        );
        let rejected = owner.mutate("unarchiveProject", target, selection).await;
        assert_eq!(
            user_errors(&rejected),
            [("INVALID_STATE", "input.id".to_owned())]
        );
    }
    for (object, kind, id) in [
        ("organization", "Organization", organization),
        ("product", "Product", create::product(owner).await),
    ] {
        let target = json!({ "id": id });
        let selection = format!("{object} {{ status }}");
        for (verb, status) in [("archive", "ARCHIVED"), ("unarchive", "ACTIVE")] {
            let name = format!("{verb}{kind}");
            let payload = owner.mutate_ok(&name, target.clone(), &selection).await;
            assert_eq!(payload[object]["status"], status);
            let rejected = owner.mutate(&name, target.clone(), &selection).await;
            assert_eq!(
                user_errors(&rejected),
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
async fn a_deleted_row_is_returned_once_and_is_gone_with_its_comments(acme: Tenant) {
    let owner = acme.owner();
    let organization = create::organization(owner).await;
    let free = create::organization(owner).await;
    let project = create::project(owner, &organization).await;
    let product = create::product(owner).await;
    let member = acme.caller(UserRole::Member);
    let of_project = create::comment(member, &project).await;
    let of_product = create::comment(member, &product).await;
    let alone = create::comment(member, &create::project(owner, &organization).await).await;
    let invoice = create::draft(owner, &organization, &["1.00"]).await;
    let line = create::line(owner, &invoice).await;
    for (name, object, root, id) in [
        ("deleteOrganization", "organization", "organization", free),
        ("deleteProject", "project", "project", project),
        ("deleteProduct", "product", "product", product),
        ("deleteComment", "comment", "comment", alone),
        ("removeInvoiceLineItem", "lineItem", "invoiceLineItem", line),
    ] {
        let selection = format!("{object} {{ id version }}");
        let target = json!({ "id": id });
        let payload = owner.mutate_ok(name, target.clone(), &selection).await;
        assert_eq!(payload[object], json!({ "id": id, "version": 1 }), "{name}");
        assert!(read(owner, root, &id, "id").await.is_null(), "{name}");
        let payload = owner.mutate(name, target, &selection).await;
        assert_eq!(
            user_errors(&payload),
            [("NOT_FOUND", "input.id".to_owned())]
        );
    }
    for comment in [of_project, of_product] {
        assert!(read(owner, "comment", &comment, "id").await.is_null());
    }
    let total = read(owner, "invoice", &invoice, "total { amount }").await;
    assert_eq!(total, json!({ "total": { "amount": "1.00" } }));
}
