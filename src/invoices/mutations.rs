//! What changes invoices. What may become of one decides the database: `docs/invoices.md` draws it.

use async_graphql::{Context, InputObject, MaybeUndefined};

use super::{
    Invoice, InvoiceStatus,
    line_mutations::{self, InvoiceLineItemInput},
};
use crate::{
    db::{
        TenantTx,
        write::{Insert, Update, Writable, Written},
    },
    error::Result,
    graphql::{
        context::ContextExt as _,
        enums::StoredEnum as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
        scalars::{CurrencyCode, Date},
    },
    ids::{EntityId as _, InvoiceId, OrganizationId, ProjectId},
    user_error::{Checks, Refusal, Rule, UserErrorCode},
};

/// Most lines with which an invoice is made.
const MAX_LINES: usize = 500;
pub(super) const NOT_DRAFT: &str = "is issued, and does not change any more";

impl Writable for Invoice {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "invoices_organization_fkey",
            UserErrorCode::NotFound,
            "organizationId",
            "Organization not found",
        ),
        Rule::new(
            "invoices_project_fkey",
            UserErrorCode::NotFound,
            "projectId",
            "Project not found",
        ),
        Rule::new(
            "invoices_currency_fkey",
            UserErrorCode::Invalid,
            "currencyCode",
            "is no currency of this API",
        ),
        Rule::new(
            "invoices_due_after_issue",
            UserErrorCode::TooSmall,
            "dueOn",
            "is before the day of issue",
        ),
        Rule::new(
            "invoices_has_lines",
            UserErrorCode::InvalidState,
            "id",
            "has no lines",
        ),
        Rule::new(
            "invoices_transition",
            UserErrorCode::InvalidState,
            "id",
            "cannot become that from its present status",
        ),
        Rule::new(
            "invoices_frozen",
            UserErrorCode::InvalidState,
            "id",
            NOT_DRAFT,
        ),
    ];
}

/// What a new invoice is made of. It begins as a draft.
#[derive(Debug, InputObject)]
pub struct CreateInvoiceInput {
    /// The organization that it bills.
    pub organization_id: OrganizationId,
    /// The project that it bills.
    pub project_id: Option<ProjectId>,
    /// The currency of every amount on it. Cannot be changed later.
    pub currency_code: CurrencyCode,
    /// When it is to be paid; 30 days after its issue if not given until then.
    pub due_on: Option<Date>,
    /// Its lines, at most 500; more can be added while it is a draft.
    #[graphql(default)]
    pub line_items: Vec<InvoiceLineItemInput>,
}

/// What is to change about a draft. A field that is left out stays as it is, and null clears it.
#[derive(Debug, InputObject)]
pub struct UpdateInvoiceInput {
    /// Its id.
    pub id: InvoiceId,
    /// Only if it still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// The organization that it bills. Cannot be cleared.
    pub organization_id: MaybeUndefined<OrganizationId>,
    /// The project that it bills.
    pub project_id: MaybeUndefined<ProjectId>,
    /// When it is to be paid.
    pub due_on: MaybeUndefined<Date>,
}

/// The draft to issue.
#[derive(Debug, InputObject)]
pub struct IssueInvoiceInput {
    /// Its id.
    pub id: InvoiceId,
    /// Only if it still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// When it is to be paid; as the draft says if not given, and else 30 days from now.
    pub due_on: Option<Date>,
}

targets! {
    /// The invoice that was paid.
    PayInvoiceInput(InvoiceId)
    /// The invoice to take back.
    VoidInvoiceInput(InvoiceId)
    /// The invoice to give up.
    MarkInvoiceUncollectibleInput(InvoiceId)
}

payload! {
    /// What came of `createInvoice`.
    CreateInvoicePayload { invoice: Invoice }
    /// What came of `updateInvoice`.
    UpdateInvoicePayload { invoice: Invoice }
    /// What came of `issueInvoice`.
    IssueInvoicePayload { invoice: Invoice }
    /// What came of `payInvoice`.
    PayInvoicePayload { invoice: Invoice }
    /// What came of `voidInvoice`.
    VoidInvoicePayload { invoice: Invoice }
    /// What came of `markInvoiceUncollectible`.
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
    /// Makes an invoice, as a draft. For owners, admins and billing.
    async fn create_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The invoice.")] input: CreateInvoiceInput,
    ) -> Result<Object<CreateInvoicePayload>> {
        ctx.write(create(ctx.tx(), input)).await
    }

    /// Changes a draft. For owners, admins and billing.
    async fn update_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which invoice, and what is to change.")] input: UpdateInvoiceInput,
    ) -> Result<Object<UpdateInvoicePayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Issues a draft: it takes the tenant's next number, gets its days, and does not change any more.
    /// For owners, admins and billing.
    async fn issue_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which draft.")] input: IssueInvoiceInput,
    ) -> Result<Object<IssueInvoicePayload>> {
        let mut issue = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Open.as_str())
            .only_if("status", "DRAFT", "is issued already");
        if let Some(due_on) = input.due_on {
            issue = issue.set("due_on", due_on.0);
        }
        ctx.write(issue.run(ctx.tx())).await
    }

    /// Notes that an open or given-up invoice was paid. For owners, admins and billing.
    async fn pay_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which invoice.")] input: PayInvoiceInput,
    ) -> Result<Object<PayInvoicePayload>> {
        let pay = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Paid.as_str())
            .unless("status", "PAID", "is paid already");
        ctx.write(pay.run(ctx.tx())).await
    }

    /// Takes an open or given-up invoice back; its number stays taken. For owners, admins and billing.
    async fn void_invoice(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which invoice.")] input: VoidInvoiceInput,
    ) -> Result<Object<VoidInvoicePayload>> {
        let void = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Void.as_str())
            .unless("status", "VOID", "is void already");
        ctx.write(void.run(ctx.tx())).await
    }

    /// Gives an open invoice up as lost. For owners, admins and billing.
    async fn mark_invoice_uncollectible(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which invoice.")] input: MarkInvoiceUncollectibleInput,
    ) -> Result<Object<MarkInvoiceUncollectiblePayload>> {
        let give_up = Update::<Invoice>::new(input.id, input.if_version)
            .set("status", InvoiceStatus::Uncollectible.as_str())
            .unless("status", "UNCOLLECTIBLE", "is given up already");
        ctx.write(give_up.run(ctx.tx())).await
    }
}

async fn create(tx: &TenantTx, input: CreateInvoiceInput) -> Written<Invoice> {
    let mut checks = Checks::new();
    let message = "is no currency of this API";
    let is_known = input.currency_code.is_known();
    checks.require(is_known, UserErrorCode::Invalid, "currencyCode", message);
    let message = format!("has more than {MAX_LINES} rows");
    let is_short = input.line_items.len() <= MAX_LINES;
    checks.require(is_short, UserErrorCode::LimitReached, "lineItems", message);
    let lines = if is_known && is_short {
        line_mutations::check_all(&mut checks, input.line_items, &input.currency_code)
    } else {
        Vec::new()
    };
    checks.done()?;

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
        .map_err(Refusal::of)?;
    sum_up(tx, invoice.id).await
}

async fn update(tx: &TenantTx, input: UpdateInvoiceInput) -> Written<Invoice> {
    let mut checks = Checks::new();
    checks.change("organizationId", &input.organization_id);
    checks.done()?;
    Update::<Invoice>::new(input.id, input.if_version)
        .change(
            "organization_id",
            input.organization_id.map_value(OrganizationId::uuid),
        )
        .change_or_clear("project_id", input.project_id.map_value(ProjectId::uuid))
        .change_or_clear("due_on", input.due_on.map_value(|date| date.0))
        .only_if("status", "DRAFT", NOT_DRAFT)
        .run(tx)
        .await
}

/// Lets the database work out the totals anew, as it does on every change of a draft.
pub(super) async fn sum_up(tx: &TenantTx, id: InvoiceId) -> Written<Invoice> {
    Update::<Invoice>::new(id, None)
        .set("status", InvoiceStatus::Draft.as_str())
        .only_if("status", "DRAFT", NOT_DRAFT)
        .run(tx)
        .await
}
