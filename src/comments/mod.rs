//! Comments on projects, invoices and products.

mod mutations;

use async_graphql::{Context, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    auth::role::UserRole,
    db::entity::entity,
    error::Result,
    graphql::{
        abstract_type::abstract_type,
        context::ContextExt as _,
        directives::semantic_non_null,
        filter::{DateTimeFilter, IdFilter, TextFilter, listed},
        relations::{relations, roots},
    },
    ids::{CommentId, InvoiceId, ProductId, ProjectId, UserId},
    invoices::Invoice,
    products::Product,
    projects::Project,
    users::User,
};

/// A comment on a project, an invoice or a product.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Comment {
    /// The ID of the comment.
    pub id: CommentId,
    #[graphql(skip)]
    author_id: UserId,
    #[graphql(skip)]
    project_id: Option<ProjectId>,
    #[graphql(skip)]
    invoice_id: Option<InvoiceId>,
    #[graphql(skip)]
    product_id: Option<ProductId>,
    /// The content of the comment, as plain text; 1 to 10,000 characters.
    pub body: String,
    /// The version of the comment: starts at 1 and increases with each change.
    pub version: i32,
    /// The time at which the comment was created.
    pub created_at: DateTime<Utc>,
    /// The time at which the comment was last changed. Equals `createdAt` if it never was.
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
    /// The object on which a comment was written.
    union CommentSubject { Project(Project), Invoice(Invoice), Product(Product) }
}

listed! {
    Comment {
        filter CommentFilter {
            /// Filters by ID.
            id: IdFilter<CommentId>,
            /// Filters by the author of the comment.
            author_id: IdFilter<UserId>,
            /// Filters by project: only comments on the project itself.
            project_id: IdFilter<ProjectId>,
            /// Filters by invoice: only comments on the invoice.
            invoice_id: IdFilter<InvoiceId>,
            /// Filters by product: only comments on the product.
            product_id: IdFilter<ProductId>,
            /// Filters by the content of the comment.
            body: TextFilter,
            /// Filters by the time of creation.
            created_at: DateTimeFilter,
            /// Filters by the time of the last change.
            updated_at: DateTimeFilter,
        }
        order CommentOrderField {
            /// Sort by the time of creation.
            CreatedAt => created_at: DateTime<Utc>,
            /// Sort by the time of the last change.
            UpdatedAt => updated_at: DateTime<Utc>,
        }
        default CreatedAt Desc
    }
}

relations! {
    Comment {
        one {
            /// The author: the user who wrote the comment.
            #[graphql(directive = semantic_non_null::apply(None))]
            author: User = author_id,
        }
        many {
            /// The changes of the comment itself, newest first by default. Only owners and admins may read them;
            /// for other roles the field is null with the error FORBIDDEN.
            audit_logs: AuditLog = subject_id,
        }
        loaded {
            /// The project, invoice or product on which the comment was written.
            #[graphql(directive = semantic_non_null::apply(None))]
            subject: Option<CommentSubject> = load_subject,
        }
        computed {
            /// Whether the caller may change the comment. Only its author may do so, unless they are a viewer.
            viewer_can_edit: bool = compute_viewer_can_edit,
            /// Whether the caller may delete the comment. Owners, admins and its author may do so, but no viewer.
            viewer_can_delete: bool = compute_viewer_can_delete,
        }
    }
}

impl Comment {
    async fn load_subject(&self, ctx: &Context<'_>) -> Result<Option<CommentSubject>> {
        Ok(match (self.project_id, self.invoice_id, self.product_id) {
            (Some(id), _, _) => ctx.load(id).await?.map(CommentSubject::Project),
            (_, Some(id), _) => ctx.load(id).await?.map(CommentSubject::Invoice),
            (_, _, id) => ctx.load(id).await?.map(CommentSubject::Product),
        })
    }

    /// The policy for updates has the same rule.
    fn compute_viewer_can_edit(&self, ctx: &Context<'_>) -> bool {
        let viewer = ctx.principal();
        viewer.user == self.author_id && viewer.role != UserRole::Viewer
    }

    /// The policy for deletions has the same rule.
    fn compute_viewer_can_delete(&self, ctx: &Context<'_>) -> bool {
        match ctx.principal().role {
            UserRole::Owner | UserRole::Admin => true,
            UserRole::Member | UserRole::Billing => ctx.principal().user == self.author_id,
            UserRole::Viewer => false,
        }
    }
}

roots! {
    CommentQueries: Comment {
        /// The comment with this ID; null if the tenant has no such comment.
        comment(CommentId)
        /// The comments of the tenant, newest first by default.
        comments
    }
}
