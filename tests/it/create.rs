//! Creates objects through the API and reads them. The inputs come from the samples; a function here only adds the ids
//! of other objects. A new entity needs no function here.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Caller, Tenant, model},
    samples::{input_with, payload_object},
};

/// A string that no other test uses; valid as a name and as a slug.
pub fn unique(word: &str) -> String {
    format!("{word}-{}", Uuid::new_v4().simple())
}

/// An ASIN that no other test uses.
pub fn asin() -> String {
    Uuid::new_v4().simple().to_string()[..10].to_uppercase()
}

/// Runs a mutation with the input of its sample. Returns the id of its object. The ids in the sample's input are
/// removed. `with` adds the required ids and replaces other fields.
async fn run(caller: &Caller, mutation: &str, with: Value) -> String {
    let object = &payload_object(model().mutation(mutation)).name;
    let input = input_with(mutation, with);
    let payload = caller
        .mutate_ok(mutation, input, &format!("{object} {{ id }}"))
        .await;
    payload[object]["id"].as_str().unwrap().to_owned()
}

pub async fn organization(caller: &Caller) -> String {
    run(caller, "createOrganization", json!({})).await
}

pub async fn project(caller: &Caller, organization: &str) -> String {
    let with = json!({ "organizationId": organization });
    run(caller, "createProject", with).await
}

pub async fn product(caller: &Caller) -> String {
    run(caller, "createProduct", json!({})).await
}

pub async fn comment(caller: &Caller, subject: &str) -> String {
    run(caller, "createComment", json!({ "subjectId": subject })).await
}

/// An input for an invoice line with quantity 1 and this unit price.
pub fn line_of(price: &str) -> Value {
    json!({ "description": "Work", "quantity": "1", "unitPrice": price })
}

/// Creates a draft invoice in EUR with one line for each price.
pub async fn draft(caller: &Caller, organization: &str, prices: &[&str]) -> String {
    let lines: Vec<Value> = prices.iter().map(|price| line_of(price)).collect();
    let with = json!({ "organizationId": organization, "lineItems": lines });
    run(caller, "createInvoice", with).await
}

/// Creates an invoice with one line, and brings it to a status.
pub async fn invoice(caller: &Caller, organization: &str, status: &str) -> String {
    let id = draft(caller, organization, &["1.00"]).await;
    let steps: &[&str] = match status {
        "DRAFT" => &[],
        "OPEN" => &["issueInvoice"],
        "PAID" => &["issueInvoice", "payInvoice"],
        "VOID" => &["issueInvoice", "voidInvoice"],
        "UNCOLLECTIBLE" => &["issueInvoice", "markInvoiceUncollectible"],
        other => panic!("{other} is not a status"),
    };
    for step in steps {
        caller.mutate_ok(step, json!({ "id": id }), "").await;
    }
    id
}

/// Adds a line to a draft invoice.
pub async fn line(caller: &Caller, invoice: &str) -> String {
    run(
        caller,
        "addInvoiceLineItem",
        json!({ "invoiceId": invoice }),
    )
    .await
}

/// An object as a query returns it; null if there is none.
pub async fn read(caller: &Caller, root: &str, id: &str, selection: &str) -> Value {
    let document = format!("query ($id: ID!) {{ {root}(id: $id) {{ {selection} }} }}");
    let reply = caller.send(&document, &json!({ "id": id }), &[]).await;
    reply.response().data()[root].clone()
}

/// A fingerprint of a tenant's rows in all tables except idempotency keys. They are equal if nothing was written.
pub async fn fingerprint(tenant: &Tenant) -> Vec<String> {
    let mut tables = tenant.everything().await;
    tables.retain(|table| !table.starts_with("idempotency_keys "));
    tables
}
