//! The stores' connections by id, and one request's way over them. Scans go over connections of
//! their own.
//!
//! Invariant: [`Stores::request`] returns by its deadline, and its failure says truly whether the
//! request may have been carried out.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use flotilla_net::connect::{Callee, Channels, Traffic};
use flotilla_net::principal::{CertRole, Principal};
use flotilla_net::tls::Tls;
use flotilla_types::{Answer, Op, StoreId, TraceId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;

use crate::core::attempt::AttemptTimeout;
use crate::core::failure::Failure;
use crate::core::router::Destination;

use super::clock::ClientClock;
use super::codec;
use super::connection::{Outgoing, StoreConnection, Ticket};
use super::doubt::Doubt;
use super::routes::Routes;

/// Bytes of requests that one store may have in flight from one client: eight of the largest
/// batches. Beyond it callers wait, within their deadlines.
const IN_FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a request counts for at least, so that small ones are bounded too: 16,384 in flight.
const IN_FLIGHT_UNIT_BYTES: usize = 4 * 1024;

/// Stores to which a connection for scans is kept; a client that scans more makes some anew.
const SCANNED_MAX: usize = 1024;

const IN_FLIGHT_UNITS_MAX: usize = IN_FLIGHT_BYTES_MAX / IN_FLIGHT_UNIT_BYTES;

/// Every connection of one client.
pub(crate) struct Stores {
    cluster_id: u64,
    clock: ClientClock,
    routes: Arc<Routes>,
    tls: Option<Tls>,
    connections: RwLock<BTreeMap<StoreId, Arc<Handle>>>,
    scans: Channels,
}

/// The callers' end of a connection. The connection's task ends when the last handle is dropped.
struct Handle {
    addr: Arc<str>,
    requests: mpsc::Sender<Outgoing>,
    in_flight: Arc<Semaphore>,
    suspect: Arc<AtomicBool>,
}

impl Stores {
    /// Doubts about a store are cleared by asking others, as `routes` finds them.
    pub(crate) fn new(
        cluster_id: u64,
        clock: ClientClock,
        routes: Arc<Routes>,
        tls: Option<Tls>,
    ) -> Stores {
        let scans = Channels::of(Traffic::Scans, SCANNED_MAX).secured(tls.clone());
        Stores { cluster_id, clock, routes, tls, connections: RwLock::default(), scans }
    }

    /// The cluster that requests are meant for.
    pub(crate) fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// True if the store does not answer at present: prefer another if there is one.
    pub(crate) fn is_suspect(&self, store: StoreId) -> bool {
        self.read().get(&store).is_some_and(|connection| connection.suspect.load(Ordering::Relaxed))
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn request(
        &self,
        to: &Destination,
        op: Op,
        timeout: AttemptTimeout,
        trace: Option<&TraceId>,
    ) -> Result<Answer, Failure> {
        let connection = self.connection(to);
        let give_up_at = self.clock.instant(timeout.give_up_at);
        let request = codec::request(&to.sent, op, timeout.store_ms, trace);
        let bytes = codec::request_bytes(&request);
        let units = (bytes / IN_FLIGHT_UNIT_BYTES + 1).min(IN_FLIGHT_UNITS_MAX) as u32;
        let permit = match connection.in_flight.clone().try_acquire_many_owned(units) {
            Ok(permit) => permit,
            Err(_) => {
                let turn = connection.in_flight.clone().acquire_many_owned(units);
                not_sent(give_up_at, turn).await?
            }
        };
        let ticket = Arc::new(Ticket::default());
        let (answer, answered) = oneshot::channel();
        let outgoing = Outgoing { request, bytes, ticket: ticket.clone(), answer, permit };
        // There is nearly always room at once, and then no timer is needed.
        match connection.requests.try_send(outgoing) {
            Ok(()) => {}
            Err(TrySendError::Full(outgoing)) => {
                not_sent(give_up_at, connection.requests.send(outgoing)).await?
            }
            Err(TrySendError::Closed(_)) => return Err(never_sent()),
        }
        // Abandons the request when this future is dropped while it is still queued.
        let ticket = Abandon(ticket);
        match timeout_at(give_up_at, answered).await {
            Ok(Ok(reply)) => reply.and_then(codec::answer),
            _ if ticket.0.abandon() => Err(never_sent()),
            Ok(Err(_)) => {
                Err(Failure::ConnectionLost { reason: "the connection's task ended".into() })
            }
            Err(_) => Err(Failure::Timeout),
        }
    }

    /// The connection for scans to a store. It carries nothing else: a scan that is dropped resets
    /// its stream, and what resets too many is cut off.
    pub(crate) async fn scan_channel(
        &self,
        to: &Destination,
        give_up_at: Instant,
    ) -> Result<Channel, Failure> {
        match timeout_at(give_up_at, self.scans.get(&to.addr)).await {
            Ok(opened) => opened.map_err(|reason| Failure::ConnectFailed { reason }),
            Err(_) => Err(never_sent()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<StoreId, Arc<Handle>>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a store, made if there is none. A store that moved gets a new one; the old
    /// one ends when its last callers have left.
    fn connection(&self, to: &Destination) -> Arc<Handle> {
        let known = |connections: &BTreeMap<StoreId, Arc<Handle>>| {
            connections.get(&to.sent.store).filter(|connection| connection.addr == to.addr).cloned()
        };
        if let Some(connection) = known(&self.read()) {
            return connection;
        }
        let mut connections = self.connections.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = known(&connections) {
            return connection;
        }
        let (requests, queue) = mpsc::channel(IN_FLIGHT_UNITS_MAX);
        let suspect = Arc::new(AtomicBool::new(false));
        let who = (self.cluster_id, to.sent.store, to.addr.clone());
        let doubt = Doubt::new(self.routes.clone());
        let whom = Some(Principal { role: CertRole::Store, id: Some(to.sent.store.0) });
        let callee = Callee { tls: self.tls.clone(), whom };
        let doubts = (suspect.clone(), doubt);
        tokio::spawn(StoreConnection::new(who, callee, queue, doubts).run());
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_UNITS_MAX));
        let connection = Arc::new(Handle { addr: to.addr.clone(), requests, in_flight, suspect });
        connections.insert(to.sent.store, connection.clone());
        connection
    }
}

struct Abandon(Arc<Ticket>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Waits for a step before sending; whatever goes wrong, the request was not sent.
async fn not_sent<T, E>(
    give_up_at: Instant,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout_at(give_up_at, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) | Err(_) => Err(never_sent()),
    }
}

fn never_sent() -> Failure {
    Failure::ConnectFailed { reason: "no connection, or too much in flight, for too long".into() }
}
