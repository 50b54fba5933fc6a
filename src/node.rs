//! Any entity: the interface `Node`.

use async_graphql::Context;
use uuid::Uuid;

use crate::{
    audit::{AuditLog, AuditSubjectType},
    comments::Comment,
    error::{Error, Result},
    graphql::{abstract_type::abstract_type, context::ContextExt as _},
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
