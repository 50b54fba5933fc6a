//! Anything with an id: the interface `Node` and the two queries that follow ids of any type.

use async_graphql::{Context, ID};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{context::ContextExt as _, object::abstract_type};
use crate::{
    audit::{AuditLog, AuditSubjectType},
    comments::Comment,
    error::{Error, Result},
    ids::{
        AuditLogId, CommentId, InvoiceId, InvoiceLineItemId, OrganizationId, ProductId, ProjectId,
        TenantId, UserId,
    },
    invoices::{Invoice, InvoiceLineItem},
    organizations::Organization,
    products::Product,
    projects::Project,
    tenants::Tenant,
    users::User,
};

abstract_type! {
    /// Anything with an id that is unique among all types.
    interface Node {
        Tenant(Tenant),
        User(User),
        Organization(Organization),
        Project(Project),
        Product(Product),
        Invoice(Invoice),
        InvoiceLineItem(InvoiceLineItem),
        Comment(Comment),
        AuditLog(AuditLog),
    }
}

/// Most ids of one `nodes`.
const MAX_IDS: usize = 100;

impl Node {
    /// The row with an id of any type. Errors: the text is no id at all.
    pub async fn load(ctx: &Context<'_>, id: &str) -> Result<Option<Self>> {
        macro_rules! kinds {
            ($($kind:ident: $id:ty),+ $(,)?) => {
                $(
                    if let Ok(id) = id.parse::<$id>() {
                        return Ok(ctx.load(id).await?.map(Self::$kind));
                    }
                )+
            };
        }
        kinds! {
            Tenant: TenantId,
            User: UserId,
            Organization: OrganizationId,
            Project: ProjectId,
            Product: ProductId,
            Invoice: InvoiceId,
            InvoiceLineItem: InvoiceLineItemId,
            Comment: CommentId,
            AuditLog: AuditLogId,
        }
        Err(Error::invalid("id", "not an id of this API"))
    }

    /// The id in the API of a row that an audit entry names.
    #[must_use]
    pub fn id_text(subject: AuditSubjectType, uuid: Uuid) -> String {
        match subject {
            AuditSubjectType::Tenant => TenantId::from(uuid).to_string(),
            AuditSubjectType::User => UserId::from(uuid).to_string(),
            AuditSubjectType::Organization => OrganizationId::from(uuid).to_string(),
            AuditSubjectType::Project => ProjectId::from(uuid).to_string(),
            AuditSubjectType::Product => ProductId::from(uuid).to_string(),
            AuditSubjectType::Invoice => InvoiceId::from(uuid).to_string(),
            AuditSubjectType::InvoiceLineItem => InvoiceLineItemId::from(uuid).to_string(),
            AuditSubjectType::Comment => CommentId::from(uuid).to_string(),
        }
    }

    /// The row that an audit entry names.
    pub async fn load_subject(
        ctx: &Context<'_>,
        subject: AuditSubjectType,
        uuid: Uuid,
    ) -> Result<Option<Self>> {
        Self::load(ctx, &Self::id_text(subject, uuid)).await
    }
}

/// The root queries for ids of any type.
#[derive(Debug, Default)]
pub struct NodeQueries;

#[async_graphql::Object]
impl NodeQueries {
    /// The object with an id; null if there is none, or the caller may not see it.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "An id of any type.")] id: ID,
    ) -> Result<Option<Node>> {
        Node::load(ctx, &id).await
    }

    /// The objects with these ids, in their order; null where there is none, or the caller may not
    /// see it.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Ids of any types; at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_IDS {
            return Err(Error::invalid("ids", format!("at most {MAX_IDS} ids")));
        }
        // All are waited for, also if one fails: see `Fields::poll`.
        join_all(ids.iter().map(|id| Node::load(ctx, id)))
            .await
            .into_iter()
            .collect()
    }
}
