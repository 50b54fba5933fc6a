//! The lines of an invoice.

use async_graphql::SimpleObject;
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

/// One line of an invoice.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct InvoiceLineItem {
    /// The id.
    pub id: InvoiceLineItemId,
    #[graphql(skip)]
    pub(super) invoice_id: InvoiceId,
    #[graphql(skip)]
    product_id: Option<ProductId>,
    /// Its place on the invoice, from 1.
    pub position: i32,
    /// What is billed; 1 to 500 characters.
    pub description: String,
    /// How much or how many of it, with up to four decimals.
    pub quantity: Decimal,
    #[graphql(skip)]
    unit_price_minor: i64,
    #[graphql(skip)]
    amount_minor: i64,
    /// The tax on it, as a fraction: 0.19 is 19 percent.
    pub tax_rate: Option<Decimal>,
    #[graphql(skip)]
    currency: CurrencyCode,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
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
            /// By id.
            id: IdFilter<InvoiceLineItemId>,
            /// By the invoice that it stands on.
            invoice_id: IdFilter<InvoiceId>,
            /// By the product that it bills.
            product_id: IdFilter<ProductId>,
            /// Filters by the position on the invoice.
            position: IntFilter,
            /// By what is billed.
            description: StringFilter,
            /// By the time of creation.
            created_at: DateTimeFilter,
        }
        order InvoiceLineItemOrderField {
            /// By the place on the invoice.
            Position => position: i32,
            /// By the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
        }
        default Position Asc
    }
}

relations! {
    InvoiceLineItem {
        one {
            /// The invoice that the line stands on.
            #[graphql(directive = semantic_non_null::apply(None))]
            invoice: Invoice = invoice_id,
            /// The product that is billed; null if there is none, or the caller may not see it.
            product: Product = product_id,
        }
        many {
            /// What happened to the line, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = subject_id,
        }
        fields {
            /// The price of one.
            async fn unit_price(&self) -> Object<Money> {
                Money::from_minor(self.unit_price_minor, &self.currency).into()
            }

            /// The price of all, without tax.
            async fn amount(&self) -> Object<Money> {
                Money::from_minor(self.amount_minor, &self.currency).into()
            }
        }
    }
}

roots! {
    InvoiceLineItemQueries: InvoiceLineItem {
        /// One line of an invoice; null if there is none with this id.
        invoice_line_item(InvoiceLineItemId)
        /// The lines of all invoices of the tenant, by their position unless ordered otherwise.
        invoice_line_items
    }
}
