//! Comments on projects, invoices and products.

mod mutations;

use async_graphql::{Context, SimpleObject};
use chrono::{DateTime, Utc};

use crate::{
    audit::AuditLog,
    auth::role::UserRole,
    db::entity::Column,
    error::Result,
    graphql::{
        abstract_type::abstract_type,
        context::ContextExt as _,
        directives::semantic_non_null,
        entity::entity,
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
    author_id: Column<UserId>,
    #[graphql(skip)]
    project_id: Column<Option<ProjectId>>,
    #[graphql(skip)]
    invoice_id: Column<Option<InvoiceId>>,
    #[graphql(skip)]
    product_id: Column<Option<ProductId>>,
    /// The content of the comment, as plain text; 1 to 10,000 characters.
    pub body: Column<String>,
    /// The version of the comment: starts at 1 and increases with each change.
    pub version: Column<i32>,
    /// The time at which the comment was created.
    pub created_at: Column<DateTime<Utc>>,
    /// The time at which the comment was last changed.
    pub updated_at: Column<DateTime<Utc>>,
}

entity!(Comment {
    id: CommentId,
    shown { body, version, created_at, updated_at }
    hidden { author_id, project_id, invoice_id, product_id }
    long { body }
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
            subject: Option<CommentSubject> = load_subject(project_id, invoice_id, product_id),
        }
        computed {
            /// Whether the caller may change the comment. Only the author may do so, unless the author has the role
            /// `VIEWER`.
            viewer_can_edit: bool = compute_viewer_can_edit(author_id),
            /// Whether the caller may delete the comment. Owners and admins may do so. The author may also do so,
            /// unless the author has the role `VIEWER`.
            viewer_can_delete: bool = compute_viewer_can_delete(author_id),
        }
    }
}

impl Comment {
    async fn load_subject(&self, ctx: &Context<'_>) -> Result<Option<CommentSubject>> {
        if let Some(id) = self.project_id.copied()? {
            return Ok(ctx.load(id).await?.map(CommentSubject::Project));
        }
        if let Some(id) = self.invoice_id.copied()? {
            return Ok(ctx.load(id).await?.map(CommentSubject::Invoice));
        }
        let product = ctx.load(self.product_id.copied()?).await?;
        Ok(product.map(CommentSubject::Product))
    }

    /// The policy for updates has the same rule.
    fn compute_viewer_can_edit(&self, ctx: &Context<'_>) -> Result<bool> {
        let viewer = ctx.principal();
        Ok(viewer.user == self.author_id.copied()? && viewer.role != UserRole::Viewer)
    }

    /// The policy for deletions has the same rule.
    fn compute_viewer_can_delete(&self, ctx: &Context<'_>) -> Result<bool> {
        let author = self.author_id.copied()?;
        Ok(match ctx.principal().role {
            UserRole::Owner | UserRole::Admin => true,
            UserRole::Member | UserRole::Billing => ctx.principal().user == author,
            UserRole::Viewer => false,
        })
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
