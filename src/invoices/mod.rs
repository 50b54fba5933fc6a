//! Invoices and their lines: what a tenant bills.

mod line_items;
mod line_mutations;
mod mutations;

use async_graphql::{Enum, SimpleObject};
use chrono::{DateTime, Utc};

pub use line_items::{InvoiceLineItem, InvoiceLineItemQueries};
pub use mutations::InvoiceMutations;

use crate::{
    audit::AuditLog,
    comments::Comment,
    db::entity::entity,
    graphql::{
        directives::semantic_non_null,
        enums::StoredEnum,
        filter::{DateFilter, DateTimeFilter, EnumFilter, IdFilter, StringFilter, listed},
        object::Object,
        relations::{relations, roots},
        scalars::{CurrencyCode, Date, Money},
    },
    ids::{InvoiceId, OrganizationId, ProjectId},
    organizations::Organization,
    projects::Project,
};

/// How far an invoice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvoiceStatus {
    /// Being written; it has no number yet.
    Draft,
    /// Issued, and not paid.
    Open,
    /// Paid.
    Paid,
    /// Issued in error, and taken back.
    Void,
    /// Given up as lost.
    Uncollectible,
}

impl StoredEnum for InvoiceStatus {}

/// A bill to an organization, usually for a project.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Invoice {
    /// The id.
    pub id: InvoiceId,
    #[graphql(skip)]
    organization_id: OrganizationId,
    #[graphql(skip)]
    project_id: Option<ProjectId>,
    /// The number printed on the document, unique in the tenant; null while it is a draft.
    pub number: Option<String>,
    /// How far it is.
    pub status: InvoiceStatus,
    /// The currency of every amount on it.
    #[graphql(name = "currencyCode")]
    pub currency: CurrencyCode,
    #[graphql(skip)]
    subtotal_minor: i64,
    #[graphql(skip)]
    tax_minor: i64,
    #[graphql(skip)]
    total_minor: i64,
    /// When it was issued; null while it is a draft.
    pub issued_on: Option<Date>,
    /// When it is to be paid.
    pub due_on: Option<Date>,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

entity!(Invoice {
    id: InvoiceId,
    organization_id,
    project_id,
    number,
    status,
    currency,
    subtotal_minor,
    tax_minor,
    total_minor,
    issued_on,
    due_on,
    version,
    created_at,
    updated_at,
});

listed! {
    Invoice {
        filter InvoiceFilter {
            /// By id.
            id: IdFilter<InvoiceId>,
            /// By the organization that it bills.
            organization_id: IdFilter<OrganizationId>,
            /// By the project that it bills.
            project_id: IdFilter<ProjectId>,
            /// By number.
            number: StringFilter,
            /// By status.
            status: EnumFilter<InvoiceStatus>,
            /// By the day of issue.
            issued_on: DateFilter,
            /// By the day on which it is to be paid.
            due_on: DateFilter,
            /// By the time of creation.
            created_at: DateTimeFilter,
            /// By the time of the last change.
            updated_at: DateTimeFilter,
        }
        order InvoiceOrderField {
            /// By the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// By the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
            /// By number; drafts count as greatest.
            Number => number: Option<String>,
            /// By the day on which it is to be paid; those without one count as last.
            DueOn => due_on: Option<Date>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Invoice {
        one {
            /// The organization that the invoice bills.
            #[graphql(directive = semantic_non_null::apply(None))]
            organization: Organization = organization_id,
            /// The project that the invoice bills; null if there is none, or the caller may not see it.
            project: Project = project_id,
        }
        many {
            /// The lines of the invoice, by their position unless ordered otherwise.
            line_items: InvoiceLineItem = invoice_id,
            /// Comments on the invoice, newest first unless ordered otherwise.
            comments: Comment = invoice_id,
            /// What happened to the invoice's own row, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = subject_id,
        }
        fields {
            /// The sum of the lines, without tax.
            async fn subtotal(&self) -> Object<Money> {
                Money::from_minor(self.subtotal_minor, &self.currency).into()
            }

            /// The tax on the lines.
            async fn tax(&self) -> Object<Money> {
                Money::from_minor(self.tax_minor, &self.currency).into()
            }

            /// What is to be paid.
            async fn total(&self) -> Object<Money> {
                Money::from_minor(self.total_minor, &self.currency).into()
            }
        }
    }
}

roots! {
    InvoiceQueries: Invoice {
        /// One invoice; null if there is none with this id.
        invoice(InvoiceId)
        /// The invoices of the tenant, newest first unless ordered otherwise.
        invoices
    }
}
