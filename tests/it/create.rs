//! Creates objects through the API, and reads what a tenant has.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Caller, Tenant};

/// A string that no other test uses; valid as a name and as a slug.
pub fn unique(word: &str) -> String {
    format!("{word}-{}", Uuid::new_v4().simple())
}

/// An ASIN that no other test uses.
pub fn asin() -> String {
    Uuid::new_v4().simple().to_string()[..10].to_uppercase()
}

async fn make(caller: &Caller, name: &str, object: &str, input: Value) -> String {
    let payload = caller
        .mutate_ok(name, input, &format!("{object} {{ id }}"))
        .await;
    payload[object]["id"].as_str().unwrap().to_owned()
}

pub async fn organization(caller: &Caller) -> String {
    let input = json!({ "name": unique("organization") });
    make(caller, "createOrganization", "organization", input).await
}

pub async fn project(caller: &Caller, organization: &str) -> String {
    let input = json!({ "name": unique("project"), "organizationId": organization });
    make(caller, "createProject", "project", input).await
}

pub async fn product(caller: &Caller) -> String {
    let input = json!({ "asin": asin() });
    make(caller, "createProduct", "product", input).await
}

pub async fn comment(caller: &Caller, subject: &str) -> String {
    let input = json!({ "subjectId": subject, "body": unique("comment") });
    make(caller, "createComment", "comment", input).await
}

/// A line over a price of one in the invoice's currency.
pub fn line_of(price: &str) -> Value {
    json!({ "description": "Work", "quantity": "1", "unitPrice": price })
}

/// A draft in EUR with a line for each price.
pub async fn draft(caller: &Caller, organization: &str, prices: &[&str]) -> String {
    let lines: Vec<Value> = prices.iter().map(|price| line_of(price)).collect();
    let input =
        json!({ "organizationId": organization, "currencyCode": "EUR", "lineItems": lines });
    make(caller, "createInvoice", "invoice", input).await
}

/// An invoice of one line in a status.
pub async fn invoice(caller: &Caller, organization: &str, status: &str) -> String {
    let id = draft(caller, organization, &["1.00"]).await;
    let steps: &[&str] = match status {
        "DRAFT" => &[],
        "OPEN" => &["issueInvoice"],
        "PAID" => &["issueInvoice", "payInvoice"],
        "VOID" => &["issueInvoice", "voidInvoice"],
        "UNCOLLECTIBLE" => &["issueInvoice", "markInvoiceUncollectible"],
        other => panic!("no status: {other}"),
    };
    for step in steps {
        make(caller, step, "invoice", json!({ "id": id })).await;
    }
    id
}

/// A line of a draft.
pub async fn line(caller: &Caller, invoice: &str) -> String {
    let mut input = line_of("1.00");
    input["invoiceId"] = json!(invoice);
    make(caller, "addInvoiceLineItem", "lineItem", input).await
}

/// An object as a query returns it; null if there is none.
pub async fn read(caller: &Caller, root: &str, id: &str, selection: &str) -> Value {
    let document = format!("query ($id: ID!) {{ {root}(id: $id) {{ {selection} }} }}");
    let reply = caller.send(&document, &json!({ "id": id }), &[]).await;
    reply.response().data()[root].clone()
}

/// A fingerprint of all rows of a tenant except its idempotency keys: equal if nothing was written.
pub async fn fingerprint(tenant: &Tenant) -> Vec<String> {
    let mut tables = tenant.everything().await;
    tables.retain(|table| !table.starts_with("idempotency_keys "));
    tables
}
