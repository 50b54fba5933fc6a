//! Loaders: the keys of one level of a query become one statement.
//!
//! The invariant: **the number of statements does not depend on the number of rows.** Each type of
//! key implements its own loading, so there is no registry. The engine is the `dataloader` crate.
//! The engine waits by yielding, never by a timer, and runs inside the operation's own task. So a batch is
//! complete when it starts: every resolver of the level was polled before.

use std::{
    any::{Any, TypeId},
    collections::{HashMap, HashSet},
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
    entity::{Entity, NeededColumns, fetch_entities, read_whole},
    filter,
    page::List,
    shape::{Shape, arguments},
    statement::Statement,
};
use crate::{
    error::{Error, Result},
    ids::EntityId,
};

/// A key of a loader. `load` runs one statement for all keys of a level.
pub trait LoadKey: Clone + Debug + Eq + Hash + Send + Sync + 'static {
    /// The value that belongs to a key.
    type Value: Clone + Send + Sync + 'static;

    /// Loads all keys, with the columns that the operation needs. A key that is missing in the result has no
    /// value.
    fn load(
        tx: &TenantTx,
        needed: &NeededColumns,
        keys: &[Self],
    ) -> impl Future<Output = Result<LoadedMap<Self>>> + Send;
}

/// A map of the keys and rows of one operation. Clients choose the keys, so the hash function has a random seed.
pub type KeyMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The values that were loaded, by their keys.
pub type LoadedMap<K> = KeyMap<K, <K as LoadKey>::Value>;

/// The key of the row with this id.
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

impl<E: Entity + Debug> LoadKey for ById<E> {
    type Value = Arc<E>;

    async fn load(tx: &TenantTx, needed: &NeededColumns, keys: &[Self]) -> Result<LoadedMap<Self>> {
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0.uuid()).collect();
        let columns = needed.entity::<E>().columns;
        let shape = Shape::ById {
            table: E::TABLE,
            columns,
        };
        let query = || {
            Query::select()
                .columns(columns.names::<E>())
                .from(E::TABLE)
                .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
                .and_where(filter::id_in(Vec::new()))
                .take()
        };
        let arguments = arguments![tx.tenant_uuid(), ids];
        let statement = shape.statement(arguments, query);
        let mut found = LoadedMap::<Self>::default();
        fetch_entities::<E>(tx, statement, columns, |_, entity| {
            found.insert(Self(entity.id()), entity);
            Ok(())
        })
        .await?;
        Ok(found)
    }
}

/// Returns the row with this id, with all its columns.
pub async fn find_whole<E: Entity>(tx: &TenantTx, id: E::Id) -> Result<Option<E>> {
    let query = Query::select()
        .columns(E::COLUMNS.iter().copied())
        .from(E::TABLE)
        .and_where(Expr::col(E::TENANT_COLUMN).eq(tx.tenant_uuid()))
        .and_where(Expr::col("id").eq(id.uuid()))
        .take();
    let row = tx.fetch_optional(Statement::build(&query)).await?;
    row.map(|row| read_whole(tx, &row)).transpose()
}

/// The result of a load. Errors are values, and a missing key is `None`.
type LoadResult<K> = Result<Option<<K as LoadKey>::Value>, Arc<Error>>;

/// Loads the batches of one type of key.
struct BatchLoader<K> {
    tx: TenantTx,
    needed: NeededColumns,
    key: PhantomData<fn() -> K>,
}

impl<K: LoadKey> BatchFn<K, LoadResult<K>> for BatchLoader<K> {
    async fn load(&mut self, keys: &[K]) -> HashMap<K, LoadResult<K>> {
        // Boxed, because the future of every field that loads contains this future, which is large: it holds
        // the statement while it is built and sent.
        match Box::pin(K::load(&self.tx, &self.needed, keys)).await {
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

type Loader<K> = cached::Loader<K, LoadResult<K>, BatchLoader<K>, KeyMap<K, LoadResult<K>>>;

/// How often a load yields to the other resolvers of its level. One yield is enough for resolvers that
/// load immediately; the second is for those that first wait for something else.
const YIELD_COUNT: usize = 2;

/// The loaders of one operation. Each is created when a key of its type is first loaded.
pub struct Loaders {
    tx: TenantTx,
    needed: NeededColumns,
    /// The different lists of the operation.
    lists: parking_lot::Mutex<HashSet<Arc<List>, foldhash::fast::RandomState>>,
    by_key: parking_lot::Mutex<KeyMap<TypeId, Box<dyn Any + Send>>>,
}

impl Loaders {
    /// Loaders for the transaction of an operation that needs these columns.
    #[must_use]
    pub fn new(tx: TenantTx, needed: NeededColumns) -> Self {
        Self {
            tx,
            needed,
            lists: parking_lot::Mutex::default(),
            by_key: parking_lot::Mutex::default(),
        }
    }

    /// The operation's transaction.
    #[must_use]
    pub fn tx(&self) -> &TenantTx {
        &self.tx
    }

    /// Drops every loaded value, because a mutation may have changed it.
    pub fn clear(&self) {
        self.by_key.lock().clear();
    }

    /// Returns the list of the operation that is equal to this one. So two lists of an operation are equal only if they
    /// have the same address, and comparing two keys never reads their filters.
    pub fn share(&self, list: List) -> Arc<List> {
        let mut lists = self.lists.lock();
        if let Some(known) = lists.get(&list) {
            return Arc::clone(known);
        }
        let list = Arc::new(list);
        lists.insert(Arc::clone(&list));
        list
    }

    /// Loads a key, together with all others of its type that the same level loads. A key is loaded at
    /// most once per operation.
    pub async fn load<K: LoadKey>(&self, key: K) -> Result<Option<K::Value>> {
        let loader = self.loader::<K>();
        // Without `unconstrained`, Tokio would suspend the task after about 128 lock operations in one poll,
        // and the remaining keys would miss the batch.
        Ok(tokio::task::unconstrained(loader.load(key)).await?)
    }

    /// Keeps the rows of a list for later loads by id, if the operation loads rows by id.
    pub async fn keep<E: Entity + Debug>(&self, rows: &[Arc<E>]) {
        if !self.needed.entity::<E>().loads_by_id {
            return;
        }
        let rows = rows
            .iter()
            .map(|row| (ById::<E>(row.id()), Ok(Some(Arc::clone(row)))));
        let loader = self.loader::<ById<E>>();
        // As in `load`: a list whose turn ends here would miss its batch.
        tokio::task::unconstrained(loader.prime_many(rows)).await;
    }

    fn loader<K: LoadKey>(&self) -> Loader<K> {
        let mut by_key = self.by_key.lock();
        let loader = by_key.entry(TypeId::of::<K>()).or_insert_with(|| {
            let batches = BatchLoader::<K> {
                tx: self.tx.clone(),
                needed: self.needed.clone(),
                key: PhantomData,
            };
            let loader: Loader<K> = cached::Loader::with_cache(batches, KeyMap::default())
                .with_yield_count(YIELD_COUNT)
                // A batch is never split: otherwise, the number of round trips would depend on the number of
                // rows. The maximum cost of an operation limits the size of a batch.
                .with_max_batch_size(usize::MAX);
            Box::new(loader)
        });
        loader
            .downcast_ref::<Loader<K>>()
            .expect("BUG: a loader of another type of key")
            .clone()
    }
}
