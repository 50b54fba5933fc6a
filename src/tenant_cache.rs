//! A cache with a share for each tenant, in a bounded amount of memory.
//!
//! The invariants: **a tenant finds only what its own clients stored**, and **a tenant never uses more than its share**. A
//! tenant that stores many values displaces the values of others only until its share is full. From then on, the tenant
//! displaces only its own values.

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
    max_bytes: u64,
    state: Mutex<State<K, V>>,
}

/// A map whose hash function has a random key, because clients choose the keys and could provoke collisions.
type Ordered<K, V> = LinkedHashMap<K, V, RandomState>;

#[derive(Debug)]
struct State<K, V> {
    /// The tenants in the order of their last request. The first one is the least recent.
    tenants: Ordered<TenantId, OfTenant<K, V>>,
    bytes: u64,
}

#[derive(Debug)]
struct OfTenant<K, V> {
    /// The values in the order of their last use. The first one is the least recent.
    values: Ordered<K, Stored<V>>,
    bytes: u64,
}

#[derive(Debug)]
struct Stored<V> {
    value: V,
    bytes: u64,
}

impl<K: Eq + Hash, V: Clone> TenantCache<K, V> {
    /// Creates an empty cache of at most `max_bytes`. With 0, the cache stores nothing.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        let state = State {
            tenants: Ordered::default(),
            bytes: 0,
        };
        Self {
            max_bytes,
            state: Mutex::new(state),
        }
    }

    /// Finds a value that the tenant stored before.
    pub fn get<Q>(&self, tenant: TenantId, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut state = self.state.lock();
        let values = &mut state.tenants.to_back(&tenant)?.values;
        values.to_back(key).map(|stored| stored.value.clone())
    }

    /// Stores a value that takes this number of bytes, unless it exceeds the tenant's share. Removes the oldest values
    /// of the tenant until the rest fits into its share. Then removes values of the least recent tenants until the
    /// rest fits into the cache.
    pub fn insert(&self, tenant: TenantId, key: K, value: V, bytes: u64) {
        let share = self.max_bytes / TENANT_PART;
        if bytes > share {
            return;
        }
        // These values are dropped after the lock is released, because dropping a large value takes time.
        let mut removed = Vec::new();
        let mut state = self.state.lock();
        removed.extend(state.insert(tenant, key, Stored { value, bytes }));
        while state.bytes_of(tenant) > share {
            removed.extend(state.remove_oldest(tenant));
        }
        while state.bytes > self.max_bytes
            && let Some(oldest) = state.tenants.front().map(|(tenant, _)| *tenant)
        {
            removed.extend(state.remove_oldest(oldest));
        }
    }
}

impl<K: Eq + Hash, V> State<K, V> {
    fn bytes_of(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |of| of.bytes)
    }

    /// Stores a value as the newest of its tenant, and the tenant as the newest of all.
    fn insert(&mut self, tenant: TenantId, key: K, stored: Stored<V>) -> Option<Stored<V>> {
        if self.tenants.to_back(&tenant).is_none() {
            let of_tenant = OfTenant {
                values: Ordered::default(),
                bytes: 0,
            };
            self.tenants.insert(tenant, of_tenant);
        }
        let of_tenant = self.tenants.get_mut(&tenant)?;
        of_tenant.bytes += stored.bytes;
        self.bytes += stored.bytes;
        let replaced = of_tenant.values.insert(key, stored)?;
        of_tenant.bytes -= replaced.bytes;
        self.bytes -= replaced.bytes;
        Some(replaced)
    }

    /// Removes the oldest value of a tenant. Also removes the tenant if that was its only value.
    fn remove_oldest(&mut self, tenant: TenantId) -> Option<Stored<V>> {
        let of_tenant = self.tenants.get_mut(&tenant)?;
        let (_, oldest) = of_tenant.values.pop_front()?;
        of_tenant.bytes -= oldest.bytes;
        self.bytes -= oldest.bytes;
        if of_tenant.values.is_empty() {
            self.tenants.remove(&tenant);
        }
        Some(oldest)
    }
}

#[cfg(test)]
impl<K: Eq + Hash, V> TenantCache<K, V> {
    /// The number of values of a tenant.
    pub fn count(&self, tenant: TenantId) -> usize {
        let state = self.state.lock();
        state.tenants.get(&tenant).map_or(0, |of| of.values.len())
    }

    /// The bytes of all values, added up from the entries.
    pub fn bytes(&self) -> u64 {
        let state = self.state.lock();
        let of_tenants = state.tenants.values();
        let sum = of_tenants
            .flat_map(|of| of.values.values())
            .map(|stored| stored.bytes)
            .sum();
        assert_eq!(state.bytes, sum, "the sum is kept up to date");
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
            assert!(cache.bytes() <= 8_000);
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
        assert_eq!((cache.get(tenants[0], &1), cache.bytes()), (Some(2), 7_500));
    }
}
