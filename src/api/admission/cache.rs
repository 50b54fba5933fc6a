//! The admitted documents of each tenant, in a bounded amount of memory.
//!
//! The invariants: **a tenant finds only documents that its own clients sent**, and **a tenant never uses more than its
//! share**. A tenant that sends many documents displaces the documents of others only until its share is full. From
//! then on, the tenant displaces only its own documents.

use std::{hash::RandomState, sync::Arc};

use hashlink::LinkedHashMap;
use parking_lot::Mutex;

use super::{AdmittedDocument, DocumentKey, size};
use crate::ids::TenantId;

/// The divisor for the share of a tenant: a tenant may use at most an eighth of the cache.
const TENANT_PART: u64 = 8;

/// The cache of admitted documents.
#[derive(Debug)]
pub struct DocumentCache {
    max_bytes: u64,
    state: Mutex<State>,
}

/// A map whose hash function has a random key, because clients choose the documents and could provoke collisions.
type Ordered<K, V> = LinkedHashMap<K, V, RandomState>;

#[derive(Debug, Default)]
struct State {
    /// The tenants in the order of their last request. The first one is the least recent.
    tenants: Ordered<TenantId, TenantDocuments>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct TenantDocuments {
    /// The documents in the order of their last use. The first one is the least recent.
    documents: Ordered<Arc<DocumentKey>, StoredDocument>,
    bytes: u64,
}

#[derive(Debug)]
struct StoredDocument {
    document: Arc<AdmittedDocument>,
    bytes: u64,
}

impl DocumentCache {
    /// Creates an empty cache of at most `max_bytes`. With 0, the cache stores nothing.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            state: Mutex::default(),
        }
    }

    /// Finds a document that the tenant has sent before.
    pub fn get(&self, tenant: TenantId, key: &DocumentKey) -> Option<Arc<AdmittedDocument>> {
        let mut state = self.state.lock();
        let documents = &mut state.tenants.to_back(&tenant)?.documents;
        documents
            .to_back(key)
            .map(|stored| Arc::clone(&stored.document))
    }

    /// Stores a document that has passed validation, unless it exceeds the tenant's share. Removes the oldest documents
    /// of the tenant until the rest fits into its share. Then removes documents of the least recent tenants until the
    /// rest fits into the cache.
    pub fn insert(
        &self,
        tenant: TenantId,
        key: &Arc<DocumentKey>,
        document: &Arc<AdmittedDocument>,
    ) {
        let share = self.max_bytes / TENANT_PART;
        let bytes = size::entry_bytes(key, document);
        if bytes > share {
            return;
        }
        let stored = StoredDocument {
            document: Arc::clone(document),
            bytes,
        };
        // These documents are dropped after the lock is released, because dropping a large tree takes time.
        let mut removed = Vec::new();
        let mut state = self.state.lock();
        removed.extend(state.insert(tenant, Arc::clone(key), stored));
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

impl State {
    fn bytes_of(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |of| of.bytes)
    }

    /// Stores a document as the newest of its tenant, and the tenant as the newest of all.
    fn insert(
        &mut self,
        tenant: TenantId,
        key: Arc<DocumentKey>,
        stored: StoredDocument,
    ) -> Option<StoredDocument> {
        if self.tenants.to_back(&tenant).is_none() {
            self.tenants.insert(tenant, TenantDocuments::default());
        }
        let of_tenant = self.tenants.get_mut(&tenant)?;
        of_tenant.bytes += stored.bytes;
        self.bytes += stored.bytes;
        let replaced = of_tenant.documents.insert(key, stored)?;
        of_tenant.bytes -= replaced.bytes;
        self.bytes -= replaced.bytes;
        Some(replaced)
    }

    /// Removes the oldest document of a tenant. Also removes the tenant if that was its only document.
    fn remove_oldest(&mut self, tenant: TenantId) -> Option<StoredDocument> {
        let of_tenant = self.tenants.get_mut(&tenant)?;
        let (_, oldest) = of_tenant.documents.pop_front()?;
        of_tenant.bytes -= oldest.bytes;
        self.bytes -= oldest.bytes;
        if of_tenant.documents.is_empty() {
            self.tenants.remove(&tenant);
        }
        Some(oldest)
    }
}

#[cfg(test)]
impl DocumentCache {
    /// The number of documents of a tenant.
    pub fn count(&self, tenant: TenantId) -> usize {
        let state = self.state.lock();
        state
            .tenants
            .get(&tenant)
            .map_or(0, |of| of.documents.len())
    }

    /// The bytes of all documents, added up from the entries.
    pub fn bytes(&self) -> u64 {
        let state = self.state.lock();
        let of_tenants = state.tenants.values();
        let sum = of_tenants
            .flat_map(|of| of.documents.values())
            .map(|stored| stored.bytes)
            .sum();
        assert_eq!(state.bytes, sum, "the sum is kept up to date");
        sum
    }
}
