//! The open connections of a listener, and the shares of client addresses and tenants.
//!
//! The invariant: **only connections of authenticated clients that are busy keep a client out.** A connection is idle if
//! it waits for a request: its client has sent no complete headers yet, or has received the whole last response. If a
//! share is used up, the service closes a connection of that share: the oldest idle one of an unauthenticated client, or
//! else the one that has been idle for the longest time, or else the oldest one of an unauthenticated client, which
//! could otherwise stay busy by not receiving its responses. If there is none, the service rejects the new connection or
//! request at once. Nothing waits for a free connection.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use foldhash::HashMap;
use hashlink::LinkedHashSet;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::loopback::is_loopback_address;
use crate::{config::ServiceSettings, ids::TenantId, metrics};

/// The divisor for the default share of an address or a tenant: a quarter of the connections.
const SHARE_PART: u32 = 4;
/// The maximum number of connections to the listener of the health checks.
const MAX_HEALTH_CONNECTIONS: usize = 64;
/// The mask of the prefix that an IPv6 client owns, 64 bits: it can connect from each address with this prefix.
const CLIENT_PREFIX: u128 = !(u64::MAX as u128);

/// The maximum numbers of open connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    all: usize,
    address: usize,
    loopback_address: usize,
    tenant: usize,
}

impl ConnectionLimits {
    /// The limits of the listener of the API.
    pub fn of_api(settings: &ServiceSettings) -> Self {
        let share = (settings.max_connections / SHARE_PART).max(1);
        let limit = |given: Option<u32>, default: usize| match given {
            Some(0) => usize::MAX,
            Some(given) => given as usize,
            None => default,
        };
        let connections = &settings.connections;
        let per_address = connections.max_connections_per_address;
        Self {
            all: settings.max_connections as usize,
            address: limit(per_address, share as usize),
            // A proxy on this machine connects from a loopback address for all of its clients.
            loopback_address: limit(per_address, usize::MAX),
            tenant: limit(connections.max_connections_per_tenant, share as usize),
        }
    }

    /// The limits of the listener of the health checks, which has its own connections.
    pub const fn of_health_checks() -> Self {
        Self {
            all: MAX_HEALTH_CONNECTIONS,
            address: usize::MAX,
            loopback_address: usize::MAX,
            tenant: usize::MAX,
        }
    }

    fn of_address(&self, address: ClientAddress) -> usize {
        if is_loopback_address(address.0) {
            self.loopback_address
        } else {
            self.address
        }
    }
}

/// All connections of a share are busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllBusy;

/// The address by which the connections of a client are counted: an IPv4 address, or the /64 network of an IPv6
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClientAddress(IpAddr);

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                Ipv6Addr::from_bits(address.to_bits() & CLIENT_PREFIX).into()
            }
            address => address,
        })
    }
}

type ConnectionId = u64;

/// The open connections of a listener.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    state: Mutex<State>,
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            state: Mutex::default(),
        })
    }

    /// Adds a connection of a client. The receiver completes when the service must close the connection.
    pub fn open(
        self: &Arc<Self>,
        address: IpAddr,
    ) -> Result<(OpenConnection, oneshot::Receiver<()>), AllBusy> {
        let address = ClientAddress::from(address);
        let mut state = self.state.lock();
        let is_admitted = state.make_room_for_address(address, self.limits.of_address(address))
            && state.make_room(self.limits.all);
        if !is_admitted {
            metrics::CONNECTIONS_REJECTED.increment();
            return Err(AllBusy);
        }
        let (close, closed) = oneshot::channel();
        let id = state.insert(address, close);
        let handle = ConnectionHandle(Arc::new(Connection {
            id,
            connections: Arc::clone(self),
            requests: AtomicUsize::new(0),
            is_idle: AtomicBool::new(true),
        }));
        Ok((OpenConnection(handle), closed))
    }
}

#[derive(Debug, Default)]
struct State {
    last_id: ConnectionId,
    connections: HashMap<ConnectionId, Entry>,
    all: ConnectionGroup,
    addresses: HashMap<ClientAddress, ConnectionGroup>,
    tenants: HashMap<TenantId, ConnectionGroup>,
}

#[derive(Debug)]
struct Entry {
    address: ClientAddress,
    /// The tenant of the last request.
    tenant: Option<TenantId>,
    /// Dropped with the entry, which completes the receiver.
    _close: oneshot::Sender<()>,
}

/// The connections of one address, of one tenant or of all clients.
#[derive(Debug, Default)]
struct ConnectionGroup {
    count: usize,
    /// The idle connections. The first one has been idle for the longest time.
    idle: LinkedHashSet<ConnectionId>,
    /// The connections without a request of an authenticated client, in the order of their opening.
    unauthenticated: LinkedHashSet<ConnectionId>,
}

impl State {
    fn insert(&mut self, address: ClientAddress, close: oneshot::Sender<()>) -> ConnectionId {
        self.last_id += 1;
        let id = self.last_id;
        let entry = Entry {
            address,
            tenant: None,
            _close: close,
        };
        self.connections.insert(id, entry);
        let of_address = self.addresses.entry(address).or_default();
        for group in [&mut self.all, of_address] {
            group.count += 1;
            group.idle.insert(id);
            group.unauthenticated.insert(id);
        }
        id
    }

    /// Removes a connection. If the connection is still open, its task then closes it.
    fn remove(&mut self, id: ConnectionId) {
        let Some(entry) = self.connections.remove(&id) else {
            return;
        };
        self.all.remove(id);
        remove_from(&mut self.addresses, &entry.address, id);
        if let Some(tenant) = entry.tenant {
            remove_from(&mut self.tenants, &tenant, id);
        }
    }

    fn set_idle(&mut self, id: ConnectionId, is_idle: bool) {
        let Some(entry) = self.connections.get(&id) else {
            return;
        };
        let of_address = self.addresses.get_mut(&entry.address);
        let of_tenant = entry
            .tenant
            .and_then(|tenant| self.tenants.get_mut(&tenant));
        for group in [Some(&mut self.all), of_address, of_tenant]
            .into_iter()
            .flatten()
        {
            if is_idle {
                group.idle.insert(id);
            } else {
                group.idle.remove(&id);
            }
        }
    }

    /// Counts a busy connection as one of the tenant. It may have been one of another tenant before: a proxy sends
    /// requests of several tenants over one connection.
    fn assign(&mut self, id: ConnectionId, tenant: TenantId, limit: usize) -> Result<(), AllBusy> {
        let Some(entry) = self.connections.get(&id) else {
            // The service is already closing the connection.
            return Ok(());
        };
        let previous = entry.tenant;
        if previous == Some(tenant) {
            return Ok(());
        }
        let group = self.tenants.get(&tenant);
        if !self.make_room_in(group.map(ConnectionGroup::usage), limit) {
            return Err(AllBusy);
        }
        if let Some(previous) = previous {
            remove_from(&mut self.tenants, &previous, id);
        }
        self.tenants.entry(tenant).or_default().count += 1;
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.tenant = Some(tenant);
            self.all.unauthenticated.remove(&id);
            if let Some(of_address) = self.addresses.get_mut(&entry.address) {
                of_address.unauthenticated.remove(&id);
            }
        }
        Ok(())
    }

    fn make_room(&mut self, limit: usize) -> bool {
        self.make_room_in(Some(self.all.usage()), limit)
    }

    fn make_room_for_address(&mut self, address: ClientAddress, limit: usize) -> bool {
        let group = self.addresses.get(&address);
        self.make_room_in(group.map(ConnectionGroup::usage), limit)
    }

    /// Makes room for one more connection in a group: removes one of its connections if the share is used up. Returns
    /// whether there is room.
    fn make_room_in(&mut self, usage: Option<(usize, Option<ConnectionId>)>, limit: usize) -> bool {
        match usage {
            Some((count, displaceable)) if count >= limit => {
                let Some(id) = displaceable else {
                    return false;
                };
                self.remove(id);
                metrics::CONNECTIONS_DISPLACED.increment();
                true
            }
            _ => true,
        }
    }
}

impl ConnectionGroup {
    /// The number of connections, and the one that a new connection displaces: the oldest idle one of an unauthenticated
    /// client, or else the longest idle one, or else the oldest one of an unauthenticated client.
    fn usage(&self) -> (usize, Option<ConnectionId>) {
        let mut unauthenticated = self.unauthenticated.iter();
        let displaceable = unauthenticated
            .find(|id| self.idle.contains(*id))
            .or_else(|| self.idle.front())
            .or_else(|| self.unauthenticated.front());
        (self.count, displaceable.copied())
    }

    fn remove(&mut self, id: ConnectionId) {
        self.count -= 1;
        self.idle.remove(&id);
        self.unauthenticated.remove(&id);
    }
}

/// Removes a connection from its group, and the group if that was its last connection.
fn remove_from<K: Eq + Hash>(groups: &mut HashMap<K, ConnectionGroup>, key: &K, id: ConnectionId) {
    if let Some(group) = groups.get_mut(key) {
        group.remove(id);
        if group.count == 0 {
            groups.remove(key);
        }
    }
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    connections: Arc<Connections>,
    /// The number of requests whose response is not complete: 0 or 1.
    requests: AtomicUsize,
    is_idle: AtomicBool,
}

impl Connection {
    fn set_idle(&self, is_idle: bool) {
        // One task uses a connection, so no other thread changes the value in between.
        if self.is_idle.swap(is_idle, Ordering::Relaxed) != is_idle {
            let mut state = self.connections.state.lock();
            state.set_idle(self.id, is_idle);
        }
    }
}

/// The connection of a request. Each request has it as an extension.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(Arc<Connection>);

impl ConnectionHandle {
    /// Counts the connection as one of a tenant. If the tenant has too many connections, closes the one that has been
    /// idle for the longest time. Errors: none is idle.
    pub fn assign_to_tenant(&self, tenant: TenantId) -> Result<(), AllBusy> {
        let Connection {
            id, connections, ..
        } = &*self.0;
        let limit = connections.limits.tenant;
        let assigned = connections.state.lock().assign(*id, tenant, limit);
        if assigned.is_err() {
            metrics::TENANT_CONNECTIONS_EXCEEDED.increment();
        }
        assigned
    }

    /// Marks the connection as busy until the body of the response is dropped and everything is sent.
    pub fn start_request(&self) -> RequestInProgress {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.set_idle(false);
        RequestInProgress(Arc::clone(&self.0))
    }

    /// Marks the connection as idle if no request is in progress. The stream calls this when it has sent all its bytes.
    pub fn all_sent(&self) {
        if self.0.requests.load(Ordering::Relaxed) == 0 {
            self.0.set_idle(true);
        }
    }
}

/// An open connection. It is counted until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(ConnectionHandle);

impl OpenConnection {
    pub fn handle(&self) -> &ConnectionHandle {
        &self.0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let Connection {
            id, connections, ..
        } = &*self.0.0;
        connections.state.lock().remove(*id);
    }
}

/// A request whose response is not complete.
#[derive(Debug)]
pub struct RequestInProgress(Arc<Connection>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a response. The request is in progress until the body is dropped.
pub struct ResponseBody {
    body: Body,
    _request: RequestInProgress,
}

impl ResponseBody {
    pub fn new(body: Body, request: RequestInProgress) -> Self {
        Self {
            body,
            _request: request,
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
