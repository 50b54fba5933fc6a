//! What a resolver may ask of its context.

use std::sync::Arc;

use async_graphql::{Context, InputType};
use uuid::Uuid;

use super::{
    connection::{Connection, ListArguments, Listed},
    object::Object,
};
use crate::{
    auth::Principal,
    db::{
        TenantTx,
        load::{ById, Loaders},
        page::Keyed,
    },
    error::Result,
};

/// What a resolver may ask of its context.
pub trait ContextExt {
    /// The operation's transaction.
    fn tx(&self) -> &TenantTx;

    /// Who asks.
    fn principal(&self) -> &Principal;

    /// The loaders of the operation.
    fn loaders(&self) -> &Loaders;

    /// The row with an id, together with all others of its type that are asked for meanwhile.
    /// `None` if there is no id, no such row, or the caller may not see it.
    fn load<E: Keyed>(
        &self,
        id: impl Into<Option<E::Id>> + Send,
    ) -> impl Future<Output = Result<Option<Object<E>>>> + Send;

    /// A list of all rows of the tenant or, with a parent, of those whose column holds its id.
    fn list<E: Listed>(
        &self,
        parent: Option<(&'static str, Uuid)>,
        arguments: ListArguments<E>,
    ) -> impl Future<Output = Result<Object<Connection<E>>>> + Send
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

    async fn load<E: Keyed>(
        &self,
        id: impl Into<Option<E::Id>> + Send,
    ) -> Result<Option<Object<E>>> {
        let Some(id) = id.into() else { return Ok(None) };
        let row = self.loaders().load(ById::<E>(id)).await?;
        Ok(row.map(Object::from))
    }

    async fn list<E: Listed>(
        &self,
        parent: Option<(&'static str, Uuid)>,
        arguments: ListArguments<E>,
    ) -> Result<Object<Connection<E>>> {
        let (column, parent) = parent.unzip();
        let list = arguments.list(self.principal().tenant, column)?;
        Connection::load(self.loaders(), parent, list).await
    }
}
