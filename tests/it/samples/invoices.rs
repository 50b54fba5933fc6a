//! Invoices and their line items.

use UserRole::{Billing, Member, Owner};
use palisade::{
    auth::role::UserRole,
    db::{entity::Entity as _, write::Writable as _},
    invoices::{Invoice, InvoiceLineItem},
};
use serde_json::{Value, json};

use super::{
    Entries, EntryProject, Rejected, Rows, Sample, Slice, World, change, missing, moved, rejected,
    the_project,
};
use crate::create::line_of;

pub const SLICE: Slice = Slice {
    rows: ROWS,
    permission: "BILL",
    mutations,
    rejected: |world| {
        let mut all = rejected_new_invoices(world);
        all.extend(rejected_invoices(world));
        all.extend(rejected_lines(world));
        all
    },
    rules: &[
        (Invoice::TABLE, Invoice::RULES, &[]),
        (
            InvoiceLineItem::TABLE,
            InvoiceLineItem::RULES,
            InvoiceLineItem::REFERRERS,
        ),
    ],
    inviolable: &[
        (
            "invoice_line_items_amount_adds_up",
            "the database works it out",
        ),
        (
            "invoice_line_items_currency_fkey",
            "it is that of the invoice",
        ),
        (
            "invoice_line_items_invoice_fkey",
            "the invoice was locked before",
        ),
        (
            "invoice_line_items_position_key",
            "counted under the invoice's lock",
        ),
        ("invoice_line_items_position_positive", "counted from 1"),
        (
            "invoices_issued_has_number",
            "the database gives the number",
        ),
        ("invoices_number_key", "the database gives the number"),
        ("invoices_number_length", "the database gives the number"),
        ("invoices_status_known", "an enum"),
        ("invoices_total_adds_up", "the database works it out"),
    ],
    values: &[
        ("invoices", "number", "null"),
        ("invoices", "status", "'DRAFT'"),
        ("invoices", "currency", "'EUR'"),
        ("invoices", "issued_on", "null"),
        ("invoices", "due_on", "null"),
        ("invoice_line_items", "quantity", "1"),
        ("invoice_line_items", "unit_price_minor", "100"),
        ("invoice_line_items", "amount_minor", "100"),
        ("invoice_line_items", "tax_rate", "null"),
        ("invoice_line_items", "currency", "'EUR'"),
    ],
    after_fill: AFTER_FILL,
};

const ROWS: &str = "
    insert into invoices (id, organization_id, project_id, currency) values
        ('{draft_invoice}', '{organization}', '{project}', 'EUR'),
        ('{empty_invoice}', '{organization}', '{project}', 'EUR'),
        ('{open_invoice}', '{organization}', '{project}', 'EUR');
    insert into invoice_line_items (id, invoice_id, product_id, position, description, quantity,
                                    unit_price_minor, amount_minor, tax_rate, currency) values
        ('{invoice_line_item}', '{draft_invoice}', '{product}', 1, 'First', 2, 1999, 3998, 0.19, 'EUR'),
        (app.uuid_v7(), '{draft_invoice}', '{product}', 2, 'Second', 1, 1999, 1999, null, 'EUR'),
        ('{issued_invoice_line_item}', '{open_invoice}', '{product}', 1, 'Only', 1, 1999, 1999, 0.19, 'EUR');
    update invoices set currency = currency where id = '{draft_invoice}';
    update invoices set status = 'OPEN' where id = '{open_invoice}';
";

/// Issues two thirds of the invoices, and pays some of them. The first four invoices stay drafts.
const AFTER_FILL: &[&str] = &[
    "insert into invoice_line_items (id, invoice_id, position, description, quantity, unit_price_minor,
                                     amount_minor, currency)
     select app.uuid_v7(), id, 1, 'Line ' || n % 7, 1, 100, 100, 'EUR'
     from (select id, row_number() over (order by created_at, id) n from invoices) numbered
     where n > 4 and n % 3 > 0",
    "update invoices i
     set status = 'OPEN', issued_on = date '2026-01-01' + n % 5,
         due_on = case n % 2 when 0 then null else date '2026-02-01' + n % 3 end
     from (select id, (row_number() over (order by created_at, id))::integer n from invoices) numbered
     where numbered.id = i.id and n > 4 and n % 3 > 0",
    "update invoices i set status = 'PAID'
     from (select id, row_number() over (order by created_at, id) n from invoices) numbered
     where numbered.id = i.id and n > 4 and n % 3 > 0 and n % 2 = 1",
];

/// The audit log entry for a change of an invoice of the project.
fn invoice_updated(rows: &Rows) -> Entries {
    vec![("invoice.updated", the_project(rows))]
}

/// The audit log entries for a change of an invoice line. The totals of the invoice change, too.
fn line(entry: &'static str, rows: &Rows) -> Entries {
    vec![
        (entry, the_project(rows)),
        ("invoice.updated", the_project(rows)),
    ]
}

fn mutations() -> Vec<Sample> {
    vec![
        Sample::new(
            "createInvoice",
            |rows| {
                let one = json!({ "description": "One", "productId": rows.id("product"),
                                  "quantity": "1.5", "unitPrice": "10", "taxRate": "0.19" });
                let two = json!({ "description": "Two", "productId": rows.id("discussed_product"),
                                  "quantity": "1", "unitPrice": "-1.00" });
                json!({ "organizationId": rows.id("organization"), "projectId": rows.id("project"),
                        "currencyCode": "EUR", "lineItems": [one, two] })
            },
            |rows| {
                vec![
                    ("invoice.created", the_project(rows)),
                    ("invoice_line_item.created", the_project(rows)),
                    ("invoice_line_item.created", the_project(rows)),
                    ("invoice.updated", the_project(rows)),
                ]
            },
        ),
        Sample::new(
            "updateInvoice",
            |rows| {
                json!({ "id": rows.id("draft_invoice"), "organizationId": rows.id("spare_organization"),
                        "projectId": rows.id("spare_project"), "dueOn": "2030-01-31" })
            },
            |rows| vec![("invoice.updated", EntryProject::Project(rows.uuid("spare_project")))],
        )
        .changing(|rows| {
            json!([
                change("due_on", Value::Null, "2030-01-31"),
                moved(rows, "organization_id", "organization", "spare_organization"),
                moved(rows, "project_id", "project", "spare_project"),
            ])
        }),
        Sample::new(
            "addInvoiceLineItem",
            |rows| {
                json!({ "invoiceId": rows.id("draft_invoice"), "description": "Third",
                        "productId": rows.id("product"), "quantity": "1", "unitPrice": "5" })
            },
            |rows| line("invoice_line_item.created", rows),
        ),
        Sample::new(
            "updateInvoiceLineItem",
            |rows| {
                json!({ "id": rows.id("invoice_line_item"), "productId": rows.id("discussed_product"), "quantity": "3" })
            },
            |rows| line("invoice_line_item.updated", rows),
        )
        .changing(|rows| {
            json!([
                change("amount_minor", 3998, 5997),
                moved(rows, "product_id", "product", "discussed_product"),
                change("quantity", json!(2.0), json!(3.0)),
            ])
        }),
        Sample::new(
            "removeInvoiceLineItem",
            |rows| json!({ "id": rows.id("invoice_line_item") }),
            |rows| line("invoice_line_item.deleted", rows),
        ),
        Sample::new(
            "issueInvoice",
            |rows| json!({ "id": rows.id("draft_invoice"), "dueOn": "2099-12-31" }),
            invoice_updated,
        ),
        Sample::new(
            "payInvoice",
            |rows| json!({ "id": rows.id("open_invoice") }),
            invoice_updated,
        ),
        Sample::new(
            "voidInvoice",
            |rows| json!({ "id": rows.id("open_invoice") }),
            invoice_updated,
        ),
        Sample::new(
            "markInvoiceUncollectible",
            |rows| json!({ "id": rows.id("open_invoice") }),
            invoice_updated,
        ),
    ]
}

fn rejected_new_invoices(world: &World) -> Vec<Rejected> {
    let organization = &world.id("organization");
    let lines = |count: usize| vec![line_of("1.00"); count];
    let invoice = |more: Value| {
        let mut input = json!({ "organizationId": organization, "currencyCode": "EUR" });
        for (name, value) in more.as_object().unwrap() {
            input[name] = value.clone();
        }
        input
    };
    vec![
        rejected(
            Owner,
            "createInvoice",
            invoice(json!({ "currencyCode": "XXX" })),
            &[("INVALID", "currencyCode")],
        ),
        rejected(
            Owner,
            "createInvoice",
            invoice(json!({ "organizationId": missing("Organization") })),
            &[("NOT_FOUND", "organizationId")],
        ),
        rejected(
            Owner,
            "createInvoice",
            invoice(json!({ "projectId": missing("Project") })),
            &[("NOT_FOUND", "projectId")],
        ),
        rejected(
            Owner,
            "createInvoice",
            invoice(json!({ "lineItems": lines(501) })),
            &[("LIMIT_REACHED", "lineItems")],
        ),
        rejected(
            Owner,
            "createInvoice",
            invoice(json!({ "lineItems": [
                    line_of("1.00"),
                    { "description": "", "quantity": "10000000000", "unitPrice": "1.005", "taxRate": "1.0001" },
                    { "description": "d", "quantity": "0.00001", "unitPrice": "1", "taxRate": "-0.1" },
                ] })),
            &[
                ("REQUIRED", "lineItems.1.description"),
                ("TOO_LARGE", "lineItems.1.quantity"),
                ("INVALID", "lineItems.1.unitPrice"),
                ("INVALID", "lineItems.2.quantity"),
                ("TOO_SMALL", "lineItems.2.taxRate"),
            ],
        ),
        rejected(
            Owner,
            "createInvoice",
            invoice(json!({ "lineItems": [line_of("1.00"), {
                    "description": "d", "quantity": "1", "unitPrice": "1", "productId": missing("Product"),
                }] })),
            &[("NOT_FOUND", "lineItems.1.productId")],
        ),
        rejected(
            Member,
            "createInvoice",
            invoice(json!({})),
            &[("FORBIDDEN", "")],
        ),
    ]
}

fn rejected_invoices(world: &World) -> Vec<Rejected> {
    vec![
        rejected(
            Billing,
            "updateInvoice",
            json!({ "id": world.id("open_invoice"), "dueOn": null }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Member,
            "updateInvoice",
            json!({ "id": world.id("draft_invoice"), "dueOn": null }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Billing,
            "issueInvoice",
            json!({ "id": world.id("draft_invoice"), "dueOn": "2000-01-01" }),
            &[("TOO_SMALL", "dueOn")],
        ),
        rejected(
            Billing,
            "issueInvoice",
            json!({ "id": world.id("empty_invoice") }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Billing,
            "issueInvoice",
            json!({ "id": world.id("open_invoice") }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Member,
            "issueInvoice",
            json!({ "id": world.id("draft_invoice") }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Billing,
            "payInvoice",
            json!({ "id": world.id("draft_invoice") }),
            &[("INVALID_STATE", "id")],
        ),
    ]
}

fn rejected_lines(world: &World) -> Vec<Rejected> {
    let line = |invoice: &str, more: Value| {
        let mut input = line_of("1.00");
        input["invoiceId"] = json!(invoice);
        for (name, value) in more.as_object().unwrap() {
            input[name] = value.clone();
        }
        input
    };
    vec![
        rejected(
            Owner,
            "addInvoiceLineItem",
            line(&missing("Invoice"), json!({})),
            &[("NOT_FOUND", "invoiceId")],
        ),
        rejected(
            Owner,
            "addInvoiceLineItem",
            line(&world.id("open_invoice"), json!({})),
            &[("INVALID_STATE", "invoiceId")],
        ),
        rejected(
            Owner,
            "addInvoiceLineItem",
            line(
                &world.id("draft_invoice"),
                json!({ "description": "d".repeat(501), "taxRate": "2" }),
            ),
            &[("TOO_LONG", "description"), ("TOO_LARGE", "taxRate")],
        ),
        rejected(
            Owner,
            "addInvoiceLineItem",
            line(
                &world.id("draft_invoice"),
                json!({ "productId": missing("Product") }),
            ),
            &[("NOT_FOUND", "productId")],
        ),
        rejected(
            Member,
            "addInvoiceLineItem",
            line(&world.id("draft_invoice"), json!({})),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Owner,
            "updateInvoiceLineItem",
            json!({ "id": world.id("issued_invoice_line_item"), "quantity": "2" }),
            &[("INVALID_STATE", "id")],
        ),
        rejected(
            Owner,
            "updateInvoiceLineItem",
            json!({ "id": world.id("invoice_line_item"), "description": "", "unitPrice": "0.001" }),
            &[("REQUIRED", "description"), ("INVALID", "unitPrice")],
        ),
        rejected(
            Member,
            "updateInvoiceLineItem",
            json!({ "id": world.id("invoice_line_item"), "quantity": "2" }),
            &[("FORBIDDEN", "")],
        ),
        rejected(
            Owner,
            "removeInvoiceLineItem",
            json!({ "id": world.id("issued_invoice_line_item") }),
            &[("INVALID_STATE", "id")],
        ),
    ]
}
