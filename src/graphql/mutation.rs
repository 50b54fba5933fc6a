//! The common part of all mutations: each root field writes everything or nothing.
//!
//! A resolver passes its work to [`Write::write`]. If the work is rejected, its changes are rolled back
//! and `userErrors` has the reasons. If the work fails, the whole operation fails and writes nothing.

use async_graphql::Context;

use super::{context::ContextExt as _, json::PlainFields, object::Object};
use crate::{db::write_error::WriteError, error::Result, user_error::UserError};

impl PlainFields for UserError {}

/// The result of one root field of a mutation.
pub struct MutationResult<T> {
    /// The written value. After a conflict, the current value.
    pub value: Option<T>,
    /// The reasons why nothing was written; empty if the mutation succeeded.
    pub user_errors: Vec<UserError>,
}

/// Runs the work of one root field of a mutation.
pub trait Write {
    /// Runs the work, and rolls its changes back if it is rejected. Returns the payload `P`.
    fn write<T, P>(
        &self,
        work: impl Future<Output = Result<T, WriteError<T>>> + Send,
    ) -> impl Future<Output = Result<Object<P>>> + Send
    where
        T: Send,
        P: From<MutationResult<T>> + Send + Sync;
}

impl Write for Context<'_> {
    async fn write<T, P>(
        &self,
        work: impl Future<Output = Result<T, WriteError<T>>> + Send,
    ) -> Result<Object<P>>
    where
        T: Send,
        P: From<MutationResult<T>> + Send + Sync,
    {
        let tx = self.tx();
        tx.begin_field().await?;
        let (value, user_errors) = match work.await {
            // If the work ignored a failed statement, the value that the work returns was not written.
            Ok(value) => {
                tx.check_field().await?;
                (Some(value), Vec::new())
            }
            Err(WriteError::Rejected(user_errors, value)) => (value, user_errors),
            Err(WriteError::Failed(error)) => return Err(error),
        };
        if !user_errors.is_empty() {
            tx.undo_field().await?;
        }
        // Rows that were loaded before may have changed.
        self.loaders().clear();
        Ok(P::from(MutationResult { value, user_errors }).into())
    }
}

/// Defines the payloads of mutations.
///
/// ```text
/// payload! {
///     /// The project that was created.
///     CreateProjectPayload { project: Project }
/// }
/// ```
macro_rules! payload {
    ($($(#[$doc:meta])* $name:ident { $field:ident: $row:ty })+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, async_graphql::SimpleObject)]
            pub struct $name {
                /// The object after the mutation. A deletion returns the object as it was before. A failed mutation
                /// returns null, or the current object if the error is CONFLICT.
                pub $field: Option<$crate::graphql::object::Object<$row>>,
                /// The errors of the mutation. If there are any, nothing was written.
                pub user_errors: $crate::graphql::object::Objects<$crate::user_error::UserError>,
            }

            impl $crate::graphql::json::PlainFields for $name {}

            impl From<$crate::graphql::mutation::MutationResult<$row>> for $name {
                fn from(result: $crate::graphql::mutation::MutationResult<$row>) -> Self {
                    Self {
                        $field: result.value.map(Into::into),
                        user_errors: result.user_errors.into_iter().collect(),
                    }
                }
            }
        )+
    };
}
pub(crate) use payload;

/// Defines inputs that name one object and, optionally, the version that the client last read.
macro_rules! targets {
    ($($(#[$doc:meta])* $name:ident($id:ty))+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, async_graphql::InputObject)]
            pub struct $name {
                /// The ID of the object.
                pub id: $id,
                /// The version that the client last read. If the object has changed since, nothing is written
                /// and the error CONFLICT is returned.
                pub if_version: Option<i32>,
            }
        )+
    };
}
pub(crate) use targets;
