//! A sample of every mutation: an input that an owner may send, and what it leaves in the audit log.

use std::collections::BTreeSet;

use palisade::{auth::role::UserRole, ids::EntityId as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cross_tenant::{Schema, array, name, named},
    harness::{Tenant, TenantSql, id},
};

/// Rows of one tenant that suit every mutation. A mutation uses some of them up, so each use has its own.
pub struct Rows {
    /// A text of their own, for what is unique in a tenant: ten capital letters and digits.
    pub unique: String,
    /// The tenant's owner, of all projects as well, and two users who cannot sign in.
    pub owner: Uuid,
    pub colleague: Uuid,
    pub second_owner: Uuid,
    /// One with projects and invoices, one with nothing, one in the archive.
    pub organization: Uuid,
    pub spare_organization: Uuid,
    pub archived_organization: Uuid,
    /// One with invoices, one with a comment, one with nothing, one in the archive.
    pub project: Uuid,
    pub discussed_project: Uuid,
    pub spare_project: Uuid,
    pub archived_project: Uuid,
    /// One that stands on an invoice, one with a comment, one in the archive.
    pub product: Uuid,
    pub discussed_product: Uuid,
    pub archived_product: Uuid,
    /// A draft of `project`, and the first of its two lines.
    pub draft: Uuid,
    pub line: Uuid,
    /// An issued invoice of `project`.
    pub open: Uuid,
    /// On `project`.
    pub comment: Uuid,
}

impl Rows {
    /// Makes them. All comments are the user's with the role `author`.
    pub async fn new(tenant: &Tenant, sql: &mut TenantSql, author: UserRole) -> Self {
        let new = Uuid::now_v7;
        let rows = Self {
            unique: format!("{:010X}", Uuid::new_v4().as_u128() % (1 << 40)),
            owner: tenant.owner().user.uuid(),
            colleague: new(),
            second_owner: new(),
            organization: new(),
            spare_organization: new(),
            archived_organization: new(),
            project: new(),
            discussed_project: new(),
            spare_project: new(),
            archived_project: new(),
            product: new(),
            discussed_product: new(),
            archived_product: new(),
            draft: new(),
            line: new(),
            open: new(),
            comment: new(),
        };
        let script = rows.script(tenant, author);
        let made = sqlx::raw_sql(sqlx::AssertSqlSafe(script));
        made.execute(&mut sql.0).await.unwrap();
        rows
    }

    fn script(&self, tenant: &Tenant, author: UserRole) -> String {
        let Self {
            unique,
            owner,
            colleague,
            second_owner,
            organization,
            spare_organization,
            archived_organization,
            project,
            discussed_project,
            spare_project,
            archived_project,
            product,
            discussed_product,
            archived_product,
            draft,
            line,
            open,
            comment,
        } = self;
        let slug = unique.to_lowercase();
        let author = tenant.caller(author).user.uuid();
        let asin = |letter: char| format!("{letter}{}", &unique[1..]);
        let (used, discussed, archived) = (asin('U'), asin('D'), asin('A'));
        format!(
            "begin;
             insert into users (id, email, role, status) values
                 ('{colleague}', 'colleague-{slug}@example.com', 'MEMBER', 'ACTIVE'),
                 ('{second_owner}', 'second-{slug}@example.com', 'OWNER', 'ACTIVE');
             insert into organizations (id, name, slug, status) values
                 ('{organization}', 'Organization', 'used-{slug}', 'ACTIVE'),
                 ('{spare_organization}', 'Spare', 'spare-{slug}', 'ACTIVE'),
                 ('{archived_organization}', 'Archived', 'archived-{slug}', 'ARCHIVED');
             insert into projects (id, organization_id, owner_id, name, status, archived_from) values
                 ('{project}', '{organization}', '{owner}', 'Project', 'ACTIVE', null),
                 ('{discussed_project}', '{organization}', '{owner}', 'Discussed', 'ACTIVE', null),
                 ('{spare_project}', '{organization}', '{owner}', 'Spare', 'PLANNED', null),
                 ('{archived_project}', '{organization}', '{owner}', 'Archived', 'ARCHIVED', 'ON_HOLD');
             insert into products (id, asin, title, price_minor, currency, status) values
                 ('{product}', '{used}', 'Product', 1999, 'EUR', 'ACTIVE'),
                 ('{discussed_product}', '{discussed}', 'Discussed', 1999, 'EUR', 'ACTIVE'),
                 ('{archived_product}', '{archived}', 'Archived', 1999, 'EUR', 'ARCHIVED');
             insert into invoices (id, organization_id, project_id, currency) values
                 ('{draft}', '{organization}', '{project}', 'EUR'),
                 ('{open}', '{organization}', '{project}', 'EUR');
             insert into invoice_line_items (id, invoice_id, product_id, position, description, quantity,
                                             unit_price_minor, amount_minor, tax_rate, currency) values
                 ('{line}', '{draft}', '{product}', 1, 'First', 2, 1999, 3998, 0.19, 'EUR'),
                 (app.uuid_v7(), '{draft}', '{product}', 2, 'Second', 1, 1999, 1999, null, 'EUR'),
                 (app.uuid_v7(), '{open}', '{product}', 1, 'Only', 1, 1999, 1999, 0.19, 'EUR');
             update invoices set currency = currency where id = '{draft}';
             update invoices set status = 'OPEN' where id = '{open}';
             -- As somebody who may comment: a viewer has once been a member.
             set local app.user_id = '{author}';
             set local app.role = 'MEMBER';
             insert into comments (id, author_id, project_id, product_id, body) values
                 ('{comment}', '{author}', '{project}', null, 'Comment'),
                 (app.uuid_v7(), '{author}', '{discussed_project}', null, 'Comment'),
                 (app.uuid_v7(), '{author}', null, '{discussed_product}', 'Comment');
             commit"
        )
    }

    /// A slug, or a part of an address, that no row has.
    fn slug(&self) -> String {
        format!("new-{}", self.unique.to_lowercase())
    }

    /// An article number that no row has.
    fn asin(&self, letter: char) -> String {
        format!("{letter}{}", &self.unique[1..])
    }
}

/// Of which project an entry of the audit log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    Nothing,
    Project(Uuid),
    /// Of the project that changed.
    Itself,
}

/// Entries of the audit log by what was done.
pub type Entries = Vec<(&'static str, Of)>;

/// One mutation.
pub struct Sample {
    pub field: &'static str,
    /// What sets it apart from the other samples of the field.
    case: &'static str,
    /// What an owner may send.
    pub input: fn(&Rows) -> Value,
    /// What it leaves in the audit log, in any order.
    pub entries: fn(&Rows) -> Entries,
    /// The changed columns of the row that an `updateX` names: column, before and after.
    pub changes: Option<fn(&Rows) -> Value>,
}

impl Sample {
    const fn new(
        field: &'static str,
        input: fn(&Rows) -> Value,
        entries: fn(&Rows) -> Entries,
    ) -> Self {
        Self {
            field,
            case: "",
            input,
            entries,
            changes: None,
        }
    }

    const fn case(self, case: &'static str) -> Self {
        Self { case, ..self }
    }

    /// The field, and the case if it has several.
    pub fn name(&self) -> String {
        format!("{} {}", self.field, self.case)
            .trim_end()
            .to_owned()
    }

    const fn changing(self, changes: fn(&Rows) -> Value) -> Self {
        Self {
            changes: Some(changes),
            ..self
        }
    }

    /// Whether it changes or deletes comments that are there.
    pub fn touches_comments(&self, rows: &Rows) -> bool {
        let touches = |entry: &str| matches!(entry, "comment.updated" | "comment.deleted");
        (self.entries)(rows).iter().any(|(entry, _)| touches(entry))
    }
}

fn money(amount: &str) -> Value {
    json!({ "amount": amount, "currencyCode": "EUR" })
}

fn change(field: &str, before: impl Into<Value>, after: impl Into<Value>) -> Value {
    json!({ "field": field, "before": before.into(), "after": after.into() })
}

fn the_project(rows: &Rows) -> Of {
    Of::Project(rows.project)
}

/// An organization, a product or a user, of no project.
fn of_nothing(entry: &'static str) -> Entries {
    vec![(entry, Of::Nothing)]
}

/// One invoice of the project, which is changed.
fn invoice_updated(rows: &Rows) -> Entries {
    vec![("invoice.updated", the_project(rows))]
}

/// One line of it is changed, and with it its totals.
fn line(entry: &'static str, rows: &Rows) -> Entries {
    vec![
        (entry, the_project(rows)),
        ("invoice.updated", the_project(rows)),
    ]
}

/// The mutations that have a sample.
pub fn sampled() -> BTreeSet<&'static str> {
    samples().iter().map(|sample| sample.field).collect()
}

/// At least one sample of each mutation. Every id that an input can hold is given in it.
pub fn samples() -> Vec<Sample> {
    let mut samples = of_people_and_organizations();
    samples.extend(of_projects());
    samples.extend(of_products());
    samples.extend(of_invoices());
    samples.extend(of_comments());
    samples
}

fn of_people_and_organizations() -> Vec<Sample> {
    vec![
        Sample::new(
            "inviteUser",
            |rows| json!({ "email": format!("{}@example.com", rows.slug()), "displayName": "New", "role": "BILLING" }),
            |_| of_nothing("user.created"),
        ),
        Sample::new(
            "changeUserRole",
            |rows| json!({ "id": id("usr", rows.colleague), "role": "BILLING" }),
            |_| of_nothing("user.updated"),
        ),
        Sample::new(
            "deactivateUser",
            |rows| json!({ "id": id("usr", rows.colleague) }),
            |_| of_nothing("user.updated"),
        ),
        Sample::new(
            "inviteUser",
            |rows| json!({ "email": format!("{}@example.com", rows.slug()), "role": "OWNER" }),
            |_| of_nothing("user.created"),
        )
        .case("as an owner"),
        Sample::new(
            "changeUserRole",
            |rows| json!({ "id": id("usr", rows.colleague), "role": "OWNER" }),
            |_| of_nothing("user.updated"),
        )
        .case("to owner"),
        Sample::new(
            "changeUserRole",
            |rows| json!({ "id": id("usr", rows.second_owner), "role": "ADMIN" }),
            |_| of_nothing("user.updated"),
        )
        .case("of an owner"),
        Sample::new(
            "deactivateUser",
            |rows| json!({ "id": id("usr", rows.second_owner) }),
            |_| of_nothing("user.updated"),
        )
        .case("who is an owner"),
        Sample::new(
            "createOrganization",
            |rows| json!({ "name": "New", "slug": rows.slug() }),
            |_| of_nothing("organization.created"),
        ),
        Sample::new(
            "updateOrganization",
            |rows| json!({ "id": id("org", rows.organization), "name": "Renamed" }),
            |_| of_nothing("organization.updated"),
        )
        .changing(|_| json!([change("name", "Organization", "Renamed")])),
        Sample::new(
            "archiveOrganization",
            |rows| json!({ "id": id("org", rows.organization) }),
            |_| of_nothing("organization.updated"),
        ),
        Sample::new(
            "unarchiveOrganization",
            |rows| json!({ "id": id("org", rows.archived_organization) }),
            |_| of_nothing("organization.updated"),
        ),
        Sample::new(
            "deleteOrganization",
            |rows| json!({ "id": id("org", rows.spare_organization) }),
            |_| of_nothing("organization.deleted"),
        ),
    ]
}

fn of_projects() -> Vec<Sample> {
    vec![
        Sample::new(
            "createProject",
            |rows| {
                json!({ "name": "New", "organizationId": id("org", rows.organization),
                        "ownerId": id("usr", rows.colleague), "dueOn": "2030-01-31" })
            },
            |_| vec![("project.created", Of::Itself)],
        ),
        Sample::new(
            "updateProject",
            |rows| {
                json!({ "id": id("prj", rows.project), "name": "Renamed",
                        "organizationId": id("org", rows.spare_organization),
                        "ownerId": id("usr", rows.second_owner) })
            },
            |_| vec![("project.updated", Of::Itself)],
        )
        .changing(|rows| {
            json!([
                change("name", "Project", "Renamed"),
                change(
                    "organization_id",
                    rows.organization.to_string(),
                    rows.spare_organization.to_string()
                ),
                change(
                    "owner_id",
                    rows.owner.to_string(),
                    rows.second_owner.to_string()
                ),
            ])
        }),
        Sample::new(
            "archiveProject",
            |rows| json!({ "id": id("prj", rows.project) }),
            |_| vec![("project.updated", Of::Itself)],
        ),
        Sample::new(
            "unarchiveProject",
            |rows| json!({ "id": id("prj", rows.archived_project) }),
            |_| vec![("project.updated", Of::Itself)],
        ),
        Sample::new(
            "deleteProject",
            |rows| json!({ "id": id("prj", rows.discussed_project) }),
            |rows| {
                vec![
                    ("comment.deleted", Of::Project(rows.discussed_project)),
                    ("project.deleted", Of::Itself),
                ]
            },
        ),
        Sample::new(
            "deleteProjects",
            |rows| {
                json!({ "ids": [id("prj", rows.discussed_project), id("prj", rows.spare_project)],
                        "idempotencyKey": "delete these" })
            },
            |rows| {
                vec![
                    ("comment.deleted", Of::Project(rows.discussed_project)),
                    ("project.deleted", Of::Itself),
                    ("project.deleted", Of::Itself),
                ]
            },
        ),
    ]
}

fn of_products() -> Vec<Sample> {
    vec![
        Sample::new(
            "createProduct",
            |rows| json!({ "asin": rows.asin('N'), "title": "New", "price": money("19.99") }),
            |_| of_nothing("product.created"),
        ),
        Sample::new(
            "updateProduct",
            |rows| json!({ "id": id("prd", rows.product), "price": money("20.01") }),
            |_| of_nothing("product.updated"),
        )
        .changing(|_| json!([change("price_minor", 1999, 2001)])),
        Sample::new(
            "archiveProduct",
            |rows| json!({ "id": id("prd", rows.product) }),
            |_| of_nothing("product.updated"),
        ),
        Sample::new(
            "unarchiveProduct",
            |rows| json!({ "id": id("prd", rows.archived_product) }),
            |_| of_nothing("product.updated"),
        ),
        Sample::new(
            "deleteProduct",
            |rows| json!({ "id": id("prd", rows.discussed_product) }),
            |_| {
                vec![
                    ("comment.deleted", Of::Nothing),
                    ("product.deleted", Of::Nothing),
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
                    ("product.created", Of::Nothing),
                    ("product.created", Of::Nothing),
                ]
            },
        ),
    ]
}

fn of_invoices() -> Vec<Sample> {
    vec![
        Sample::new(
            "createInvoice",
            |rows| {
                let one = json!({ "description": "One", "productId": id("prd", rows.product),
                                  "quantity": "1.5", "unitPrice": "10", "taxRate": "0.19" });
                let two = json!({ "description": "Two", "productId": id("prd", rows.discussed_product),
                                  "quantity": "1", "unitPrice": "-1.00" });
                json!({ "organizationId": id("org", rows.organization), "projectId": id("prj", rows.project),
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
                json!({ "id": id("inv", rows.draft), "organizationId": id("org", rows.spare_organization),
                        "projectId": id("prj", rows.spare_project), "dueOn": "2030-01-31" })
            },
            |rows| vec![("invoice.updated", Of::Project(rows.spare_project))],
        )
        .changing(|rows| {
            json!([
                change("due_on", Value::Null, "2030-01-31"),
                change("organization_id", rows.organization.to_string(), rows.spare_organization.to_string()),
                change("project_id", rows.project.to_string(), rows.spare_project.to_string()),
            ])
        }),
        Sample::new(
            "addInvoiceLineItem",
            |rows| {
                json!({ "invoiceId": id("inv", rows.draft), "description": "Third",
                        "productId": id("prd", rows.product), "quantity": "1", "unitPrice": "5" })
            },
            |rows| line("invoice_line_item.created", rows),
        ),
        Sample::new(
            "updateInvoiceLineItem",
            |rows| {
                json!({ "id": id("ili", rows.line), "productId": id("prd", rows.discussed_product), "quantity": "3" })
            },
            |rows| line("invoice_line_item.updated", rows),
        )
        .changing(|rows| {
            json!([
                change("amount_minor", 3998, 5997),
                change("product_id", rows.product.to_string(), rows.discussed_product.to_string()),
                change("quantity", json!(2.0), json!(3.0)),
            ])
        }),
        Sample::new(
            "removeInvoiceLineItem",
            |rows| json!({ "id": id("ili", rows.line) }),
            |rows| line("invoice_line_item.deleted", rows),
        ),
        Sample::new(
            "issueInvoice",
            |rows| json!({ "id": id("inv", rows.draft), "dueOn": "2099-12-31" }),
            invoice_updated,
        ),
        Sample::new(
            "payInvoice",
            |rows| json!({ "id": id("inv", rows.open) }),
            invoice_updated,
        ),
        Sample::new(
            "voidInvoice",
            |rows| json!({ "id": id("inv", rows.open) }),
            invoice_updated,
        ),
        Sample::new(
            "markInvoiceUncollectible",
            |rows| json!({ "id": id("inv", rows.open) }),
            invoice_updated,
        ),
    ]
}

fn of_comments() -> Vec<Sample> {
    vec![
        Sample::new(
            "createComment",
            |rows| json!({ "subjectId": id("prj", rows.project), "body": "New" }),
            |rows| vec![("comment.created", the_project(rows))],
        ),
        Sample::new(
            "createComment",
            |rows| json!({ "subjectId": id("inv", rows.open), "body": "New" }),
            |rows| vec![("comment.created", the_project(rows))],
        )
        .case("on an invoice"),
        Sample::new(
            "createComment",
            |rows| json!({ "subjectId": id("prd", rows.product), "body": "New" }),
            |_| of_nothing("comment.created"),
        )
        .case("on a product"),
        Sample::new(
            "updateComment",
            |rows| json!({ "id": id("com", rows.comment), "body": "Better" }),
            |rows| vec![("comment.updated", the_project(rows))],
        )
        .changing(|_| json!([change("body", "Comment", "Better")])),
        Sample::new(
            "deleteComment",
            |rows| json!({ "id": id("com", rows.comment) }),
            |rows| vec![("comment.deleted", the_project(rows))],
        ),
    ]
}

/// Where a sample's input holds ids, as JSON pointers. Computed from the schema: an input that can hold
/// an id which the sample leaves out fails the test.
pub fn id_places(schema: &Schema, field: &str, input: &Value) -> Vec<String> {
    let of = super::of_mutation(schema, field);
    let mut places = Vec::new();
    collect(
        schema,
        named(&array(&of["args"])[0]["type"]),
        "",
        input,
        &mut places,
    );
    places
}

fn collect(schema: &Schema, of: &str, at: &str, value: &Value, places: &mut Vec<String>) {
    if let Value::Array(values) = value {
        assert!(!values.is_empty(), "{at}: a sample with an empty list");
        for (index, value) in values.iter().enumerate() {
            collect(schema, of, &format!("{at}/{index}"), value, places);
        }
    } else if of == "ID" {
        assert!(value.is_string(), "{at}: a sample without this id: {value}");
        places.push(at.to_owned());
    } else if schema.kind(of) == "INPUT_OBJECT" {
        for field in schema.inputs(of) {
            let (key, inner) = (name(field), named(&field["type"]));
            // What holds no id may be left out.
            if holds_id(schema, inner) {
                collect(schema, inner, &format!("{at}/{key}"), &value[key], places);
            }
        }
    }
}

fn holds_id(schema: &Schema, of: &str) -> bool {
    of == "ID"
        || schema.kind(of) == "INPUT_OBJECT"
            && schema
                .inputs(of)
                .iter()
                .any(|field| holds_id(schema, named(&field["type"])))
}
