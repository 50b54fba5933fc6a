//! What every mutation has in common: it is done whole or not at all, and says which.
//!
//! A resolver hands its work to [`Write::write`]. What the work refuses is undone and reported in
//! `userErrors`; what fails is an error of the whole operation, of which then nothing is written.

use async_graphql::Context;

use super::{context::ContextExt as _, object::Object};
use crate::{db::write_error::WriteError, error::Result, user_error::UserError};

/// What became of a mutation.
pub struct Outcome<T> {
    /// What it wrote, or what is there instead of the version that the client expected.
    pub value: Option<T>,
    /// Why it wrote nothing.
    pub user_errors: Vec<UserError>,
}

/// Does the work of one root field of a mutation.
pub trait Write {
    /// Does the work, and undoes it if it is refused. The payload `P` takes what became of it.
    fn write<T, P>(
        &self,
        work: impl Future<Output = Result<T, WriteError<T>>> + Send,
    ) -> impl Future<Output = Result<Object<P>>> + Send
    where
        T: Send,
        P: From<Outcome<T>> + Send + Sync;
}

impl Write for Context<'_> {
    async fn write<T, P>(
        &self,
        work: impl Future<Output = Result<T, WriteError<T>>> + Send,
    ) -> Result<Object<P>>
    where
        T: Send,
        P: From<Outcome<T>> + Send + Sync,
    {
        let tx = self.tx();
        tx.begin_field().await?;
        let (value, user_errors) = match work.await {
            // Work that passed over a failed statement has not written what it says.
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
        // What was loaded before may have changed.
        self.loaders().clear();
        Ok(P::from(Outcome { value, user_errors }).into())
    }
}

/// A payload: what a mutation answers.
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
                /// The object after the mutation, or as it was before a deletion. Null if the mutation failed.
                /// After CONFLICT, the current object.
                pub $field: Option<$crate::graphql::object::Object<$row>>,
                /// The errors of the mutation. If there are any, nothing was written.
                pub user_errors: $crate::graphql::object::Objects<$crate::user_error::UserError>,
            }

            impl From<$crate::graphql::mutation::Outcome<$row>> for $name {
                fn from(outcome: $crate::graphql::mutation::Outcome<$row>) -> Self {
                    Self {
                        $field: outcome.value.map(Into::into),
                        user_errors: outcome.user_errors.into_iter().collect(),
                    }
                }
            }
        )+
    };
}
pub(crate) use payload;

/// Inputs that name one row, and perhaps the version that the client knows of it.
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

/// Most characters of an idempotency key.
pub const MAX_KEY: usize = 255;

/// Whether a text can be an idempotency key: 1 to 255 visible ASCII characters and spaces.
#[must_use]
pub fn is_key(key: &str) -> bool {
    let fits = !key.is_empty() && key.len() <= MAX_KEY;
    fits && key.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
