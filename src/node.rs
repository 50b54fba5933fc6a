//! The interface `Node`: an object of any type.

use async_graphql::Context;
use uuid::Uuid;

use crate::{
    audit::AuditSubjectType,
    entities::entities,
    error::{Error, Result},
    graphql::{abstract_type::abstract_type, context::ContextExt as _},
    ids,
};

macro_rules! node {
    (
        audited { $($(#[$doc:meta])* $row:ident: $id:ident = $prefix:literal in $table:literal of $slice:ident;)+ }
        unaudited { $($(#[$doc_:meta])* $row_:ident: $id_:ident = $prefix_:literal in $table_:literal of $slice_:ident;)+ }
    ) => {
        abstract_type! {
            /// An object with an ID that is unique across all types.
            interface Node {
                $($row(crate::$slice::$row),)+
                $($row_(crate::$slice_::$row_),)+
            }
        }

        impl Node {
            /// Loads the row with an ID of any type. Errors: the string is not an ID, or the caller's role may not read
            /// such rows.
            pub async fn load(ctx: &Context<'_>, id: &str) -> Result<Option<Self>> {
                $(
                    if let Ok(id) = id.parse::<ids::$id>() {
                        return Ok(ctx.load(id).await?.map(Self::$row));
                    }
                )+
                $(
                    if let Ok(id) = id.parse::<ids::$id_>() {
                        return Ok(ctx.load(id).await?.map(Self::$row_));
                    }
                )+
                Err(Error::invalid("id", "must be an ID of this API"))
            }

            /// Loads the row that an audit entry is about; `None` if the type of the row is unknown, or the row does
            /// not exist.
            pub async fn load_subject(
                ctx: &Context<'_>,
                subject: AuditSubjectType,
                uuid: Uuid,
            ) -> Result<Option<Self>> {
                match subject {
                    $(AuditSubjectType::$row => {
                        Ok(ctx.load(ids::$id::from(uuid)).await?.map(Self::$row))
                    })+
                    AuditSubjectType::Unknown => Ok(None),
                }
            }

            /// The ID of the row that an audit entry is about, in the form that the API uses. For an unknown type, only
            /// the UUID.
            #[must_use]
            pub fn subject_id(subject: AuditSubjectType, uuid: Uuid) -> String {
                match subject {
                    $(AuditSubjectType::$row => ids::$id::from(uuid).to_string(),)+
                    AuditSubjectType::Unknown => uuid.to_string(),
                }
            }
        }
    };
}
entities!(node);
