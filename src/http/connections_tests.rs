//! Tests of the shares of connections.

use std::net::Ipv4Addr;

use tokio::sync::oneshot::error::TryRecvError;

use super::*;

const LIMITS: ConnectionLimits = ConnectionLimits {
    all: 6,
    address: 3,
    loopback_address: usize::MAX,
    tenant: 2,
};

/// A connection that a test holds.
struct Held {
    connection: OpenConnection,
    closed: oneshot::Receiver<()>,
}

impl Held {
    fn is_open(&mut self) -> bool {
        self.closed.try_recv() == Err(TryRecvError::Empty)
    }

    fn start(&self) -> RequestInProgress {
        self.connection.handle().start_request()
    }

    /// Starts a request of an authenticated client.
    fn start_authenticated(&self) -> RequestInProgress {
        let request = self.start();
        let assigned = self
            .connection
            .handle()
            .assign_to_tenant(TenantId::generate());
        assert_eq!(assigned, Ok(()));
        request
    }

    /// Sends a request of a tenant and receives the whole response.
    fn request(&self, tenant: TenantId) -> Result<(), AllBusy> {
        let request = self.start();
        let assigned = self.connection.handle().assign_to_tenant(tenant);
        drop(request);
        self.connection.handle().all_sent();
        assigned
    }
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn open(connections: &Arc<Connections>, address: IpAddr) -> Result<Held, AllBusy> {
    let (connection, closed) = connections.open(address)?;
    Ok(Held { connection, closed })
}

/// Six connections of six addresses.
fn full(connections: &Arc<Connections>) -> Vec<Held> {
    (1..=6)
        .map(|last| open(connections, address(last)).unwrap())
        .collect()
}

fn open_ones(held: &mut [Held]) -> Vec<bool> {
    held.iter_mut().map(Held::is_open).collect()
}

impl Connections {
    /// The number of connections, after checking that each share counts the same ones.
    fn count(&self) -> usize {
        let state = self.state.lock();
        let of_addresses: usize = state.addresses.values().map(|share| share.count).sum();
        let with_tenant = state
            .connections
            .values()
            .filter(|entry| entry.tenant.is_some());
        let of_tenants: usize = state.tenants.values().map(|share| share.count).sum();
        assert_eq!(state.all.count, state.connections.len());
        assert_eq!(state.all.count, of_addresses);
        assert_eq!(with_tenant.count(), of_tenants);
        let idle_of_addresses = state.addresses.values().map(|share| share.idle.len());
        assert_eq!(state.all.idle.len(), idle_of_addresses.sum::<usize>());
        let without_tenant = state.connections.len() - of_tenants;
        assert_eq!(state.all.unauthenticated.len(), without_tenant);
        state.all.count
    }
}

#[test]
fn a_new_connection_displaces_the_longest_idle_one() {
    let connections = Connections::new(LIMITS);
    let mut held = full(&connections);
    // The first connection is used again, so the second one has been idle for the longest time.
    held[0].request(TenantId::generate()).unwrap();
    let mut new = open(&connections, address(7)).unwrap();
    assert_eq!(open_ones(&mut held), [true, false, true, true, true, true]);
    assert!(new.is_open());
    assert_eq!(connections.count(), 6);
}

#[test]
fn a_busy_connection_of_an_authenticated_client_is_never_displaced() {
    let connections = Connections::new(LIMITS);
    let mut held = full(&connections);
    let mut requests: Vec<_> = held.iter().map(Held::start_authenticated).collect();
    assert_eq!(open(&connections, address(7)).err(), Some(AllBusy));
    // The response of the fourth connection is complete, but the client has not received it yet.
    drop(requests.remove(3));
    assert_eq!(open(&connections, address(7)).err(), Some(AllBusy));
    held[3].connection.handle().all_sent();
    open(&connections, address(7)).unwrap();
    assert_eq!(open_ones(&mut held), [true, true, true, false, true, true]);
}

#[test]
fn a_busy_connection_of_an_unauthenticated_client_is_displaced_after_the_idle_ones() {
    let connections = Connections::new(LIMITS);
    let mut held = full(&connections);
    // The clients of the first two connections do not receive their responses, and have no token.
    let _silent: Vec<_> = held[..2].iter().map(Held::start).collect();
    let _busy: Vec<_> = held[2..5].iter().map(Held::start_authenticated).collect();
    let mut new = Vec::new();
    let mut requests = Vec::new();
    for expected in [
        [true, true, true, true, true, false],
        [false, true, true, true, true, false],
        [false, false, true, true, true, false],
    ] {
        let connection = open(&connections, address(7)).unwrap();
        requests.push(connection.start_authenticated());
        new.push(connection);
        assert_eq!(open_ones(&mut held), expected);
    }
    assert_eq!(open(&connections, address(8)).err(), Some(AllBusy));
    assert_eq!(open_ones(&mut new), [true; 3]);
    assert_eq!(connections.count(), 6);
}

#[test]
fn an_address_beyond_its_share_displaces_only_its_own_connections() {
    let connections = Connections::new(LIMITS);
    let mut other = open(&connections, address(1)).unwrap();
    let mut greedy: Vec<_> = (0..4)
        .map(|_| open(&connections, address(2)).unwrap())
        .collect();
    assert!(other.is_open());
    assert_eq!(open_ones(&mut greedy), [false, true, true, true]);
    let _requests: Vec<_> = greedy[1..].iter().map(Held::start_authenticated).collect();
    assert_eq!(open(&connections, address(2)).err(), Some(AllBusy));
    assert!(other.is_open());
    assert_eq!(connections.count(), 4);
    open(&connections, address(3)).unwrap();
}

#[test]
fn a_client_has_one_share_for_all_addresses_of_its_network() {
    let connections = Connections::new(LIMITS);
    for addresses in [
        [
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:0:0:ffff::",
            "2001:db8::3",
        ],
        [
            "192.0.2.9",
            "::ffff:192.0.2.9",
            "192.0.2.9",
            "::ffff:192.0.2.9",
        ],
    ] {
        let mut held =
            addresses.map(|address| open(&connections, address.parse().unwrap()).unwrap());
        assert_eq!(
            open_ones(&mut held),
            [false, true, true, true],
            "{addresses:?}"
        );
    }
    let held = [
        "2001:db8:0:1::",
        "2001:db8:0:2::",
        "2001:db8:0:3::",
        "2001:db8:0:4::",
    ];
    let mut held = held.map(|address| open(&connections, address.parse().unwrap()).unwrap());
    assert_eq!(open_ones(&mut held), [true; 4]);
}

#[test]
fn by_default_a_loopback_address_has_no_share() {
    let connections = Connections::new(LIMITS);
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let mut held: Vec<_> = (0..6)
            .map(|_| open(&connections, address.parse().unwrap()).unwrap())
            .collect();
        assert_eq!(open_ones(&mut held), [true; 6], "{address}");
    }
    assert_eq!(connections.count(), 0);
}

#[test]
fn a_tenant_beyond_its_share_displaces_only_its_own_connections() {
    let connections = Connections::new(LIMITS);
    let mut held = full(&connections);
    let (greedy, other) = (TenantId::generate(), TenantId::generate());
    held[0].request(other).unwrap();
    for connection in &held[1..4] {
        connection.request(greedy).unwrap();
    }
    assert_eq!(open_ones(&mut held), [true, false, true, true, true, true]);
    // The connections of the tenant are busy, so its next request on another connection is rejected.
    let _requests: Vec<_> = held[2..4].iter().map(Held::start).collect();
    assert_eq!(held[4].request(greedy), Err(AllBusy));
    assert_eq!(held[4].request(other), Ok(()));
    assert_eq!(held[2].request(greedy), Ok(()));
    assert_eq!(connections.count(), 5);
}

#[test]
fn a_connection_counts_for_the_tenant_of_its_last_request() {
    let connections = Connections::new(LIMITS);
    let mut held = full(&connections);
    // A proxy sends the requests of many tenants over each of its connections.
    for _ in 0..10 {
        let tenant = TenantId::generate();
        for connection in &held[..2] {
            connection.request(tenant).unwrap();
        }
    }
    assert_eq!(open_ones(&mut held), [true; 6]);
    assert_eq!(connections.count(), 6);
    drop(held);
    assert_eq!(connections.count(), 0);
    assert!(connections.state.lock().tenants.is_empty());
}

#[test]
fn without_a_limit_shares_are_not_restricted() {
    let connections = Connections::new(ConnectionLimits::of_health_checks());
    let mut held: Vec<_> = (0..MAX_HEALTH_CONNECTIONS)
        .map(|_| open(&connections, address(1)).unwrap())
        .collect();
    assert!(held.iter_mut().all(Held::is_open));
    open(&connections, address(1)).unwrap();
    assert!(!held[0].is_open());
}
