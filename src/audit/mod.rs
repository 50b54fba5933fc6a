//! The audit log: the changes of a tenant's rows. Database triggers write it. This module reads it, seals it
//! and verifies the seals.

pub mod sealing;
pub mod verifying;

use async_graphql::{Context, Enum, ID, Json, SimpleObject};
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
    db::entity::Column,
    entities::entities,
    error::{Error, Result},
    graphql::{
        abstract_type::abstract_type,
        context::ContextExt as _,
        entity::entity,
        enums::StoredEnum,
        filter::{DateTimeFilter, EnumFilter, IdFilter, LowerCase, StringFilter, listed},
        json::plain_fields,
        object::{Object, Objects},
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
        /// The type of a changed object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
        pub enum AuditSubjectType {
            $($(#[$doc])* $row,)+
            /// A type that this version of the service does not know. A newer or an older version recorded the change.
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

/// An entry of the audit log: one change of one object.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct AuditLog {
    /// The ID of the entry.
    pub id: AuditLogId,
    /// The time of the change: the start of its transaction.
    pub occurred_at: Column<DateTime<Utc>>,
    /// The action, such as `project.updated`: the type of the object, and `created`, `updated` or `deleted`.
    pub action: Column<String>,
    #[graphql(skip)]
    actor_id: Column<Option<UserId>>,
    /// The type of the changed object.
    pub subject_type: Column<AuditSubjectType>,
    #[graphql(skip)]
    subject_id: Column<Uuid>,
    #[graphql(skip)]
    project_id: Column<Option<ProjectId>>,
    // Parsed only if the client selects it: most lists of the audit log do not.
    #[graphql(skip)]
    changes: Column<sqlx::types::Json<Box<RawValue>>>,
    /// The name of the GraphQL operation that made the change. Null if no operation made the change, or if the
    /// operation had no name.
    pub operation_name: Column<Option<String>>,
    /// The ID of the HTTP request that made the change. Null if the change was made directly in the database.
    pub request_id: Column<Option<Uuid>>,
}

plain_fields!(AuditChange { field });
plain_fields!(SystemActor { name });

/// A changed column as the trigger stores it.
#[derive(Debug, Deserialize)]
struct Change {
    field: String,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
}

/// One column of a changed object, with its values before and after the change.
#[derive(Clone, Debug, SimpleObject)]
pub struct AuditChange {
    /// The name of the column in the database.
    pub field: String,
    /// The value before the change. Null if the object was created, or if the column was null.
    pub before: Option<Json<serde_json::Value>>,
    /// The value after the change. Null if the object was deleted, or if the column was set to null.
    pub after: Option<Json<serde_json::Value>>,
}

/// The actor of a change that no user made: the service itself, or an operator.
#[derive(Clone, Debug, SimpleObject)]
pub struct SystemActor {
    /// The name of the service: always `palisade`.
    pub name: String,
}

abstract_type! {
    /// The actor of a change: a user, or the system.
    union AuditActor { User(User), System(SystemActor) }
}

entity!(AuditLog {
    id: AuditLogId,
    shown { occurred_at, action, subject_type, operation_name, request_id }
    hidden { actor_id, subject_id, project_id, changes }
    long { changes }
});

listed! {
    AuditLog {
        readable by [Owner, Admin]
        filter AuditLogFilter {
            /// Filters by ID.
            id: IdFilter<AuditLogId>,
            /// Filters by the time of the change.
            occurred_at: DateTimeFilter,
            /// Filters by action, such as `project.updated`.
            action: StringFilter<LowerCase>,
            /// Filters by the user who made the change.
            actor_id: IdFilter<UserId>,
            /// Filters by the type of the changed object.
            subject_type: EnumFilter<AuditSubjectType>,
            /// Filters by the project to which the changed object belongs.
            project_id: IdFilter<ProjectId>,
        }
        order AuditLogOrderField {
            /// Sort by the time of the change.
            OccurredAt => occurred_at: DateTime<Utc>,
        }
        default OccurredAt Desc
    }
}

relations! {
    AuditLog {
        one {
            /// The project to which the changed object belongs. Null if the object belongs to no project, or if the
            /// project was deleted.
            project: Project = project_id,
        }
        loaded {
            /// The actor: who made the change. Null if the user no longer exists.
            actor: Option<AuditActor> = load_actor(actor_id),
            /// The changed object in its current state. Null if the object was deleted, or if its type is `UNKNOWN`.
            subject: Option<Node> = load_subject(subject_type, subject_id),
        }
        computed {
            /// The changed columns, sorted by name.
            changes: Objects<AuditChange> = compute_changes(changes),
            /// The ID of the changed object.
            subject_id: ID = compute_subject_id(subject_type, subject_id),
        }
    }
}

impl AuditLog {
    async fn load_actor(&self, ctx: &Context<'_>) -> Result<Option<AuditActor>> {
        if let Some(id) = self.actor_id.copied()? {
            return Ok(ctx.load(id).await?.map(AuditActor::User));
        }
        let system = SystemActor {
            name: "palisade".to_owned(),
        };
        Ok(Some(AuditActor::System(system.into())))
    }

    async fn load_subject(&self, ctx: &Context<'_>) -> Result<Option<Node>> {
        Node::load_subject(ctx, self.subject_type.copied()?, self.subject_id.copied()?).await
    }

    fn compute_changes(&self, _: &Context<'_>) -> Result<Objects<AuditChange>> {
        let changes = self.changes.get()?.get();
        let changes: Vec<Change> = serde_json::from_str(changes).map_err(|error| {
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

    fn compute_subject_id(&self, _: &Context<'_>) -> Result<ID> {
        let (subject, uuid) = (self.subject_type.copied()?, self.subject_id.copied()?);
        Ok(Node::subject_id(subject, uuid).into())
    }
}

impl RootMutations for AuditLog {
    type Mutations = NoMutations;
}

roots! {
    AuditLogQueries: AuditLog {
        /// The entry of the audit log with this ID; null if the tenant has no such entry. Only owners and admins
        /// may read it; for other roles the field is null with the error FORBIDDEN.
        audit_log(AuditLogId)
        /// The changes of all objects of the tenant, newest first by default. Only owners and admins may read
        /// them; for other roles the field is null with the error FORBIDDEN.
        audit_logs
    }
}
