//! A cache of bounded size with a share for each tenant.
//!
//! The invariants: **a tenant finds only what its own clients stored**, and **a tenant never uses more than its share**. A
//! tenant that stores many values displaces the values of others only until its share is full. From then on, the tenant
//! displaces only its own values.
//!
//! The unit of a size is up to the cache: bytes if the values differ in size, otherwise entries.

use std::{
    borrow::Borrow,
    hash::{Hash, RandomState},
};

use hashlink::LinkedHashMap;
use parking_lot::Mutex;

use crate::ids::TenantId;

/// The divisor for the share of a tenant: a tenant may use at most an eighth of the cache.
const TENANT_PART: u64 = 8;

/// A cache with a share for each tenant. Reading a value clones it, so the values are usually `Arc`s.
#[derive(Debug)]
pub struct TenantCache<K, V> {
    max_size: u64,
    state: Mutex<State<K, V>>,
}

/// A map whose hash function has a random key, because clients choose the keys and could provoke collisions.
type Ordered<K, V> = LinkedHashMap<K, V, RandomState>;

#[derive(Debug)]
struct State<K, V> {
    /// The tenants in the order of their last request. The first one is the least recent.
    tenants: Ordered<TenantId, OfTenant<K, V>>,
    size: u64,
}

#[derive(Debug)]
struct OfTenant<K, V> {
    /// The values in the order of their last use. The first one is the least recent.
    values: Ordered<K, Stored<V>>,
    size: u64,
}

#[derive(Debug)]
struct Stored<V> {
    value: V,
    size: u64,
}

impl<K: Eq + Hash, V: Clone> TenantCache<K, V> {
    /// Creates an empty cache of at most this size. With 0, the cache stores nothing.
    #[must_use]
    pub fn new(max_size: u64) -> Self {
        let state = State {
            tenants: Ordered::default(),
            size: 0,
        };
        Self {
            max_size,
            state: Mutex::new(state),
        }
    }

    /// Finds a value that the tenant stored before.
    pub fn get<Q>(&self, tenant: TenantId, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.state.lock().get(tenant, key).cloned()
    }

    /// Stores a value of this size, unless it exceeds the tenant's share. Removes the oldest values of the tenant until
    /// the rest fits into its share. Then removes values of the least recent tenants until the rest fits into the cache.
    /// Returns the values that it removed for this reason.
    pub fn insert(&self, tenant: TenantId, key: K, value: V, size: u64) -> Vec<(K, V)> {
        if size > self.share() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let replaced = state.insert(tenant, key, Stored { value, size });
        let removed = self.make_room(&mut state, tenant);
        // Dropping a large value takes time.
        drop(state);
        drop(replaced);
        removed
    }

    /// Returns the tenant's value if there is one and `is_current` accepts it. Otherwise stores the value that `create`
    /// returns, and also returns the values that were removed for it, like [`TenantCache::insert`]. Both functions run
    /// while the cache is locked.
    pub fn get_or_insert_with(
        &self,
        tenant: TenantId,
        key: K,
        size: u64,
        is_current: impl FnOnce(&V) -> bool,
        create: impl FnOnce() -> V,
    ) -> (V, Vec<(K, V)>) {
        let mut state = self.state.lock();
        if let Some(value) = state.get(tenant, &key)
            && is_current(value)
        {
            return (value.clone(), Vec::new());
        }
        let value = create();
        if size > self.share() {
            return (value, Vec::new());
        }
        let stored = Stored {
            value: value.clone(),
            size,
        };
        let replaced = state.insert(tenant, key, stored);
        let removed = self.make_room(&mut state, tenant);
        drop(state);
        drop(replaced);
        (value, removed)
    }

    /// Removes a value of the tenant.
    pub fn remove<Q>(&self, tenant: TenantId, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.state.lock().remove(tenant, key)
    }

    /// The maximum size of the values of a tenant.
    fn share(&self) -> u64 {
        self.max_size / TENANT_PART
    }

    /// Removes values until those of the tenant fit into its share, and all values into the cache.
    fn make_room(&self, state: &mut State<K, V>, tenant: TenantId) -> Vec<(K, V)> {
        let mut removed = Vec::new();
        while state.size_of(tenant) > self.share() {
            removed.extend(state.remove_oldest(tenant));
        }
        while state.size > self.max_size
            && let Some(oldest) = state.tenants.front().map(|(tenant, _)| *tenant)
        {
            removed.extend(state.remove_oldest(oldest));
        }
        removed
    }
}

impl<K: Eq + Hash, V> State<K, V> {
    fn size_of(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |of| of.size)
    }

    /// Finds a value, and makes it the newest of its tenant, and the tenant the newest of all.
    fn get<Q>(&mut self, tenant: TenantId, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let values = &mut self.tenants.to_back(&tenant)?.values;
        values.to_back(key).map(|stored| &stored.value)
    }

    /// Stores a value as the newest of its tenant, and the tenant as the newest of all. Returns the previous value.
    fn insert(&mut self, tenant: TenantId, key: K, stored: Stored<V>) -> Option<Stored<V>> {
        if self.tenants.to_back(&tenant).is_none() {
            let of_tenant = OfTenant {
                values: Ordered::default(),
                size: 0,
            };
            self.tenants.insert(tenant, of_tenant);
        }
        let of_tenant = self.tenants.get_mut(&tenant)?;
        of_tenant.size += stored.size;
        self.size += stored.size;
        let replaced = of_tenant.values.insert(key, stored)?;
        of_tenant.size -= replaced.size;
        self.size -= replaced.size;
        Some(replaced)
    }

    fn remove<Q>(&mut self, tenant: TenantId, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let of_tenant = self.tenants.get_mut(&tenant)?;
        let removed = of_tenant.values.remove(key)?;
        self.subtract(tenant, removed.size);
        Some(removed.value)
    }

    /// Removes the oldest value of a tenant.
    fn remove_oldest(&mut self, tenant: TenantId) -> Option<(K, V)> {
        let of_tenant = self.tenants.get_mut(&tenant)?;
        let (key, oldest) = of_tenant.values.pop_front()?;
        self.subtract(tenant, oldest.size);
        Some((key, oldest.value))
    }

    /// Subtracts the size of a removed value, and removes the tenant if that was its only value.
    fn subtract(&mut self, tenant: TenantId, size: u64) {
        self.size -= size;
        if let Some(of_tenant) = self.tenants.get_mut(&tenant) {
            of_tenant.size -= size;
            if of_tenant.values.is_empty() {
                self.tenants.remove(&tenant);
            }
        }
    }
}

#[cfg(test)]
impl<K: Eq + Hash, V> TenantCache<K, V> {
    /// The number of values of a tenant.
    pub fn count(&self, tenant: TenantId) -> usize {
        let state = self.state.lock();
        state.tenants.get(&tenant).map_or(0, |of| of.values.len())
    }

    /// The size of all values, added up from the entries.
    pub fn size(&self) -> u64 {
        let state = self.state.lock();
        let of_tenants = state.tenants.values();
        let sum = of_tenants
            .flat_map(|of| of.values.values())
            .map(|stored| stored.size)
            .sum();
        assert_eq!(state.size, sum, "the sum is kept up to date");
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_displaces_others_only_until_its_share_is_full() {
        let cache = TenantCache::<u32, u32>::new(8_000);
        let tenants: Vec<TenantId> = (0..10).map(|_| TenantId::generate()).collect();
        for tenant in &tenants[..7] {
            cache.insert(*tenant, 1, 1, 1_000);
        }
        let noisy = tenants[7];
        for key in 0..1_000 {
            cache.insert(noisy, key, key, 100);
            assert!(cache.size() <= 8_000);
            assert!(cache.count(noisy) <= 10);
        }
        assert_eq!(cache.get(noisy, &999), Some(999));
        assert_eq!(cache.get(noisy, &989), None);
        for tenant in &tenants[..7] {
            assert_eq!(cache.get(*tenant, &1), Some(1));
        }
        // The ninth tenant displaces the values of the tenant whose last request is the oldest.
        cache.insert(tenants[8], 1, 1, 1_000);
        assert_eq!(cache.count(noisy), 0);
        assert_eq!(cache.get(tenants[0], &1), Some(1));
        // A value that exceeds the share is not stored.
        cache.insert(tenants[9], 1, 1, 1_001);
        assert_eq!(cache.count(tenants[9]), 0);
        // A tenant finds only its own values, and a new value replaces the one with the same key.
        assert_eq!(cache.get(tenants[9], &1), None);
        cache.insert(tenants[0], 1, 2, 500);
        assert_eq!((cache.get(tenants[0], &1), cache.size()), (Some(2), 7_500));
    }
    #[test]
    fn what_displaces_other_values_returns_them() {
        let cache = TenantCache::<u32, u32>::new(16);
        let tenant = TenantId::generate();
        assert!(cache.insert(tenant, 1, 1, 1).is_empty());
        assert!(cache.insert(tenant, 1, 2, 1).is_empty(), "it was replaced");
        assert!(cache.insert(tenant, 2, 2, 1).is_empty());
        assert_eq!(cache.insert(tenant, 3, 3, 1), [(1, 2)]);
        // An entry that is not current is replaced, and one that was used is not the oldest.
        let read = |key, is_current| cache.get_or_insert_with(tenant, key, 1, |_| is_current, || 9);
        assert_eq!(read(2, true), (2, Vec::new()));
        assert_eq!(read(2, false), (9, Vec::new()));
        assert_eq!(read(4, true), (9, vec![(3, 3)]));
        assert_eq!((cache.remove(tenant, &2), cache.size()), (Some(9), 1));
        cache.remove(tenant, &4);
        assert_eq!((cache.count(tenant), cache.size()), (0, 0));
    }
}
