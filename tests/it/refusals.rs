//! What mutations refuse, by which code and for which field; nothing is written then.

use std::collections::BTreeSet;

use macro_rules_attribute::apply;
use palisade::auth::role::UserRole;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    harness::{Caller, Tenant, TestApp, palisade_test, refusals},
    made::{self, fingerprint},
};

use UserRole::{Admin, Billing, Member, Owner, Viewer};

/// A mutation that is refused: who sends it, its name, its input, and its errors, each with its field
/// below the input.
struct Case {
    role: UserRole,
    name: &'static str,
    input: Value,
    errors: Vec<(&'static str, String)>,
}

fn case(
    role: UserRole,
    name: &'static str,
    input: Value,
    errors: &[(&'static str, &'static str)],
) -> Case {
    let path = |field: &str| match field {
        "" => String::new(),
        field => format!("input.{field}"),
    };
    let errors = errors.iter().map(|(code, field)| (*code, path(field)));
    Case {
        role,
        name,
        input,
        errors: errors.collect(),
    }
}

/// The objects of a tenant that the cases are about.
struct World {
    tenant: Tenant,
    organization: String,
    project: String,
    archived: String,
    product: String,
    draft: String,
    empty: String,
    line: String,
    open: String,
    open_line: String,
    comment: String,
}

impl World {
    async fn make() -> Self {
        let tenant = TestApp::shared().await.tenant().await;
        let owner = tenant.owner();
        let input = json!({ "name": "Taken", "slug": "taken" });
        let payload = owner
            .does("createOrganization", input, "organization { id }")
            .await;
        let organization = payload["organization"]["id"].as_str().unwrap().to_owned();
        let project = made::project(owner, &organization).await;
        let archived = made::project(owner, &organization).await;
        let target = json!({ "id": archived });
        owner.does("archiveProject", target, "project { id }").await;
        let input = json!({ "asin": "B000000001" });
        let payload = owner.does("createProduct", input, "product { id }").await;
        let product = payload["product"]["id"].as_str().unwrap().to_owned();
        let input = json!({
            "organizationId": organization, "projectId": project, "currencyCode": "EUR",
            "lineItems": [{ "description": "d", "quantity": "1", "unitPrice": "1", "productId": product }],
        });
        let selection = "invoice { id lineItems { nodes { id } } }";
        let payload = owner.does("createInvoice", input, selection).await;
        let draft = payload["invoice"]["id"].as_str().unwrap().to_owned();
        let line = payload["invoice"]["lineItems"]["nodes"][0]["id"]
            .as_str()
            .unwrap();
        let line = line.to_owned();
        let empty = made::draft(owner, &organization, &[]).await;
        let open = made::invoice(owner, &organization, "OPEN").await;
        let payload = made::read(owner, "invoice", &open, "lineItems { nodes { id } }").await;
        let open_line = payload["lineItems"]["nodes"][0]["id"].as_str().unwrap();
        let open_line = open_line.to_owned();
        let comment = made::comment(owner, &project).await;
        made::comment(owner, &product).await;
        Self {
            tenant,
            organization,
            project,
            archived,
            product,
            draft,
            empty,
            line,
            open,
            open_line,
            comment,
        }
    }

    fn user(&self, role: UserRole) -> String {
        self.tenant.caller(role).user.to_string()
    }

    fn of_users(&self) -> Vec<Case> {
        let taken = format!("OWNER@{}.example", self.tenant.slug);
        let invite = |email: &str| json!({ "email": email });
        let long = format!("{}@example.org", "a".repeat(250));
        vec![
            case(
                Owner,
                "inviteUser",
                invite(&taken),
                &[("ALREADY_EXISTS", "email")],
            ),
            case(
                Owner,
                "inviteUser",
                invite(""),
                &[("REQUIRED", "email"), ("INVALID", "email")],
            ),
            case(
                Owner,
                "inviteUser",
                invite("nobody"),
                &[("INVALID", "email")],
            ),
            case(
                Owner,
                "inviteUser",
                invite("a b@c"),
                &[("INVALID", "email")],
            ),
            case(Owner, "inviteUser", invite(&long), &[("TOO_LONG", "email")]),
            case(
                Owner,
                "inviteUser",
                json!({ "email": "a@b.example", "displayName": "" }),
                &[("REQUIRED", "displayName")],
            ),
            case(
                Admin,
                "inviteUser",
                json!({ "email": "a@b.example", "role": "OWNER" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Member,
                "inviteUser",
                invite("a@b.example"),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "changeUserRole",
                json!({ "id": self.user(Owner), "role": "ADMIN" }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Admin,
                "changeUserRole",
                json!({ "id": self.user(Owner), "role": "ADMIN" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Viewer,
                "changeUserRole",
                json!({ "id": self.user(Viewer), "role": "OWNER" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "deactivateUser",
                json!({ "id": self.user(Owner) }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Member,
                "deactivateUser",
                json!({ "id": self.user(Viewer) }),
                &[("FORBIDDEN", "")],
            ),
        ]
    }

    fn of_organizations(&self) -> Vec<Case> {
        let id = &self.organization;
        vec![
            case(
                Owner,
                "createOrganization",
                json!({ "name": "" }),
                &[("REQUIRED", "name")],
            ),
            case(
                Owner,
                "createOrganization",
                json!({ "name": "", "slug": "" }),
                &[("REQUIRED", "name"), ("REQUIRED", "slug")],
            ),
            case(
                Owner,
                "createOrganization",
                json!({ "name": "n".repeat(121), "slug": "s" }),
                &[("TOO_LONG", "name")],
            ),
            case(
                Owner,
                "createOrganization",
                json!({ "name": "n", "slug": "日本" }),
                &[("INVALID", "slug")],
            ),
            case(
                Owner,
                "createOrganization",
                json!({ "name": "n", "slug": "-a" }),
                &[("INVALID", "slug")],
            ),
            case(
                Owner,
                "createOrganization",
                json!({ "name": "n", "slug": "s".repeat(64) }),
                &[("TOO_LONG", "slug")],
            ),
            case(
                Owner,
                "createOrganization",
                json!({ "name": "n", "slug": "taken" }),
                &[("ALREADY_EXISTS", "slug")],
            ),
            case(
                Viewer,
                "createOrganization",
                json!({ "name": "n" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "updateOrganization",
                json!({ "id": id, "slug": "Upper" }),
                &[("INVALID", "slug")],
            ),
            case(
                Viewer,
                "updateOrganization",
                json!({ "id": id, "name": "n" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "deleteOrganization",
                json!({ "id": id }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Viewer,
                "deleteOrganization",
                json!({ "id": id }),
                &[("FORBIDDEN", "")],
            ),
        ]
    }

    fn of_projects(&self) -> Vec<Case> {
        let (nowhere, nobody) = (missing("org"), missing("usr"));
        let (organization, id) = (&self.organization, &self.project);
        vec![
            case(
                Owner,
                "createProject",
                json!({ "name": "", "organizationId": organization, "description": "d".repeat(10_001),
                        "status": "ARCHIVED" }),
                &[
                    ("REQUIRED", "name"),
                    ("TOO_LONG", "description"),
                    ("INVALID", "status"),
                ],
            ),
            case(
                Owner,
                "createProject",
                // A space, a tab and a space that does not break.
                json!({ "name": " \t\u{a0}", "organizationId": organization }),
                &[("REQUIRED", "name")],
            ),
            case(
                Owner,
                "createProject",
                json!({ "name": "n", "organizationId": nowhere }),
                &[("NOT_FOUND", "organizationId")],
            ),
            case(
                Owner,
                "createProject",
                json!({ "name": "n", "organizationId": organization, "ownerId": nobody }),
                &[("NOT_FOUND", "ownerId")],
            ),
            case(
                Viewer,
                "createProject",
                json!({ "name": "n", "organizationId": organization }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "updateProject",
                json!({ "id": id, "status": "ARCHIVED" }),
                &[("INVALID", "status")],
            ),
            case(
                Owner,
                "updateProject",
                json!({ "id": self.archived, "status": "ACTIVE" }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Owner,
                "updateProject",
                json!({ "id": id, "organizationId": nowhere }),
                &[("NOT_FOUND", "organizationId")],
            ),
            case(
                Owner,
                "deleteProject",
                json!({ "id": id }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Viewer,
                "deleteProject",
                json!({ "id": id }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Viewer,
                "deleteProjects",
                json!({ "ids": [self.archived] }),
                &[("FORBIDDEN", "ids.0")],
            ),
            case(
                Owner,
                "deleteProjects",
                json!({ "ids": [self.archived], "idempotencyKey": "\n" }),
                &[("INVALID", "idempotencyKey")],
            ),
        ]
    }

    fn of_products(&self) -> Vec<Case> {
        let id = &self.product;
        let price =
            |amount: &str, currency: &str| json!({ "amount": amount, "currencyCode": currency });
        vec![
            case(
                Owner,
                "createProduct",
                json!({ "asin": "b000000001", "title": "", "price": price("-0.01", "EUR") }),
                &[
                    ("INVALID", "asin"),
                    ("REQUIRED", "title"),
                    ("TOO_SMALL", "price.amount"),
                ],
            ),
            case(
                Owner,
                "createProduct",
                json!({ "asin": "B000000001" }),
                &[("ALREADY_EXISTS", "asin")],
            ),
            case(
                Owner,
                "createProduct",
                json!({ "asin": "B000000002", "title": "t".repeat(301), "price": price("1", "XXX") }),
                &[("TOO_LONG", "title"), ("INVALID", "price.currencyCode")],
            ),
            case(
                Owner,
                "updateProduct",
                json!({ "id": id, "price": price("99999999999999999.99", "EUR") }),
                &[("TOO_LARGE", "price.amount")],
            ),
            case(
                Viewer,
                "updateProduct",
                json!({ "id": id, "title": "t" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "deleteProduct",
                json!({ "id": id }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Viewer,
                "importProducts",
                json!({ "rows": [{ "asin": "B000000009" }] }),
                &[("FORBIDDEN", "")],
            ),
        ]
    }

    fn of_new_invoices(&self) -> Vec<Case> {
        let organization = &self.organization;
        let lines = |count: usize| vec![made::line_of("1.00"); count];
        let invoice = |more: Value| {
            let mut input = json!({ "organizationId": organization, "currencyCode": "EUR" });
            for (name, value) in more.as_object().unwrap() {
                input[name] = value.clone();
            }
            input
        };
        vec![
            case(
                Owner,
                "createInvoice",
                invoice(json!({ "currencyCode": "XXX" })),
                &[("INVALID", "currencyCode")],
            ),
            case(
                Owner,
                "createInvoice",
                invoice(json!({ "organizationId": missing("org") })),
                &[("NOT_FOUND", "organizationId")],
            ),
            case(
                Owner,
                "createInvoice",
                invoice(json!({ "projectId": missing("prj") })),
                &[("NOT_FOUND", "projectId")],
            ),
            case(
                Owner,
                "createInvoice",
                invoice(json!({ "lineItems": lines(501) })),
                &[("LIMIT_REACHED", "lineItems")],
            ),
            case(
                Owner,
                "createInvoice",
                invoice(json!({ "lineItems": [
                    made::line_of("1.00"),
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
            case(
                Owner,
                "createInvoice",
                invoice(json!({ "lineItems": [made::line_of("1.00"), {
                    "description": "d", "quantity": "1", "unitPrice": "1", "productId": missing("prd"),
                }] })),
                &[("NOT_FOUND", "lineItems.1.productId")],
            ),
            case(
                Member,
                "createInvoice",
                invoice(json!({})),
                &[("FORBIDDEN", "")],
            ),
        ]
    }

    fn of_invoices(&self) -> Vec<Case> {
        vec![
            case(
                Billing,
                "updateInvoice",
                json!({ "id": self.open, "dueOn": null }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Member,
                "updateInvoice",
                json!({ "id": self.draft, "dueOn": null }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Billing,
                "issueInvoice",
                json!({ "id": self.draft, "dueOn": "2000-01-01" }),
                &[("TOO_SMALL", "dueOn")],
            ),
            case(
                Billing,
                "issueInvoice",
                json!({ "id": self.empty }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Billing,
                "issueInvoice",
                json!({ "id": self.open }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Member,
                "issueInvoice",
                json!({ "id": self.draft }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Billing,
                "payInvoice",
                json!({ "id": self.draft }),
                &[("INVALID_STATE", "id")],
            ),
        ]
    }

    fn of_lines(&self) -> Vec<Case> {
        let line = |invoice: &str, more: Value| {
            let mut input = made::line_of("1.00");
            input["invoiceId"] = json!(invoice);
            for (name, value) in more.as_object().unwrap() {
                input[name] = value.clone();
            }
            input
        };
        vec![
            case(
                Owner,
                "addInvoiceLineItem",
                line(&missing("inv"), json!({})),
                &[("NOT_FOUND", "invoiceId")],
            ),
            case(
                Owner,
                "addInvoiceLineItem",
                line(&self.open, json!({})),
                &[("INVALID_STATE", "invoiceId")],
            ),
            case(
                Owner,
                "addInvoiceLineItem",
                line(
                    &self.draft,
                    json!({ "description": "d".repeat(501), "taxRate": "2" }),
                ),
                &[("TOO_LONG", "description"), ("TOO_LARGE", "taxRate")],
            ),
            case(
                Owner,
                "addInvoiceLineItem",
                line(&self.draft, json!({ "productId": missing("prd") })),
                &[("NOT_FOUND", "productId")],
            ),
            case(
                Member,
                "addInvoiceLineItem",
                line(&self.draft, json!({})),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "updateInvoiceLineItem",
                json!({ "id": self.open_line, "quantity": "2" }),
                &[("INVALID_STATE", "id")],
            ),
            case(
                Owner,
                "updateInvoiceLineItem",
                json!({ "id": self.line, "description": "", "unitPrice": "0.001" }),
                &[("REQUIRED", "description"), ("INVALID", "unitPrice")],
            ),
            case(
                Member,
                "updateInvoiceLineItem",
                json!({ "id": self.line, "quantity": "2" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "removeInvoiceLineItem",
                json!({ "id": self.open_line }),
                &[("INVALID_STATE", "id")],
            ),
        ]
    }

    fn of_comments(&self) -> Vec<Case> {
        vec![
            case(
                Owner,
                "createComment",
                json!({ "subjectId": missing("prj"), "body": "b" }),
                &[("NOT_FOUND", "subjectId")],
            ),
            case(
                Owner,
                "createComment",
                json!({ "subjectId": missing("inv"), "body": "b" }),
                &[("NOT_FOUND", "subjectId")],
            ),
            case(
                Owner,
                "createComment",
                json!({ "subjectId": missing("prd"), "body": "b" }),
                &[("NOT_FOUND", "subjectId")],
            ),
            case(
                Owner,
                "createComment",
                json!({ "subjectId": self.organization, "body": "" }),
                &[("REQUIRED", "body"), ("INVALID", "subjectId")],
            ),
            case(
                Owner,
                "createComment",
                json!({ "subjectId": self.project, "body": "b".repeat(10_001) }),
                &[("TOO_LONG", "body")],
            ),
            case(
                Viewer,
                "createComment",
                json!({ "subjectId": self.project, "body": "b" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Admin,
                "updateComment",
                json!({ "id": self.comment, "body": "b" }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Member,
                "deleteComment",
                json!({ "id": self.comment }),
                &[("FORBIDDEN", "")],
            ),
            case(
                Owner,
                "updateComment",
                json!({ "id": self.comment, "body": "b", "ifVersion": 7 }),
                &[("CONFLICT", "ifVersion")],
            ),
        ]
    }

    /// A key that was used for another import.
    async fn of_keys(&self) -> Case {
        let import = |asin: &str| json!({ "rows": [{ "asin": asin }], "idempotencyKey": "import" });
        let owner = self.tenant.owner();
        owner.does("importProducts", import("B000000010"), "").await;
        case(
            Owner,
            "importProducts",
            import("B000000011"),
            &[("IDEMPOTENCY_MISMATCH", "idempotencyKey")],
        )
    }
}

/// The id of nothing.
fn missing(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}

/// The codes of the schema.
async fn codes(caller: &Caller) -> BTreeSet<String> {
    let document = "{ __type(name: \"UserErrorCode\") { enumValues { name } } }";
    let answer = caller.query(document).await;
    let values = answer.data()["__type"]["enumValues"].as_array().unwrap();
    let names = values.iter().map(|value| value["name"].as_str().unwrap());
    names.map(str::to_owned).collect()
}

#[apply(palisade_test)]
async fn what_is_refused_says_which_field_and_why_and_has_written_nothing() {
    let world = World::make().await;
    let mut cases = vec![world.of_keys().await];
    cases.extend(world.of_users());
    cases.extend(world.of_organizations());
    cases.extend(world.of_projects());
    cases.extend(world.of_products());
    cases.extend(world.of_new_invoices());
    cases.extend(world.of_invoices());
    cases.extend(world.of_lines());
    cases.extend(world.of_comments());

    let before = fingerprint(&world.tenant).await;
    let mut produced = BTreeSet::new();
    let mut wrong = Vec::new();
    for case in cases {
        let Case { role, name, .. } = case;
        let shown: String = case.input.to_string().chars().take(200).collect();
        let payload = world.tenant.caller(role).mutate(name, case.input, "").await;
        let told = refusals(&payload);
        produced.extend(told.iter().map(|(code, _)| (*code).to_owned()));
        if told != case.errors {
            wrong.push(format!(
                "{role:?} {name} {shown}: {told:?}, not {:?}",
                case.errors
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(
        fingerprint(&world.tenant).await == before,
        "something was written"
    );
    assert_eq!(produced, codes(world.tenant.owner()).await);
}
