//! What changes comments. Whose they are decides the database.

use async_graphql::{Context, ID, InputObject};

use super::Comment;
use crate::{
    db::{
        TenantTx,
        write::{Insert, Update, Writable, Written, delete_one},
    },
    error::Result,
    graphql::{
        context::ContextExt as _,
        mutation::{Write as _, payload, targets},
        object::Object,
        relations::RootMutations,
    },
    ids::{CommentId, EntityId as _, InvoiceId, ProductId, ProjectId, UserId},
    user_error::{Checks, Rule, UserErrorCode},
};

/// Most characters of a comment.
const BODY: usize = 10_000;

impl Writable for Comment {
    const RULES: &'static [Rule] = &[
        Rule::new(
            "comments_project_fkey",
            UserErrorCode::NotFound,
            "subjectId",
            "Project not found",
        ),
        Rule::new(
            "comments_invoice_fkey",
            UserErrorCode::NotFound,
            "subjectId",
            "Invoice not found",
        ),
        Rule::new(
            "comments_product_fkey",
            UserErrorCode::NotFound,
            "subjectId",
            "Product not found",
        ),
        Rule::new(
            "comments_body_length",
            UserErrorCode::Invalid,
            "body",
            "has 1 to 10000 characters",
        ),
    ];
}

/// What is said, and about what.
#[derive(Debug, InputObject)]
pub struct CreateCommentInput {
    /// The id of the project, invoice or product that it is about.
    pub subject_id: ID,
    /// What is said, as plain text; 1 to 10,000 characters.
    pub body: String,
}

/// What is to be said instead.
#[derive(Debug, InputObject)]
pub struct UpdateCommentInput {
    /// The comment's id.
    pub id: CommentId,
    /// Only if it still has this version; otherwise CONFLICT.
    pub if_version: Option<i32>,
    /// What is said, as plain text; 1 to 10,000 characters.
    pub body: String,
}

targets! {
    /// The comment to delete.
    DeleteCommentInput(CommentId)
}

payload! {
    /// What came of `createComment`.
    CreateCommentPayload { comment: Comment }
    /// What came of `updateComment`.
    UpdateCommentPayload { comment: Comment }
    /// What came of `deleteComment`: the comment as it was.
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
    /// Comments on a project, invoice or product, in the caller's name. For all but viewers.
    async fn create_comment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The comment.")] input: CreateCommentInput,
    ) -> Result<Object<CreateCommentPayload>> {
        let author = ctx.principal().user;
        ctx.write(create(ctx.tx(), input, author)).await
    }

    /// Changes a comment. For its author alone.
    async fn update_comment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which comment, and what it shall say.")] input: UpdateCommentInput,
    ) -> Result<Object<UpdateCommentPayload>> {
        ctx.write(update(ctx.tx(), input)).await
    }

    /// Deletes a comment. For its author, owners and admins.
    async fn delete_comment(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which comment.")] input: DeleteCommentInput,
    ) -> Result<Object<DeleteCommentPayload>> {
        ctx.write(delete_one(ctx.tx(), input.id, input.if_version))
            .await
    }
}

async fn create(tx: &TenantTx, input: CreateCommentInput, author: UserId) -> Written<Comment> {
    let id = &input.subject_id;
    let subject = id
        .parse()
        .map(|id: ProjectId| ("project_id", id.uuid()))
        .or_else(|_| id.parse().map(|id: InvoiceId| ("invoice_id", id.uuid())))
        .or_else(|_| id.parse().map(|id: ProductId| ("product_id", id.uuid())))
        .ok();
    let mut checks = Checks::new();
    checks.text("body", &input.body, BODY);
    let message = "is not the id of a project, an invoice or a product";
    checks.require(
        subject.is_some(),
        UserErrorCode::Invalid,
        "subjectId",
        message,
    );
    checks.done()?;
    let mut insert = Insert::<Comment>::new(CommentId::generate())
        .set("author_id", author.uuid())
        .set("body", input.body);
    if let Some((column, subject)) = subject {
        insert = insert.set(column, subject);
    }
    insert.run(tx).await
}

async fn update(tx: &TenantTx, input: UpdateCommentInput) -> Written<Comment> {
    let mut checks = Checks::new();
    checks.text("body", &input.body, BODY);
    checks.done()?;
    Update::<Comment>::new(input.id, input.if_version)
        .set("body", input.body)
        .run(tx)
        .await
}
