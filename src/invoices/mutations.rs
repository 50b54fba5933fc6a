//! The mutations of invoices. The database defines the transitions between statuses; `docs/invoices.md` shows them.

use async_graphql::{Context, InputObject, MaybeUndefined};

use super::{
    Invoice, InvoiceStatus,
    line_mutations::{self, InvoiceLineItemInput, NOT_DRAFT, sum_up},
};
use crate::{
    db::{
        TenantTx,
        write::{ConstraintRule, Insert, Update, Writable, WriteError, WriteResult},
    },
    error::Result,
    graphql::{
        checks::Checks,
        context::ContextExt as _,
        enums::StoredEnum as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
        scalars::{CurrencyCode, Date, UNSUPPORTED_CURRENCY},
    },
    ids::{EntityId as _, InvoiceId, OrganizationId, ProjectId},
    user_error::UserErrorCode,
};

/// The maximum number of lines of one `createInvoice`.
const MAX_LINES: usize = 500;

impl Writable for Invoice {
    const RULES: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "invoices_organization_fkey",
            UserErrorCode::NotFound,
            "organizationId",
            "Organization not found",
        ),
        ConstraintRule::new(
            "invoices_project_fkey",
            UserErrorCode::NotFound,
            "projectId",
            "Project not found",
        ),
        ConstraintRule::new(
            "invoices_currency_fkey",
            UserErrorCode::Invalid,
            "currencyCode",
            UNSUPPORTED_CURRENCY,
        ),
        ConstraintRule::new(
            "invoices_due_after_issue",
            UserErrorCode::TooSmall,
            "dueOn",
            "must not be before the date of issue",
        ),
        ConstraintRule::new(
            "invoices_has_lines",
            UserErrorCode::InvalidState,
            "id",
            "has no lines: add one first",
        ),
        ConstraintRule::new(
            "invoices_transition",
            UserErrorCode::InvalidState,
            "id",
            "cannot change from its current status to this status",
        ),
        ConstraintRule::new(
            "invoices_frozen",
            UserErrorCode::InvalidState,
            "id",
            NOT_DRAFT,
        ),
    ];
}

/// The input of the `createInvoice` mutation.
#[derive(Debug, InputObject)]
pub struct CreateInvoiceInput {
    /// The ID of the organization to bill.
    pub organization_id: OrganizationId,
    /// The ID of the project to bill.
    pub project_id: Option<ProjectId>,
    /// The currency of all amounts of the invoice. Cannot be changed later.
    pub currency_code: CurrencyCode,
    /// The date by which the invoice must be paid. If a draft without a due date is issued, its due date becomes 30
    /// days after the date of issue.
    pub due_on: Option<Date>,
    /// The lines; at most 500. `addInvoiceLineItem` adds more while the invoice is a draft.
    #[graphql(default)]
    pub line_items: Vec<InvoiceLineItemInput>,
}

/// The input of the `updateInvoice` mutation. A field that is left out keeps its value; null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateInvoiceInput {
    /// The ID of the invoice.
    pub id: InvoiceId,
    /// The version that the client last read. If the invoice has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// The ID of the organization to bill. Cannot be cleared.
    pub organization_id: MaybeUndefined<OrganizationId>,
    /// The ID of the project to bill.
    pub project_id: MaybeUndefined<ProjectId>,
    /// The date by which the invoice must be paid.
    pub due_on: MaybeUndefined<Date>,
}

/// The input of the `issueInvoice` mutation.
#[derive(Debug, InputObject)]
pub struct IssueInvoiceInput {
    /// The ID of the invoice.
    pub id: InvoiceId,
    /// The version that the client last read. If the invoice has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// The date by which the invoice must be paid; not before the date of issue. By default the due date of the draft,
    /// or 30 days after the date of issue if the draft has no due date.
    pub due_on: Option<Date>,
}

targets! {
    /// The input of the `payInvoice` mutation.
    PayInvoiceInput(InvoiceId)
    /// The input of the `voidInvoice` mutation.
    VoidInvoiceInput(InvoiceId)
    /// The input of the `markInvoiceUncollectible` mutation.
    MarkInvoiceUncollectibleInput(InvoiceId)
}

payload! {
    /// The payload of the `createInvoice` mutation.
    CreateInvoicePayload { invoice: Invoice }
    /// The payload of the `updateInvoice` mutation.
    UpdateInvoicePayload { invoice: Invoice }
    /// The payload of the `issueInvoice` mutation.
    IssueInvoicePayload { invoice: Invoice }
    /// The payload of the `payInvoice` mutation.
    PayInvoicePayload { invoice: Invoice }
    /// The payload of the `voidInvoice` mutation.
    VoidInvoicePayload { invoice: Invoice }
    /// The payload of the `markInvoiceUncollectible` mutation.
    MarkInvoiceUncollectiblePayload { invoice: Invoice }
}

/// The mutations of this slice.
#[derive(Debug, Default)]
pub struct InvoiceMutations;

impl RootMutations for Invoice {
    type Mutations = InvoiceMutations;
}

#[async_graphql::Object]
impl InvoiceMutations {
    /// Creates an invoice with the status `DRAFT`. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so.
    async fn create_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invoice to create.")] input: CreateInvoiceInput,
    ) -> Result<Object<CreateInvoicePayload>> {
        ctx.write(create(ctx.tx(), input)).await
    }

    /// Updates a draft invoice. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so.
    async fn update_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The draft and the fields to change.")] input: UpdateInvoiceInput,
    ) -> Result<Object<UpdateInvoicePayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Issues a draft that has lines: assigns the next invoice number, the date of issue and the due date. Only the
    /// roles `OWNER`, `ADMIN` and `BILLING` may do so. An issued invoice can no longer be edited.
    async fn issue_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The draft to issue.")] input: IssueInvoiceInput,
    ) -> Result<Object<IssueInvoicePayload>> {
        let mut issue = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Open.as_str())
            .only_if("status", "DRAFT", "is already issued");
        if let Some(due_on) = input.due_on {
            issue = issue.set("due_on", due_on.0);
        }
        ctx.write(issue.run(ctx.tx())).await
    }

    /// Marks an open or uncollectible invoice as paid. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so.
    async fn pay_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invoice that was paid.")] input: PayInvoiceInput,
    ) -> Result<Object<PayInvoicePayload>> {
        let pay = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Paid.as_str())
            .unless("status", "PAID", "is already paid");
        ctx.write(pay.run(ctx.tx())).await
    }

    /// Voids an open or uncollectible invoice. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so. The invoice
    /// number is not reused.
    async fn void_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invoice to void.")] input: VoidInvoiceInput,
    ) -> Result<Object<VoidInvoicePayload>> {
        let void = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Void.as_str())
            .unless("status", "VOID", "is already void");
        ctx.write(void.run(ctx.tx())).await
    }

    /// Marks an open invoice as uncollectible. Only the roles `OWNER`, `ADMIN` and `BILLING` may do so.
    async fn mark_invoice_uncollectible(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invoice to mark.")] input: MarkInvoiceUncollectibleInput,
    ) -> Result<Object<MarkInvoiceUncollectiblePayload>> {
        let mark = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Uncollectible.as_str())
            .unless("status", "UNCOLLECTIBLE", "is already uncollectible");
        ctx.write(mark.run(ctx.tx())).await
    }
}

async fn create(tx: &TenantTx, input: CreateInvoiceInput) -> WriteResult<Invoice> {
    let mut checks = Checks::new();
    let is_supported = checks.currency("currencyCode", &input.currency_code);
    let message = format!("must have at most {MAX_LINES} rows");
    let is_short = input.line_items.len() <= MAX_LINES;
    checks.require(is_short, UserErrorCode::LimitReached, "lineItems", message);
    let lines = if is_supported && is_short {
        line_mutations::check_all(&mut checks, input.line_items, &input.currency_code)
    } else {
        Vec::new()
    };
    checks.finish()?;

    let invoice = Insert::<Invoice>::new(InvoiceId::generate())
        .set("organization_id", input.organization_id.uuid())
        .set("project_id", input.project_id.map(ProjectId::uuid))
        .set("currency", input.currency_code.as_str())
        .set("due_on", input.due_on.map(|date| date.0))
        .run(tx)
        .await?;
    if lines.is_empty() {
        return Ok(invoice);
    }
    line_mutations::insert_all(tx, &invoice, lines)
        .await
        .map_err(WriteError::without_value)?;
    sum_up(tx, invoice.id).await
}

async fn update(tx: &TenantTx, input: UpdateInvoiceInput) -> WriteResult<Invoice> {
    let mut checks = Checks::new();
    checks.not_cleared("organizationId", &input.organization_id);
    checks.finish()?;
    Update::<Invoice>::new(input.id, input.if_version)
        .set_if_present(
            "organization_id",
            input.organization_id.map_value(OrganizationId::uuid),
        )
        .set_or_clear("project_id", input.project_id.map_value(ProjectId::uuid))
        .set_or_clear("due_on", input.due_on.map_value(|date| date.0))
        .only_if("status", "DRAFT", NOT_DRAFT)
        .run(tx)
        .await
}
