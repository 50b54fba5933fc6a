//! Products.

use UserRole::{Owner, Viewer};
use palisade::{
    auth::role::UserRole,
    db::{entity::Entity as _, write::Writable as _},
    products::Product,
};
use serde_json::json;

use super::{
    EntryProject, Rejected, Sample, Slice, World, change, money, rejected, without_project,
};

pub const SLICE: Slice = Slice {
    rows: ROWS,
    permission: "EDIT_RECORDS",
    mutations,
    rejected: rejected_inputs,
    rules: &[(Product::TABLE, Product::RULES, Product::REFERRERS)],
    inviolable: &[
        ("products_price_has_currency", "one input holds both"),
        ("products_status_known", "an enum"),
        ("products_tenant_fkey", "the tenant is the caller's"),
    ],
    values: &[
        ("products", "asin", "'B' || lpad(n::text, 9, '0')"),
        ("products", "price_minor", "1999"),
        ("products", "currency", "'EUR'"),
    ],
    ..Slice::EMPTY
};

const ROWS: &str = "
    insert into products (id, asin, title, price_minor, currency, status) values
        ('{product}', 'U' || right('{unique}', 9), 'Product', 1999, 'EUR', 'ACTIVE'),
        ('{discussed_product}', 'D' || right('{unique}', 9), 'Discussed', 1999, 'EUR', 'ACTIVE'),
        ('{archived_product}', 'A' || right('{unique}', 9), 'Archived', 1999, 'EUR', 'ARCHIVED');
";

fn mutations() -> Vec<Sample> {
    vec![
        Sample::new(
            "createProduct",
            |rows| json!({ "asin": rows.asin('N'), "title": "New", "price": money("19.99") }),
            |_| without_project("product.created"),
        ),
        Sample::new(
            "updateProduct",
            |rows| json!({ "id": rows.id("product"), "price": money("20.01") }),
            |_| without_project("product.updated"),
        )
        .changing(|_| json!([change("price_minor", 1999, 2001)])),
        Sample::new(
            "archiveProduct",
            |rows| json!({ "id": rows.id("product") }),
            |_| without_project("product.updated"),
        ),
        Sample::new(
            "unarchiveProduct",
            |rows| json!({ "id": rows.id("archived_product") }),
            |_| without_project("product.updated"),
        ),
        Sample::new(
            "deleteProduct",
            |rows| json!({ "id": rows.id("discussed_product") }),
            |_| {
                vec![
                    ("comment.deleted", EntryProject::None),
                    ("product.deleted", EntryProject::None),
                ]
            },
        ),
        Sample::new(
            "importProducts",
            |rows| {
                json!({ "rows": [{ "asin": rows.asin('N') }, { "asin": rows.asin('M'), "price": money("1") }],
                        "idempotencyKey": "import these" })
            },
            |_| {
                vec![
                    ("product.created", EntryProject::None),
                    ("product.created", EntryProject::None),
                ]
            },
        ),
    ]
}

fn rejected_inputs(world: &World) -> Vec<Rejected> {
    let id = &world.id("product");
    let price =
        |amount: &str, currency: &str| json!({ "amount": amount, "currencyCode": currency });
    vec![
        rejected(
            Owner,
            "createProduct",
            json!({ "asin": "b000000001", "title": "", "price": price("-0.01", "EUR") }),
            &[
                ("INVALID", "asin"),
                ("REQUIRED", "title"),
                ("TOO_SMALL", "price.amount"),
            ],
        ),
        rejected(
            Owner,
            "createProduct",
            json!({ "asin": world.rows.asin('U') }),
            &[("ALREADY_EXISTS", "asin")],
        ),
        rejected(
            Owner,
            "createProduct",
            json!({ "asin": "B000000002", "title": "t".repeat(301), "price": price("1", "XXX") }),
            &[("TOO_LONG", "title"), ("INVALID", "price.currencyCode")],
        ),
        rejected(
            Owner,
            "updateProduct",
            json!({ "id": id, "price": price("99999999999999999.99", "EUR") }),
            &[("TOO_LARGE", "price.amount")],
        ),
        rejected(
            Viewer,
            "updateProduct",
            json!({ "id": id, "title": "t" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Owner,
            "deleteProduct",
            json!({ "id": id }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Viewer,
            "importProducts",
            json!({ "rows": [{ "asin": "B000000009" }] }),
            &[("FORBIDDEN", "")],
        ),
    ]
}
