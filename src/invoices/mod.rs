//! Invoices and their lines.

mod line_mutations;
mod mutations;

use async_graphql::{Context, Enum, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    comments::Comment,
    db::entity::Column,
    error::Result,
    graphql::{
        directives::semantic_non_null,
        entity::entity,
        enums::StoredEnum,
        filter::{
            DateFilter, DateTimeFilter, EnumFilter, IdFilter, IntFilter, StringFilter, TextFilter,
            UpperCase, listed,
        },
        object::Object,
        relations::{relations, roots},
        scalars::{CurrencyCode, Date, Decimal, Money},
    },
    ids::{InvoiceId, InvoiceLineItemId, OrganizationId, ProductId, ProjectId},
    organizations::Organization,
    products::Product,
    projects::Project,
};

/// The status of an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvoiceStatus {
    /// The invoice is a draft: it can be edited and has no number.
    Draft,
    /// The invoice is issued and not paid.
    Open,
    /// The invoice is paid.
    Paid,
    /// The invoice is void: it was issued and then cancelled. It keeps its number.
    Void,
    /// The invoice is uncollectible: no payment is expected. It can still be paid or voided.
    Uncollectible,
}

impl StoredEnum for InvoiceStatus {}

/// An invoice to an organization, usually for a project.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Invoice {
    /// The ID of the invoice.
    pub id: InvoiceId,
    #[graphql(skip)]
    organization_id: Column<OrganizationId>,
    #[graphql(skip)]
    project_id: Column<Option<ProjectId>>,
    /// The invoice number, such as `INV-000001`, unique within the tenant. Null for a draft.
    pub number: Column<Option<String>>,
    /// The status of the invoice.
    pub status: Column<InvoiceStatus>,
    /// The currency of all amounts of the invoice and its lines.
    #[graphql(name = "currencyCode")]
    pub currency: Column<CurrencyCode>,
    #[graphql(skip)]
    subtotal_minor: Column<i64>,
    #[graphql(skip)]
    tax_minor: Column<i64>,
    #[graphql(skip)]
    total_minor: Column<i64>,
    /// The date of issue. Null for a draft.
    pub issued_on: Column<Option<Date>>,
    /// The date by which the invoice must be paid. Can be null only for a draft.
    pub due_on: Column<Option<Date>>,
    /// The version of the invoice: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the invoice was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the invoice was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(Invoice {
    id: InvoiceId,
    shown { number, status, currency as "currencyCode", issued_on, due_on, version, created_at, updated_at }
    hidden { organization_id, project_id, subtotal_minor, tax_minor, total_minor }
});

listed! {
    Invoice {
        filter InvoiceFilter {
            /// Filters by ID.
            id: IdFilter<InvoiceId>,
            /// Filters by the billed organization.
            organization_id: IdFilter<OrganizationId>,
            /// Filters by the billed project.
            project_id: IdFilter<ProjectId>,
            /// Filters by invoice number.
            number: StringFilter<UpperCase>,
            /// Filters by status.
            status: EnumFilter<InvoiceStatus>,
            /// Filters by the date of issue.
            issued_on: DateFilter,
            /// Filters by due date.
            due_on: DateFilter,
            /// Filters by the time of creation.
            created_at: DateTimeFilter,
            /// Filters by the time of the last change.
            updated_at: DateTimeFilter,
        }
        order InvoiceOrderField {
            /// Sort by the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// Sort by the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// Sort by invoice number. In ascending order, drafts come last.
            Number => number: Option<String>,
            /// Sort by due date. In ascending order, invoices without a due date come last.
            DueOn => due_on: Option<Date>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Invoice {
        one {
            /// The organization that is billed.
            #[graphql(directive = semantic_non_null::apply(None))]
            organization: Organization = organization_id,
            /// The project that is billed; null if the invoice has none.
            project: Project = project_id,
        }
        many {
            /// The lines of the invoice, lowest position first by default.
            line_items: InvoiceLineItem = invoice_id,
            /// The comments on the invoice, newest first by default.
            comments: Comment = invoice_id,
            /// The changes of the invoice, without those of its lines and comments, newest first by default. Only
            /// owners and admins may read them; for other roles the field is null with the error FORBIDDEN.
            audit_logs: AuditLog = subject_id,
        }
        computed {
            /// The sum of the line amounts, without tax.
            subtotal: Object<Money> = compute_subtotal(subtotal_minor, currency),
            /// The sum of the taxes of all lines. The tax of each line is rounded half away from zero.
            tax: Object<Money> = compute_tax(tax_minor, currency),
            /// The total to pay: subtotal plus tax.
            total: Object<Money> = compute_total(total_minor, currency),
        }
    }
}

impl Invoice {
    fn compute_subtotal(&self, _: &Context<'_>) -> Result<Object<Money>> {
        Ok(Money::from_minor(self.subtotal_minor.copied()?, self.currency.get()?).into())
    }

    fn compute_tax(&self, _: &Context<'_>) -> Result<Object<Money>> {
        Ok(Money::from_minor(self.tax_minor.copied()?, self.currency.get()?).into())
    }

    fn compute_total(&self, _: &Context<'_>) -> Result<Object<Money>> {
        Ok(Money::from_minor(self.total_minor.copied()?, self.currency.get()?).into())
    }
}

roots! {
    InvoiceQueries: Invoice {
        /// The invoice with this ID; null if the tenant has no such invoice.
        invoice(InvoiceId)
        /// The invoices of the tenant, newest first by default.
        invoices
    }
}

/// A line of an invoice.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct InvoiceLineItem {
    /// The ID of the line.
    pub id: InvoiceLineItemId,
    #[graphql(skip)]
    invoice_id: Column<InvoiceId>,
    #[graphql(skip)]
    product_id: Column<Option<ProductId>>,
    /// The position on the invoice, counted from 1. Removed lines leave gaps.
    pub position: Column<i32>,
    /// A description of what is billed; 1 to 500 characters.
    pub description: Column<String>,
    /// The quantity, with up to four decimal places. A negative quantity is a credit.
    pub quantity: Column<Decimal>,
    #[graphql(skip)]
    unit_price_minor: Column<i64>,
    #[graphql(skip)]
    amount_minor: Column<i64>,
    /// The tax rate as a fraction from 0 to 1: 0.19 is 19 percent. Null means no tax.
    pub tax_rate: Column<Option<Decimal>>,
    #[graphql(skip)]
    currency: Column<CurrencyCode>,
    /// The version of the line: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the line was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the line was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(InvoiceLineItem {
    id: InvoiceLineItemId,
    shown { position, description, quantity, tax_rate, version, created_at, updated_at }
    hidden { invoice_id, product_id, unit_price_minor, amount_minor, currency }
});

listed! {
    InvoiceLineItem {
        filter InvoiceLineItemFilter {
            /// Filters by ID.
            id: IdFilter<InvoiceLineItemId>,
            /// Filters by the invoice of the line.
            invoice_id: IdFilter<InvoiceId>,
            /// Filters by the billed product.
            product_id: IdFilter<ProductId>,
            /// Filters by the position on the invoice.
            position: IntFilter,
            /// Filters by the description of the line.
            description: TextFilter,
            /// Filters by the time of creation.
            created_at: DateTimeFilter,
        }
        order InvoiceLineItemOrderField {
            /// Sort by the position on the invoice.
            Position => position: i32,
            /// Sort by the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
        }
        default Position Asc
    }
}

relations! {
    InvoiceLineItem {
        one {
            /// The invoice of the line.
            #[graphql(directive = semantic_non_null::apply(None))]
            invoice: Invoice = invoice_id,
            /// The product that is billed; null if the line has none.
            product: Product = product_id,
        }
        many {
            /// The changes of the line itself, newest first by default. Only owners and admins may read them; for
            /// other roles the field is null with the error FORBIDDEN.
            audit_logs: AuditLog = subject_id,
        }
        computed {
            /// The price per unit, without tax.
            unit_price: Object<Money> = compute_unit_price(unit_price_minor, currency),
            /// The amount of the line, without tax: quantity times unit price, rounded half away from zero.
            amount: Object<Money> = compute_amount(amount_minor, currency),
        }
    }
}

impl InvoiceLineItem {
    fn compute_unit_price(&self, _: &Context<'_>) -> Result<Object<Money>> {
        Ok(Money::from_minor(self.unit_price_minor.copied()?, self.currency.get()?).into())
    }

    fn compute_amount(&self, _: &Context<'_>) -> Result<Object<Money>> {
        Ok(Money::from_minor(self.amount_minor.copied()?, self.currency.get()?).into())
    }
}

roots! {
    InvoiceLineItemQueries: InvoiceLineItem {
        /// The invoice line with this ID; null if the tenant has no such line.
        invoice_line_item(InvoiceLineItemId)
        /// The lines of all invoices of the tenant, lowest position first by default.
        invoice_line_items
    }
}
