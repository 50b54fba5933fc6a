//! Loaders: the keys of one level of a query become one statement.
//!
//! A key knows how to load itself, so there is nothing to register. The engine is the `dataloader`
//! crate: it waits by yielding, never by a timer, and runs inside the operation's own task, so a
//! batch is complete when it starts: every resolver of a level was polled once before.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    marker::PhantomData,
    sync::Arc,
};

use dataloader::{BatchFn, cached};
use sea_query::{Expr, ExprTrait as _, Query};
use uuid::Uuid;

use super::{
    TenantTx,
    entity::Entity,
    page::{self, statement},
};
use crate::{
    error::{Error, Result},
    ids::EntityId,
};

/// A loader key. `load` runs one statement for all keys of a level.
pub trait Batch: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// What a key stands for.
    type Value: Clone + Send + Sync + 'static;

    /// Loads all keys. One that is left out has no value.
    fn load(
        tx: &TenantTx,
        keys: &[Self],
    ) -> impl Future<Output = Result<HashMap<Self, Self::Value>>> + Send;
}

/// "The row with this id."
#[derive(Debug)]
pub struct ById<E: Entity>(pub E::Id);

impl<E: Entity> Clone for ById<E> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<E: Entity> PartialEq for ById<E> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<E: Entity> Eq for ById<E> {}

impl<E: Entity> Hash for ById<E> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<E: Entity + Debug> Batch for ById<E> {
    type Value = Arc<E>;

    async fn load(tx: &TenantTx, keys: &[Self]) -> Result<HashMap<Self, Arc<E>>> {
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0.uuid()).collect();
        let query = Query::select()
            .columns(E::COLUMNS.iter().copied())
            .from(E::TABLE)
            .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
            .and_where(page::any("id", page::Value::Uuids(ids)))
            .to_owned();
        let rows = tx.fetch_all(statement(&query)).await?;
        rows.iter()
            .map(|row| {
                let entity = E::read(row)?;
                Ok((Self(entity.id()), Arc::new(entity)))
            })
            .collect()
    }
}

/// What a loader hands out: errors travel in the value, and a missing key is `None`.
type Loaded<K> = Result<Option<<K as Batch>::Value>, Arc<Error>>;

/// Runs the batches of one kind of key.
struct Batches<K> {
    tx: TenantTx,
    key: PhantomData<fn() -> K>,
}

impl<K: Batch> BatchFn<K, Loaded<K>> for Batches<K> {
    async fn load(&mut self, keys: &[K]) -> HashMap<K, Loaded<K>> {
        // Boxed, because every field that loads holds this future inside its own: unboxed, each of
        // them would be moved with room for the building of a statement.
        match Box::pin(K::load(&self.tx, keys)).await {
            Ok(mut found) => keys
                .iter()
                .map(|key| (key.clone(), Ok(found.remove(key))))
                .collect(),
            Err(error) => {
                let error = Arc::new(error);
                keys.iter()
                    .map(|key| (key.clone(), Err(Arc::clone(&error))))
                    .collect()
            }
        }
    }
}

type Loader<K> = cached::Loader<K, Loaded<K>, Batches<K>>;

/// How often a load lets the other resolvers of its level go first. One round suffices for
/// resolvers that start to load at once; the second is for those that wait for something first.
const YIELDS: usize = 2;

/// The loaders of one operation, each made when its kind of key is first asked for.
pub struct Loaders {
    tx: TenantTx,
    by_key: parking_lot::Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
}

impl Loaders {
    /// Loaders that share an operation's transaction.
    #[must_use]
    pub fn new(tx: TenantTx) -> Self {
        Self {
            tx,
            by_key: parking_lot::Mutex::default(),
        }
    }

    /// The transaction.
    #[must_use]
    pub fn tx(&self) -> &TenantTx {
        &self.tx
    }

    /// Forgets what was loaded: a mutation may have changed it.
    pub fn clear(&self) {
        self.by_key.lock().clear();
    }

    /// Loads one key together with all others of its kind that are asked for meanwhile, at most
    /// once in an operation.
    pub async fn load<K: Batch>(&self, key: K) -> Result<Option<K::Value>> {
        let loader = self.of::<K>();
        // Tokio makes a task wait after some 128 locks of one turn: keys beyond them would miss the
        // batch that they belong to.
        Ok(tokio::task::unconstrained(loader.load(key)).await?)
    }

    fn of<K: Batch>(&self) -> Loader<K> {
        let mut by_key = self.by_key.lock();
        let loader = by_key.entry(TypeId::of::<K>()).or_insert_with(|| {
            let batches = Batches::<K> {
                tx: self.tx.clone(),
                key: PhantomData,
            };
            let loader: Loader<K> = cached::Loader::new(batches)
                .with_yield_count(YIELDS)
                // What an operation may load is bounded by its cost, and a split batch would make
                // its round trips depend on the number of rows.
                .with_max_batch_size(usize::MAX);
            Box::new(loader)
        });
        loader
            .downcast_ref::<Loader<K>>()
            .expect("BUG: a loader of another key")
            .clone()
    }
}
