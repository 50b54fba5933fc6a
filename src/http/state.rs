//! The state that all requests share.

use std::{ops::Deref, sync::Arc, time::Duration};

use super::{
    budgets::TenantBudgets,
    concurrency::ConcurrencyLimiter,
    explorer::Explorer,
    origins::Origins,
    persisted::{ManifestError, PersistedDocuments},
    request::MAX_BODY_BYTES,
};
use crate::{
    api::{Api, ApiSettings, guard::Limits},
    audit::sealing::Sealer,
    auth::{jwt::Tokens, membership::Memberships},
    config::{MemorySettings, ServiceSettings},
    db::{TenantDb, sign_in::SignInDb},
    usage::tenant_bytes::{Shares, TenantBytes},
};

/// The memory for bodies that are not parsed yet: four of the longest bodies of a user, and eight of a tenant.
const REQUEST_BYTES: Shares = Shares {
    user: 4 * MAX_BODY_BYTES,
    tenant: 8 * MAX_BODY_BYTES,
    total: 64 * MAX_BODY_BYTES,
};

/// The memory for fetched long columns. One operation may use the share of its tenant, which is half of the total.
fn fetched_bytes(max: u64) -> Shares {
    Shares {
        user: max,
        tenant: max,
        total: max.saturating_mul(2),
    }
}

/// The memory for responses that clients have not received: one of the longest for a user, and two for a tenant.
fn response_bytes(max: u64) -> Shares {
    Shares {
        user: max,
        tenant: max.saturating_mul(2),
        total: max.saturating_mul(8),
    }
}

/// The optional parts of the service.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one turns a part of its own on"
)]
pub struct Features {
    /// Allows introspection queries.
    pub introspection: bool,
    /// Serves the explorer at `/graphiql` and redirects `/` to it.
    pub explorer: bool,
    /// Lists the SQL statements of an operation in the response if the request has the header
    /// `palisade-trace`, and allows pages that this machine serves to call the API.
    pub development: bool,
    /// Serves `/dev`, which lists the users and issues tokens for them. Only `palisade dev` turns this on.
    pub people: bool,
}

/// The service. Its clones share one state.
#[derive(Clone)]
pub struct Service {
    inner: Arc<ServiceState>,
}

/// The state of the service, which its handlers share.
pub struct ServiceState {
    pub(super) api: Api,
    pub(super) db: TenantDb,
    pub(super) directory: Option<SignInDb>,
    pub(super) explorer: Option<Explorer>,
    pub(super) sealer: Sealer,
    pub(super) tokens: Tokens,
    pub(super) memberships: Memberships,
    pub(super) origins: Origins,
    pub(super) documents: PersistedDocuments,
    pub(super) budgets: TenantBudgets,
    pub(super) limiter: ConcurrencyLimiter,
    /// The memory for bodies that are not parsed yet.
    pub(super) request_bytes: TenantBytes,
    /// The memory for the long columns that running operations have fetched.
    pub(super) fetched_bytes: TenantBytes,
    /// The memory for long responses that clients have not received.
    pub(super) response_bytes: TenantBytes,
    pub(super) max_fetched_bytes: u64,
    pub(super) max_response_bytes: u64,
    /// The longest wait for a slot of the limiter.
    pub(super) slot_timeout: Duration,
    /// The maximum number of operations in one request; 0 if a request must not be a list.
    pub(super) max_batch: u32,
    pub(super) operation_timeout: Duration,
    pub(super) receive_timeout: Duration,
    pub(super) features: Features,
}

impl Deref for Service {
    type Target = ServiceState;

    fn deref(&self) -> &ServiceState {
        &self.inner
    }
}

impl Service {
    /// Creates the service over its databases. Must be called in a Tokio runtime, because it starts the task that seals
    /// the audit log.
    pub fn new(
        db: TenantDb,
        directory: Option<SignInDb>,
        tokens: Tokens,
        settings: &ServiceSettings,
        features: Features,
    ) -> Result<Self, ManifestError> {
        let traffic = &settings.traffic;
        let documents = PersistedDocuments::new(traffic.apq_bytes);
        let documents = match &traffic.trusted_documents {
            Some(path) => documents.trust(path, traffic.only_trusted)?,
            None => documents,
        };
        let limits = Limits {
            cost: settings.max_cost,
            ..Limits::default()
        };
        let sealer = Sealer::start(db.clone());
        let MemorySettings {
            max_fetched_bytes,
            max_response_bytes,
        } = settings.memory;
        let api = Api::new(
            db.clone(),
            directory.clone(),
            sealer.clone(),
            ApiSettings {
                limits,
                document_cache_bytes: settings.document_cache_bytes,
                max_response_bytes,
                introspection: features.introspection,
            },
        );
        let pool_size = settings.pool.size;
        let limiter = ConcurrencyLimiter::new(
            // Twice the connections: one operation can write its response while another reads from the
            // database.
            pool_size.saturating_mul(2),
            traffic
                .tenant_slots
                .unwrap_or_else(|| default_tenant_slots(pool_size)),
            traffic.tenant_queue,
        );
        let state = ServiceState {
            api,
            memberships: Memberships::new(db.clone()),
            db,
            directory,
            explorer: features.explorer.then(|| Explorer::new(features)),
            sealer,
            tokens,
            origins: Origins {
                allowed: traffic.cors_origins.clone(),
                loopback: features.development,
            },
            documents,
            budgets: TenantBudgets::new(traffic.tenant_budget, traffic.tenant_requests),
            limiter,
            request_bytes: TenantBytes::new(REQUEST_BYTES),
            fetched_bytes: TenantBytes::new(fetched_bytes(max_fetched_bytes)),
            response_bytes: TenantBytes::new(response_bytes(max_response_bytes)),
            max_fetched_bytes,
            max_response_bytes,
            slot_timeout: settings.pool.acquire_timeout,
            max_batch: traffic.max_batch,
            operation_timeout: settings.operation_timeout,
            receive_timeout: settings.receive_timeout,
            features,
        };
        Ok(Self {
            inner: Arc::new(state),
        })
    }
}

/// The default number of slots of one tenant: a quarter of the pool, which is about the number of the
/// database's cores if the pool has the recommended size. One tenant then fetches as many rows per
/// second as with all slots, and the other tenants wait less (measured in `docs/operations.md`).
fn default_tenant_slots(pool_size: u32) -> u32 {
    (pool_size / 4).max(2)
}
