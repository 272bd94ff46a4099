//! Which connections a process accepts, so that its descriptors suffice for what matters.
//!
//! In: connections, and who calls over them. Out: a place for each, or its end.
//!
//! ```text
//!   descriptors = files and connections that are opened | members | callers
//! ```
//!
//! Callers have most places. The places of members (of Raft groups, and stores at the placement
//! driver) are kept for them: once the others are taken, a connection gets one of these on trial,
//! and any other call over it is refused. A connection without a place is closed at once, one over
//! which no call was admitted after `FIRST_CALL_MS_MAX`.
//!
//! Invariant: a connection that has a place keeps it, whoever else wants one.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tonic::transport::server::Connected;
use tonic::{Extensions, Status};
use tracing::{info, warn};

use crate::principal::Principal;

/// Descriptors that no accepted connection takes: the files of the log and the state, and the
/// connections that the process opens itself. Of a small limit it is a part, as below.
const OWN_DESCRIPTORS: usize = 256;

/// Places that only members get: two connections of each of a few dozen stores.
const MEMBERS_MAX: usize = 64;

/// Places for callers, however many descriptors there are: an idle connection takes memory, too.
const CALLERS_MAX: usize = 12 * 1024;

/// When the first call over a connection must have been admitted. Our own clients call as soon as
/// they are connected.
pub(crate) const FIRST_CALL_MS_MAX: u64 = 5_000;

/// After the system has refused to accept (it is out of descriptors, most likely), this long before
/// the next attempt: there is nothing to gain by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Refusals are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The places of this process, which all its listeners share as they share its descriptors.
static PLACES: LazyLock<Arc<Places>> = LazyLock::new(|| Arc::new(Places::of(raise_limit())));

/// Raises the number of descriptors that this process may open to what the system lets it, and
/// answers it.
fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            warn!(%error, "the limit of descriptors cannot be raised");
            limit.current
        }
    };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many connections are accepted.
#[derive(Debug)]
pub(crate) struct Places {
    callers: Pool,
    members: Pool,
}

#[derive(Debug)]
struct Pool {
    max: usize,
    taken: AtomicUsize,
}

impl Pool {
    fn new(max: usize) -> Pool {
        Pool { max, taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> bool {
        let more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }
}

impl Places {
    /// Those of this process. The first call raises its limit of descriptors.
    pub(crate) fn of_process() -> Arc<Places> {
        PLACES.clone()
    }

    fn of(descriptors: usize) -> Places {
        let kept = (OWN_DESCRIPTORS + MEMBERS_MAX).min(descriptors / 2);
        let members = kept * MEMBERS_MAX / (OWN_DESCRIPTORS + MEMBERS_MAX);
        let callers = (descriptors - kept).min(CALLERS_MAX);
        info!(descriptors, callers, members, "connections that are accepted at most");
        Places { callers: Pool::new(callers), members: Pool::new(members) }
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        let is_on_trial = !self.callers.take();
        if is_on_trial && !self.members.take() {
            return None;
        }
        Some(Place::new(is_on_trial))
    }
}

/// The place of a connection, as those who serve its calls see it.
#[derive(Clone, Debug)]
pub struct Place(Arc<PlaceState>);

impl Place {
    fn new(is_on_trial: bool) -> Place {
        let (is_admitted, principal) = (AtomicBool::new(false), OnceLock::new());
        Place(Arc::new(PlaceState { is_on_trial, is_admitted, principal }))
    }

    /// The place of a caller who has shown this certificate.
    #[cfg(test)]
    pub(crate) fn identified(principal: Principal) -> Place {
        let place = Place::new(false);
        place.identify(principal);
        place
    }

    /// Says whom the caller's certificate names; once, before its first call.
    pub(crate) fn identify(&self, principal: Principal) {
        let _ = self.0.principal.set(principal);
    }

    /// Whom the caller's certificate names; None without TLS.
    pub fn principal(&self) -> Option<Principal> {
        self.0.principal.get().copied()
    }

    /// Admits a call, and with it the connection.
    ///
    /// # Errors
    /// The process has as many connections as it serves, and this one is not a member's.
    pub fn admit(&self, caller: Caller) -> Result<(), Crowded> {
        let PlaceState { is_on_trial, is_admitted, .. } = &*self.0;
        if *is_on_trial && caller == Caller::Any && !is_admitted.load(Ordering::Relaxed) {
            return Err(Crowded);
        }
        is_admitted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// True if it is one of the members' places, which nobody else is admitted to.
    pub fn is_on_trial(&self) -> bool {
        self.0.is_on_trial
    }
}

/// There are as many connections as the process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many connections")]
pub struct Crowded;

#[derive(Debug)]
struct PlaceState {
    /// One of the members' places.
    is_on_trial: bool,
    is_admitted: AtomicBool,
    principal: OnceLock<Principal>,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A member of a Raft group, or a store that calls the placement driver.
    Member,
    /// Anybody.
    Any,
}

/// Admits a call over the connection that it came by.
///
/// # Errors
/// The process has as many connections as it serves, and this one is not a member's.
pub fn admit(call: &Extensions, caller: Caller) -> Result<(), Status> {
    let Some(place) = call.get::<Place>() else { return Ok(()) };
    place.admit(caller).map_err(|crowded| Status::resource_exhausted(crowded.to_string()))
}

/// Accepts connections, each with its place.
#[derive(Debug)]
pub struct Acceptor {
    socket: TcpListener,
    places: Arc<Places>,
    logged: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(socket: TcpListener, places: Arc<Places>) -> Acceptor {
        Acceptor { socket, places, logged: None }
    }

    /// The next connection that there is a place for. May be dropped before it ends: no connection
    /// is lost.
    pub async fn next(&mut self) -> Connection {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => match self.places.take() {
                    Some(place) => {
                        let place = HeldPlace { place, of: self.places.clone() };
                        return Connection::new(stream, place);
                    }
                    None => self.log("too many connections"),
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.log(&error.to_string());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn log(&mut self, reason: &str) {
        if self.logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.logged = Some(Instant::now());
            warn!(reason, "a connection is not accepted");
        }
    }
}

/// True if the next connection may be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A place that is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct HeldPlace {
    place: Place,
    of: Arc<Places>,
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        let Places { callers, members } = &*self.of;
        let pool = if self.place.0.is_on_trial { members } else { callers };
        pool.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An accepted connection, which has its place until it is dropped. It is closed unless its
/// [`Place`] is admitted in time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    place: HeldPlace,
    /// None once a call was admitted.
    first_call_due: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, place: HeldPlace) -> Connection {
        // Small replies must not wait for larger ones. An error means that it is closed already.
        let _ = stream.set_nodelay(true);
        let due = tokio::time::sleep(Duration::from_millis(FIRST_CALL_MS_MAX));
        Connection { stream, place, first_call_due: Some(Box::pin(due)) }
    }

    /// The socket, for those who look at its first bytes.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The socket and its place, to be served by other threads.
    pub(crate) fn into_parts(self) -> (TcpStream, HeldPlace) {
        (self.stream, self.place)
    }

    /// Its place, by which those who serve its calls admit them.
    pub fn place(&self) -> Place {
        self.place.place.clone()
    }

    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(due) = &mut self.first_call_due else { return false };
        if self.place.place.0.is_admitted.load(Ordering::Relaxed) {
            self.first_call_due = None;
            return false;
        }
        due.as_mut().poll(cx).is_ready()
    }
}

impl Connected for Connection {
    type ConnectInfo = Place;

    fn connect_info(&self) -> Place {
        self.place()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_overdue(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_descriptors_are_for_callers_and_some_for_nobody_else() {
        let shares = |descriptors| {
            let places = Places::of(descriptors);
            (places.callers.max, places.members.max)
        };
        assert_eq!(shares(1024), (704, 64));
        assert_eq!(shares(160), (80, 16));
        assert_eq!(shares(usize::MAX), (CALLERS_MAX, MEMBERS_MAX));
    }

    #[test]
    fn a_place_on_trial_is_a_members() {
        let places = Arc::new(Places { callers: Pool::new(1), members: Pool::new(2) });
        let call = |place: &Place| {
            let mut call = Extensions::new();
            call.insert(place.clone());
            call
        };
        let caller = places.take().expect("a place");
        assert!(admit(&call(&caller), Caller::Any).is_ok());
        let on_trial = places.take().expect("a place");
        assert!(admit(&call(&on_trial), Caller::Any).is_err());
        assert!(admit(&call(&on_trial), Caller::Member).is_ok());
        assert!(admit(&call(&on_trial), Caller::Any).is_ok(), "a store asks for routes, too");
        assert!(places.take().is_some());
        assert!(places.take().is_none());
    }
}
