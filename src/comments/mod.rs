//! Comments: what people say about a project, an invoice or a product.

mod mutations;

use async_graphql::{Context, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    auth::role::UserRole,
    db::entity::entity,
    error::Result,
    graphql::{
        context::ContextExt as _,
        directives::semantic_non_null,
        filter::{DateTimeFilter, IdFilter, StringFilter, listed},
        object::abstract_type,
        relations::{relations, roots},
    },
    ids::{CommentId, InvoiceId, ProductId, ProjectId, UserId},
    invoices::Invoice,
    products::Product,
    projects::Project,
    users::User,
};

/// What somebody says about a project, an invoice or a product.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Comment {
    /// The id.
    pub id: CommentId,
    #[graphql(skip)]
    author_id: UserId,
    #[graphql(skip)]
    project_id: Option<ProjectId>,
    #[graphql(skip)]
    invoice_id: Option<InvoiceId>,
    #[graphql(skip)]
    product_id: Option<ProductId>,
    /// What is said, as plain text; 1 to 10,000 characters.
    pub body: String,
    /// Counts the changes of this row, from 1.
    pub version: i32,
    /// When the row was made.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
}

entity!(Comment {
    id: CommentId,
    author_id,
    project_id,
    invoice_id,
    product_id,
    body,
    version,
    created_at,
    updated_at,
});

abstract_type! {
    /// What a comment is about.
    union CommentSubject { Project(Project), Invoice(Invoice), Product(Product) }
}

listed! {
    Comment {
        filter CommentFilter {
            /// By id.
            id: IdFilter<CommentId>,
            /// By the user who wrote it.
            author_id: IdFilter<UserId>,
            /// By the project that it is about.
            project_id: IdFilter<ProjectId>,
            /// By the invoice that it is about.
            invoice_id: IdFilter<InvoiceId>,
            /// By the product that it is about.
            product_id: IdFilter<ProductId>,
            /// By what is said.
            body: StringFilter,
            /// By the time of creation.
            created_at: DateTimeFilter,
            /// By the time of the last change.
            updated_at: DateTimeFilter,
        }
        order CommentOrderField {
            /// By the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// By the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Comment {
        one {
            /// Who wrote it.
            #[graphql(directive = semantic_non_null::apply(None))]
            author: User = author_id,
        }
        many {
            /// What happened to the comment, newest first unless ordered otherwise. Empty for all but owners and admins.
            audit_logs: AuditLog = subject_id,
        }
        fields {
            /// What it is about.
            #[graphql(directive = semantic_non_null::apply(None))]
            async fn subject(&self, ctx: &Context<'_>) -> Result<Option<CommentSubject>> {
                Ok(match (self.project_id, self.invoice_id, self.product_id) {
                    (Some(id), _, _) => ctx.load(id).await?.map(CommentSubject::Project),
                    (_, Some(id), _) => ctx.load(id).await?.map(CommentSubject::Invoice),
                    (_, _, id) => ctx.load(id).await?.map(CommentSubject::Product),
                })
            }

            /// Whether the caller may edit it. The database decides by the same rule: its author,
            /// unless they may only read.
            async fn viewer_can_edit(&self, ctx: &Context<'_>) -> bool {
                let viewer = ctx.principal();
                viewer.user == self.author_id && viewer.role != UserRole::Viewer
            }

            /// Whether the caller may delete it. The database decides by the same rule: its author,
            /// unless they may only read, and every owner and admin.
            async fn viewer_can_delete(&self, ctx: &Context<'_>) -> bool {
                match ctx.principal().role {
                    UserRole::Owner | UserRole::Admin => true,
                    UserRole::Member | UserRole::Billing => ctx.principal().user == self.author_id,
                    UserRole::Viewer => false,
                }
            }
        }
    }
}

roots! {
    CommentQueries: Comment {
        /// One comment; null if there is none with this id.
        comment(CommentId)
        /// The comments of the tenant, newest first unless ordered otherwise.
        comments
    }
}
