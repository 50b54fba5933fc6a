//! What resolvers get from their context: the transaction, the caller, rows and lists.

use std::sync::Arc;

use async_graphql::{Context, InputType};
use uuid::Uuid;

use super::{
    connection::{Connection, ListArguments, Listable},
    object::Object,
};
use crate::{
    auth::{Principal, role::UserRole},
    db::{
        TenantTx,
        load::{ById, Loaders},
        page::Sortable,
    },
    error::{Error, Result},
};

/// What resolvers get from their context.
pub trait ContextExt {
    /// The operation's transaction.
    fn tx(&self) -> &TenantTx;

    /// The caller.
    fn principal(&self) -> &Principal;

    /// The loaders of the operation.
    fn loaders(&self) -> &Loaders;

    /// Loads the row with an ID, together with all other rows of its type that the same level of the query
    /// requests. `None` if there is no ID, or if the tenant has no such row. Errors: the caller's role may
    /// not read rows of this type.
    fn load<E: Sortable>(
        &self,
        id: impl Into<Option<E::Id>> + Send,
    ) -> impl Future<Output = Result<Option<Object<E>>>> + Send;

    /// Lists all rows of the tenant or, with a parent, the rows whose column holds the parent's ID. Errors: the
    /// caller's role may not read rows of this type.
    fn list<E: Listable>(
        &self,
        parent: Option<(&'static str, Uuid)>,
        arguments: ListArguments<E>,
    ) -> impl Future<Output = Result<E::List>> + Send
    where
        E::Filter: InputType;
}

impl ContextExt for Context<'_> {
    fn tx(&self) -> &TenantTx {
        self.loaders().tx()
    }

    fn principal(&self) -> &Principal {
        self.data_unchecked::<Principal>()
    }

    fn loaders(&self) -> &Loaders {
        self.data_unchecked::<Arc<Loaders>>()
    }

    async fn load<E: Sortable>(
        &self,
        id: impl Into<Option<E::Id>> + Send,
    ) -> Result<Option<Object<E>>> {
        let Some(id) = id.into() else { return Ok(None) };
        require_readable::<E>(self.principal().role)?;
        let row = self.loaders().load(ById::<E>(id)).await?;
        Ok(row.map(Object::from))
    }

    async fn list<E: Listable>(
        &self,
        parent: Option<(&'static str, Uuid)>,
        arguments: ListArguments<E>,
    ) -> Result<E::List> {
        let (column, parent) = parent.unzip();
        let list = arguments.check(self, column)?;
        let list = Connection::load(self.loaders(), parent, list).await?;
        Ok(list.into())
    }
}

/// Rejects a role that may not read rows of a type. The policies would hide the rows, and the response would look as
/// if the tenant had none.
pub(super) fn require_readable<E: Sortable>(role: UserRole) -> Result<()> {
    match E::READABLE_BY {
        Some(roles) if !roles.contains(&role) => Err(Error::Forbidden),
        _ => Ok(()),
    }
}
