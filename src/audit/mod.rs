//! The audit log: what happened to a tenant's rows. Triggers write it; this only reads, seals what they wrote, and
//! checks the seals.

pub mod sealing;
pub mod verifying;

use async_graphql::{Context, Enum, Json, SimpleObject};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use sqlx::{
    Postgres,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueRef},
};
use uuid::Uuid;

use crate::{
    db::entity::entity,
    entities::entities,
    error::{Error, Result},
    graphql::{
        context::ContextExt as _,
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, StringFilter, listed},
        object::{Object, Objects, abstract_type},
        relations::{NoMutations, RootMutations, relations, roots},
    },
    ids::{AuditLogId, ProjectId, UserId},
    node::Node,
    projects::Project,
    users::User,
};

macro_rules! subject_types {
    (
        audited { $($(#[$doc:meta])* $row:ident: $id:ident = $prefix:literal in $table:literal of $slice:ident;)+ }
        unaudited { $($rest:tt)* }
    ) => {
        /// The type of the row that changed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
        pub enum AuditSubjectType {
            $($(#[$doc])* $row,)+
            /// A type that this version of the service does not know: of a newer version, or one that
            /// was removed.
            Unknown,
        }

        impl StoredEnum for AuditSubjectType {
            const UNKNOWN: Option<Self> = Some(Self::Unknown);

            /// The name of the table, which the audit triggers write.
            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$row => $table,)+
                    Self::Unknown => "",
                }
            }
        }
    };
}
entities!(subject_types);

impl sqlx::Type<Postgres> for AuditSubjectType {
    fn type_info() -> PgTypeInfo {
        <str as sqlx::Type<Postgres>>::type_info()
    }
}

impl<'r> sqlx::Decode<'r, Postgres> for AuditSubjectType {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let table = <&str as sqlx::Decode<Postgres>>::decode(value)?;
        Ok(Self::from_stored(table).unwrap_or(Self::Unknown))
    }
}

/// One change of one row.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct AuditLog {
    /// The id.
    pub id: AuditLogId,
    /// When the transaction that changed the row began.
    pub occurred_at: DateTime<Utc>,
    /// What was done, as `project.updated`: the type of the row and created, updated or deleted.
    pub action: String,
    #[graphql(skip)]
    actor_id: Option<UserId>,
    /// The type of the row that changed.
    pub subject_type: AuditSubjectType,
    #[graphql(skip)]
    subject_id: Uuid,
    #[graphql(skip)]
    project_id: Option<ProjectId>,
    // Read when asked for: most lists of the audit log only say who did what.
    #[graphql(skip)]
    changes: sqlx::types::Json<Box<RawValue>>,
    /// The name of the operation that did it, if it had one.
    pub operation_name: Option<String>,
    /// The id of the request that did it.
    pub request_id: Option<Uuid>,
}

/// A changed field as the trigger stores it.
#[derive(Debug, Deserialize)]
struct Change {
    field: String,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
}

/// The change of one field.
#[derive(Clone, Debug, SimpleObject)]
pub struct AuditChange {
    /// The column that changed.
    pub field: String,
    /// What it held before; null if the row was new.
    pub before: Option<Json<serde_json::Value>>,
    /// What it held afterwards; null if the row was deleted.
    pub after: Option<Json<serde_json::Value>>,
}

/// The service itself, where no user acted.
#[derive(Clone, Debug, SimpleObject)]
pub struct SystemActor {
    /// The part of the service that acted.
    pub name: String,
}

abstract_type! {
    /// Who changed a row.
    union AuditActor { User(User), System(SystemActor) }
}

entity!(AuditLog {
    id: AuditLogId,
    occurred_at,
    action,
    actor_id,
    subject_type,
    subject_id,
    project_id,
    changes,
    operation_name,
    request_id,
});

listed! {
    AuditLog {
        filter AuditLogFilter {
            /// By id.
            id: IdFilter<AuditLogId>,
            /// By the time of the change.
            occurred_at: DateTimeFilter,
            /// By what was done.
            action: StringFilter,
            /// By the user who did it.
            actor_id: IdFilter<UserId>,
            /// By the type of the row that changed.
            subject_type: EnumFilter<AuditSubjectType>,
            /// By the project that the row belongs to.
            project_id: IdFilter<ProjectId>,
        }
        order AuditLogOrderField {
            /// By the time of the change.
            OccurredAt => occurred_at: DateTime<Utc>,
        }
        default OccurredAt Desc
    }
}

relations! {
    AuditLog {
        one {
            /// The project that the row belongs to; null if there is none, or it is gone.
            project: Project = project_id,
        }
        fields {
            /// Who did it; null if the user is gone.
            async fn actor(&self, ctx: &Context<'_>) -> Result<Option<AuditActor>> {
                if let Some(id) = self.actor_id {
                    return Ok(ctx.load(id).await?.map(AuditActor::User));
                }
                let system = SystemActor { name: "palisade".to_owned() };
                Ok(Some(AuditActor::System(system.into())))
            }

            /// The id of the row that changed.
            async fn subject_id(&self) -> async_graphql::ID {
                Node::subject_id(self.subject_type, self.subject_id).into()
            }

            /// The row as it is now; null if it is gone.
            async fn subject(&self, ctx: &Context<'_>) -> Result<Option<Node>> {
                Node::load_subject(ctx, self.subject_type, self.subject_id).await
            }

            /// The fields that changed, by name.
            #[expect(clippy::unused_async, reason = "async-graphql takes no other fields")]
            async fn changes(&self) -> Result<Objects<AuditChange>> {
                let changes: Vec<Change> = serde_json::from_str(self.changes.get()).map_err(|error| {
                    Error::Internal(format!("audit_logs.changes of {}: {error}", self.id).into())
                })?;
                let changes = changes.into_iter().map(|change| {
                    Object::from(AuditChange {
                        field: change.field,
                        before: change.before.map(Json),
                        after: change.after.map(Json),
                    })
                });
                Ok(changes.collect())
            }
        }
    }
}

impl RootMutations for AuditLog {
    type Mutations = NoMutations;
}

roots! {
    AuditLogQueries: AuditLog {
        /// One entry of the audit log; null if there is none with this id. For owners and admins.
        audit_log(AuditLogId)
        /// What happened in the tenant, newest first unless ordered otherwise. Empty for all but owners and admins.
        audit_logs
    }
}
