//! The lines of an invoice.

use async_graphql::{Context, SimpleObject};
use chrono::{DateTime, Utc};

use super::Invoice;
use crate::{
    audit::AuditLog,
    db::entity::entity,
    graphql::{
        directives::semantic_non_null,
        filter::{DateTimeFilter, IdFilter, IntFilter, StringFilter, listed},
        object::Object,
        relations::{relations, roots},
        scalars::{CurrencyCode, Decimal, Money},
    },
    ids::{InvoiceId, InvoiceLineItemId, ProductId},
    products::Product,
};

/// A line of an invoice.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct InvoiceLineItem {
    /// The ID of the line.
    pub id: InvoiceLineItemId,
    #[graphql(skip)]
    pub(super) invoice_id: InvoiceId,
    #[graphql(skip)]
    product_id: Option<ProductId>,
    /// The position on the invoice: the first line has 1. Removed lines leave gaps.
    pub position: i32,
    /// A description of what is billed; 1 to 500 characters.
    pub description: String,
    /// The quantity, with up to four decimal places. A negative quantity is a credit.
    pub quantity: Decimal,
    #[graphql(skip)]
    pub(super) unit_price_minor: i64,
    #[graphql(skip)]
    amount_minor: i64,
    /// The tax rate as a fraction from 0 to 1: 0.19 is 19 percent. Null means no tax.
    pub tax_rate: Option<Decimal>,
    #[graphql(skip)]
    currency: CurrencyCode,
    /// The version of the line: 1 at first, one more after each change.
    pub version: i32,
    /// The time at which the line was created.
    pub created_at: DateTime<Utc>,
    /// The time at which the line was last changed. Equals `createdAt` if it never was.
    pub updated_at: DateTime<Utc>,
}

entity!(InvoiceLineItem {
    id: InvoiceLineItemId,
    invoice_id,
    product_id,
    position,
    description,
    quantity,
    unit_price_minor,
    amount_minor,
    tax_rate,
    currency,
    version,
    created_at,
    updated_at,
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
            description: StringFilter,
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
            unit_price: Object<Money> = compute_unit_price,
            /// The amount of the line, without tax: quantity times unit price, rounded half away from zero.
            amount: Object<Money> = compute_amount,
        }
    }
}

impl InvoiceLineItem {
    fn compute_unit_price(&self, _: &Context<'_>) -> Object<Money> {
        Money::from_minor(self.unit_price_minor, &self.currency).into()
    }

    fn compute_amount(&self, _: &Context<'_>) -> Object<Money> {
        Money::from_minor(self.amount_minor, &self.currency).into()
    }
}

roots! {
    InvoiceLineItemQueries: InvoiceLineItem {
        /// The invoice line with this ID; null if the tenant has no such line.
        invoice_line_item(InvoiceLineItemId)
        /// The lines of all invoices of the tenant, by their position by default.
        invoice_line_items
    }
}
