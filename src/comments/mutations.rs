//! The mutations of comments. The database decides who may change a comment.

use async_graphql::{Context, ID, InputObject};

use super::Comment;
use crate::{
    db::{
        TenantTx,
        write::{ConstraintRule, Insert, Update, Writable, WriteResult, delete_one},
    },
    error::Result,
    graphql::{
        checks::Checks,
        context::ContextExt as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
    },
    ids::{CommentId, EntityId as _, InvoiceId, ProductId, ProjectId, UserId},
    user_error::UserErrorCode,
};

/// The maximum length of a comment in characters.
const MAX_BODY_LENGTH: usize = 10_000;

impl Writable for Comment {
    const RULES: &'static [ConstraintRule] = &[
        ConstraintRule::new(
            "comments_project_fkey",
            UserErrorCode::NotFound,
            "subjectId",
            "Project not found",
        ),
        ConstraintRule::new(
            "comments_invoice_fkey",
            UserErrorCode::NotFound,
            "subjectId",
            "Invoice not found",
        ),
        ConstraintRule::new(
            "comments_product_fkey",
            UserErrorCode::NotFound,
            "subjectId",
            "Product not found",
        ),
        ConstraintRule::new(
            "comments_body_length",
            UserErrorCode::Invalid,
            "body",
            "must have 1 to 10000 characters",
        ),
    ];
}

/// The input of the `createComment` mutation.
#[derive(Debug, InputObject)]
pub struct CreateCommentInput {
    /// The ID of the project, invoice or product to comment on.
    pub subject_id: ID,
    /// The content of the comment, as plain text; 1 to 10,000 characters.
    pub body: String,
}

/// The input of the `updateComment` mutation.
#[derive(Debug, InputObject)]
pub struct UpdateCommentInput {
    /// The ID of the comment.
    pub id: CommentId,
    /// The version that the client last read. If the comment has changed since, nothing is written and the error
    /// CONFLICT is returned.
    pub if_version: Option<i32>,
    /// The content of the comment, as plain text; 1 to 10,000 characters.
    pub body: String,
}

targets! {
    /// The input of the `deleteComment` mutation.
    DeleteCommentInput(CommentId)
}

payload! {
    /// The payload of the `createComment` mutation.
    CreateCommentPayload { comment: Comment }
    /// The payload of the `updateComment` mutation.
    UpdateCommentPayload { comment: Comment }
    /// The payload of the `deleteComment` mutation.
    DeleteCommentPayload { comment: Comment }
}

/// The mutations of this slice.
#[derive(Debug, Default)]
pub struct CommentMutations;

impl RootMutations for Comment {
    type Mutations = CommentMutations;
}

#[async_graphql::Object]
impl CommentMutations {
    /// Creates a comment on a project, an invoice or a product. Every role except viewer may do so. The caller becomes
    /// the author.
    async fn create_comment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The comment to create.")] input: CreateCommentInput,
    ) -> Result<Object<CreateCommentPayload>> {
        let author = ctx.principal().user;
        ctx.write(create(ctx.tx(), input, author)).await
    }

    /// Updates a comment. Only the author may do so, unless the author has the role `VIEWER`.
    async fn update_comment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The comment and its new content.")] input: UpdateCommentInput,
    ) -> Result<Object<UpdateCommentPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Deletes a comment. Owners and admins may do so. The author may also do so, unless the author has the role
    /// `VIEWER`.
    async fn delete_comment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The comment to delete.")] input: DeleteCommentInput,
    ) -> Result<Object<DeleteCommentPayload>> {
        ctx.write(delete_one(ctx.tx(), input.id, input.if_version))
            .await
    }
}

async fn create(tx: &TenantTx, input: CreateCommentInput, author: UserId) -> WriteResult<Comment> {
    let id = &input.subject_id;
    let subject = id
        .parse()
        .map(|id: ProjectId| ("project_id", id.uuid()))
        .or_else(|_| id.parse().map(|id: InvoiceId| ("invoice_id", id.uuid())))
        .or_else(|_| id.parse().map(|id: ProductId| ("product_id", id.uuid())))
        .ok();
    let mut checks = Checks::new();
    checks.text("body", &input.body, MAX_BODY_LENGTH);
    let message = "must be the ID of a project, an invoice or a product";
    checks.require(
        subject.is_some(),
        UserErrorCode::Invalid,
        "subjectId",
        message,
    );
    checks.finish()?;
    let mut insert = Insert::<Comment>::new(CommentId::generate())
        .set("author_id", author.uuid())
        .set("body", input.body);
    if let Some((column, subject)) = subject {
        insert = insert.set(column, subject);
    }
    insert.run(tx).await
}

async fn update(tx: &TenantTx, input: UpdateCommentInput) -> WriteResult<Comment> {
    let mut checks = Checks::new();
    checks.text("body", &input.body, MAX_BODY_LENGTH);
    checks.finish()?;
    Update::<Comment>::new(input.id, input.if_version)
        .set("body", input.body)
        .run(tx)
        .await
}
