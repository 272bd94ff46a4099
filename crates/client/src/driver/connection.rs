//! One store's connection: a task that owns it, and the stream on which requests are coalesced.
//!
//! In: requests through a bounded queue. Out: each one's answer, or the failure it ended with,
//! through its own one-shot channel. While a batch is being handed to HTTP/2, further requests
//! gather in the queue and go as one message. Batches grow with load, and a lone request is sent at
//! once.
//!
//! The task connects at the first request. A failed connect refuses those queued (`ConnectFailed`:
//! provably not sent) and every one until a jittered back-off is over. A stream that breaks fails
//! the requests that were sent (`ConnectionLost`) and refuses the others (`ConnectFailed`); the
//! next one connects anew. A store that is about to stop says which message is its last: what is
//! unanswered then it has not taken, so that is refused, too. The retry table, on the callers'
//! side, decides whether to try again.
//!
//! Invariants: a request is marked sent before it is handed to the stream, and a caller that gives
//! up can tell by that mark whether it was ([`Ticket`]). A connection on which no answer comes
//! while requests wait is *suspect*: callers prefer other stores, and hints still lead here. Before
//! that, the other stores of the regions are asked ([`super::doubt`]): what waits for a region that
//! another leads by now is given up (`ConnectionLost`), and the others wait on.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use flotilla_net::connect::{CONNECT_MS_MAX, Callee, connect_by, status_reason};
use flotilla_net::services::kv_client;
use flotilla_types::dice::Dice;
use flotilla_types::limits::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX, VALUE_BYTES_MAX};
use flotilla_types::{RegionId, StoreId, proto};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::core::failure::Failure;
use crate::core::lookup::{DOUBT_INTERVAL_MS, DOUBTED_MS};

use super::clock;
use super::doubt::Doubt;
use super::routes::LedElsewhere;

/// Requests in one message; more gain nothing measurable.
const BATCH_REQUESTS_MAX: usize = 256;

/// Bytes after which a message is closed, so that small requests do not wait behind megabytes. One
/// request may exceed it.
const BATCH_BYTES_SOFT_MAX: usize = 1024 * 1024;

/// Messages between this task and HTTP/2. Few, because waiting requests had better wait in the
/// queue, where they coalesce.
const BATCHES_QUEUED_MAX: usize = 2;

/// The framing of one message beside its keys and values, generously.
const FRAMING_BYTES: usize = 256 * 1024;

// The largest requests are a full batch, and a compare-and-swap of one largest value to another.
const _: () = assert!(BATCH_BYTES_SOFT_MAX + BATCH_BYTES_MAX + FRAMING_BYTES < MESSAGE_BYTES_MAX);
const _: () =
    assert!(BATCH_BYTES_SOFT_MAX + 2 * VALUE_BYTES_MAX + FRAMING_BYTES < MESSAGE_BYTES_MAX);

/// How often answers that no caller waits for any more are dropped, and a store that does not
/// answer is noticed.
const SWEEP_MS: u64 = 250;

/// No answer of any kind for this long while requests wait makes a store suspect: well above a slow
/// fsync, well below the deadlines that callers set.
const UNANSWERED_MS_MAX: u64 = 1_500;

/// The first back-off after a failed connect, doubling.
const RECONNECT_BASE_MS: u64 = 50;

/// No back-off is longer: a store that restarts should be found within a second.
const RECONNECT_MS_MAX: u64 = 1_000;

/// Set by the first of two: the connection when it sends the request, or the caller when it gives
/// the request up.
#[derive(Debug, Default)]
pub(crate) struct Ticket(AtomicU8);

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const ABANDONED: u8 = 2;

impl Ticket {
    /// True if the request may be sent; from then on it counts as sent.
    fn send(&self) -> bool {
        self.take(SENT)
    }

    /// True if the request was not sent and never will be.
    pub(crate) fn abandon(&self) -> bool {
        self.take(ABANDONED)
    }

    fn take(&self, state: u8) -> bool {
        self.0.compare_exchange(QUEUED, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

pub(crate) type Reply = Result<proto::reply::Result, Failure>;

/// A request on its way.
pub(crate) struct Outgoing {
    pub(crate) request: proto::Request,
    pub(crate) bytes: usize,
    pub(crate) ticket: Arc<Ticket>,
    pub(crate) answer: oneshot::Sender<Reply>,
    /// Given back when the request is answered or swept, not when its caller leaves: the bound is
    /// on what the store and the connection hold.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Spreads ids that this task counts up itself: nobody can choose them to collide, so a product
/// with 2^64 / phi (Knuth, The Art of Computer Programming 3, 6.4) does.
#[derive(Clone, Copy, Debug, Default)]
struct CountHasher(u64);

impl Hasher for CountHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, count: u64) {
        self.0 = (self.0 ^ count).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A request that was sent.
struct Waiting {
    region: RegionId,
    answer: oneshot::Sender<Reply>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

/// An open connection.
struct OpenConnection {
    _channel: Channel,
    batches: mpsc::Sender<proto::RequestBatch>,
    replies: tonic::Streaming<proto::ReplyBatch>,
}

/// The task's state. See the module's header.
pub(crate) struct StoreConnection {
    cluster_id: u64,
    store: StoreId,
    addr: Arc<str>,
    callee: Callee,
    arriving: mpsc::Receiver<Outgoing>,
    fresh: Vec<Outgoing>,
    queued: VecDeque<Outgoing>,
    waiting: HashMap<u64, Waiting, BuildHasherDefault<CountHasher>>,
    requests_sent: u64,
    /// When the last answer came; at the earliest, when an answer was first owed.
    last_answer_at: Instant,
    failures: u32,
    refuse_until: Option<(Instant, String)>,
    suspect: Arc<AtomicBool>,
    doubt: Doubt,
    dice: Dice,
}

impl StoreConnection {
    pub(crate) fn new(
        (cluster_id, store, addr): (u64, StoreId, Arc<str>),
        callee: Callee,
        arriving: mpsc::Receiver<Outgoing>,
        (suspect, doubt): (Arc<AtomicBool>, Doubt),
    ) -> StoreConnection {
        StoreConnection {
            cluster_id,
            store,
            addr,
            callee,
            arriving,
            fresh: Vec::new(),
            queued: VecDeque::new(),
            waiting: HashMap::default(),
            requests_sent: 0,
            last_answer_at: Instant::now(),
            failures: 0,
            refuse_until: None,
            suspect,
            doubt,
            dice: Dice::new(clock::seed()),
        }
    }

    /// Runs until every sender of requests was dropped.
    pub(crate) async fn run(mut self) {
        while self.arriving.recv_many(&mut self.fresh, BATCH_REQUESTS_MAX).await > 0 {
            if let Some((until, reason)) = &self.refuse_until
                && Instant::now() < *until
            {
                let reason = reason.clone();
                self.refuse(&reason);
                continue;
            }
            match self.connect().await {
                Ok(connection) => {
                    self.suspect.store(false, Ordering::Relaxed);
                    self.last_answer_at = Instant::now();
                    let Some(reason) = self.serve(connection).await else { return };
                    tracing::info!(store = self.store.0, addr = %self.addr, %reason, "store lost");
                    // Until it is found again.
                    self.suspect.store(true, Ordering::Relaxed);
                    self.back_off(&reason);
                    self.lose(&reason);
                }
                Err(reason) => {
                    tracing::debug!(store = self.store.0, %reason, "cannot connect to the store");
                    self.suspect.store(true, Ordering::Relaxed);
                    self.back_off(&reason);
                    self.refuse(&reason);
                }
            }
        }
    }

    /// Connects and opens the stream. Its first message is empty: a server may answer a stream only
    /// once it has seen a message, and no request may be at stake before it answers.
    async fn connect(&mut self) -> Result<OpenConnection, String> {
        let channel = connect_by(&self.addr, &self.callee).await?;
        let (batches, outgoing) = mpsc::channel(BATCHES_QUEUED_MAX);
        batches.send(self.batch(Vec::new())).await.map_err(|error| error.to_string())?;
        let mut client = kv_client(channel.clone());
        let opening = client.requests(ReceiverStream::new(outgoing));
        let limit = Duration::from_millis(CONNECT_MS_MAX);
        match tokio::time::timeout(limit, opening).await {
            Ok(Ok(response)) => {
                Ok(OpenConnection { _channel: channel, batches, replies: response.into_inner() })
            }
            Ok(Err(status)) => Err(format!("{}: {}", self.addr, status_reason(&status))),
            Err(_) => Err(format!("{}: no answer within {CONNECT_MS_MAX} ms", self.addr)),
        }
    }

    /// Serves requests until the stream breaks, and says why it did; None when nobody uses the
    /// connection.
    async fn serve(&mut self, mut connection: OpenConnection) -> Option<String> {
        let mut sweep = tokio::time::interval(Duration::from_millis(SWEEP_MS));
        let mut doubts = tokio::time::interval(Duration::from_millis(DOUBT_INTERVAL_MS));
        doubts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.queued.extend(self.fresh.drain(..));
        loop {
            tokio::select! {
                message = connection.replies.message() => match message {
                    Ok(Some(batch)) => {
                        let is_last = batch.is_last;
                        self.deliver(batch);
                        if is_last {
                            return Some(self.refuse_untaken());
                        }
                    }
                    Ok(None) => return Some(format!("{}: the stream was closed", self.addr)),
                    Err(status) => {
                        return Some(format!("{}: {}", self.addr, status_reason(&status)));
                    }
                },
                permit = gather(
                    &mut self.arriving,
                    &mut self.fresh,
                    self.queued.is_empty(),
                    &connection.batches,
                ) => {
                    let permit = permit?;
                    self.queued.extend(self.fresh.drain(..));
                    if let Some(batch) = self.take_batch() {
                        permit.send(batch);
                    }
                }
                _ = sweep.tick() => self.sweep(),
                led = self.doubt.next() => self.give_up(&led),
                _ = doubts.tick(), if !self.waiting.is_empty() => self.ask_others(),
            }
        }
    }

    /// The next message: queued requests up to the bounds, without those given up.
    fn take_batch(&mut self) -> Option<proto::RequestBatch> {
        let mut requests = Vec::with_capacity(self.queued.len().min(BATCH_REQUESTS_MAX));
        let mut bytes = 0;
        let now = Instant::now();
        while requests.len() < BATCH_REQUESTS_MAX && bytes < BATCH_BYTES_SOFT_MAX {
            let Some(outgoing) = self.queued.pop_front() else { break };
            let Outgoing { mut request, bytes: size, ticket, answer, permit } = outgoing;
            if !ticket.send() {
                continue;
            }
            if self.waiting.is_empty() {
                // The time without an answer counts from when there is something to answer.
                self.last_answer_at = now;
            }
            self.requests_sent += 1;
            request.id = self.requests_sent;
            bytes += size;
            let region = request.region.as_ref().map_or(0, |region| region.region_id);
            requests.push(request);
            let region = RegionId(region);
            let waiting = Waiting { region, answer, since: now, _permit: permit };
            self.waiting.insert(self.requests_sent, waiting);
        }
        (!requests.is_empty()).then(|| self.batch(requests))
    }

    fn batch(&self, requests: Vec<proto::Request>) -> proto::RequestBatch {
        proto::RequestBatch { cluster_id: self.cluster_id, store_id: self.store.0, requests }
    }

    fn deliver(&mut self, batch: proto::ReplyBatch) {
        self.last_answer_at = Instant::now();
        self.failures = 0;
        self.refuse_until = None;
        self.suspect.store(false, Ordering::Relaxed);
        for reply in batch.replies {
            // An unknown id is a swept request's.
            let Some(waiting) = self.waiting.remove(&reply.id) else { continue };
            let answer =
                reply.result.ok_or(Failure::InvalidResponse { what: "an empty reply".into() });
            drop(waiting.answer.send(answer));
        }
    }

    /// The store has said its last: it did not take what it left unanswered.
    fn refuse_untaken(&mut self) -> String {
        let reason = format!("{}: the store is about to stop", self.addr);
        for (_, waiting) in self.waiting.drain() {
            let failure = Failure::ConnectFailed { reason: reason.clone() };
            drop(waiting.answer.send(Err(failure)));
        }
        reason
    }

    /// Forgets requests whose callers gave up. The store is suspect if it answered nothing for too
    /// long, and one of the remaining requests has waited for as long.
    fn sweep(&mut self) {
        self.waiting.retain(|_, waiting| !waiting.answer.is_closed());
        let longest = Duration::from_millis(UNANSWERED_MS_MAX);
        let is_over = |since: Instant| since.elapsed() > longest;
        let suspect =
            is_over(self.last_answer_at) && self.waiting.values().any(|w| is_over(w.since));
        self.suspect.store(suspect, Ordering::Relaxed);
    }

    /// Asks other stores about one of the regions whose requests wait, if no answer of any kind
    /// came for too long.
    fn ask_others(&mut self) {
        let longest = Duration::from_millis(DOUBTED_MS);
        if self.last_answer_at.elapsed() <= longest || self.doubt.is_asking() {
            return;
        }
        let waited = self.waiting.values().filter(|waiting| waiting.since.elapsed() > longest);
        let regions: Vec<RegionId> = waited.map(|waiting| waiting.region).collect();
        // Another one each time: a region without a leader must not keep the others unasked.
        if let Some(region) = self.dice.pick(&regions) {
            self.doubt.ask(*region, self.store);
        }
    }

    /// Ends requests whose regions another store leads, if this one still says nothing. They may
    /// have taken effect.
    fn give_up(&mut self, led: &LedElsewhere) {
        if self.last_answer_at.elapsed() <= Duration::from_millis(DOUBTED_MS) {
            return;
        }
        let is_led = |waiting: &Waiting| led.regions.contains(&waiting.region);
        let reason = format!("{}: no answer, and store {} leads the region", self.addr, led.by);
        let given_up: Vec<Waiting> = self
            .waiting
            .extract_if(|_, waiting| is_led(waiting))
            .map(|(_, waiting)| waiting)
            .collect();
        // Before anybody asks again.
        let regions: BTreeSet<RegionId> = given_up.iter().map(|waiting| waiting.region).collect();
        regions.into_iter().for_each(|region| self.doubt.note(region, led.by));
        for waiting in given_up {
            drop(waiting.answer.send(Err(Failure::ConnectionLost { reason: reason.clone() })));
        }
    }

    /// Fails everything: what was sent may have taken effect, what was not has not.
    fn lose(&mut self, reason: &str) {
        for (_, waiting) in self.waiting.drain() {
            drop(waiting.answer.send(Err(Failure::ConnectionLost { reason: reason.to_string() })));
        }
        self.refuse(reason);
    }

    /// Fails what was not sent.
    fn refuse(&mut self, reason: &str) {
        let failure = || Failure::ConnectFailed { reason: reason.to_string() };
        for outgoing in self.queued.drain(..).chain(self.fresh.drain(..)) {
            drop(outgoing.answer.send(Err(failure())));
        }
    }

    /// Refuses requests for a while. The first failure after an answer costs nothing: a connection
    /// that worked and broke is reopened at once.
    fn back_off(&mut self, reason: &str) {
        if self.failures > 0 {
            let doubled = RECONNECT_BASE_MS.saturating_mul(1 << (self.failures - 1).min(16));
            let wait_ms =
                self.dice.between_inclusive(RECONNECT_BASE_MS / 2, doubled.min(RECONNECT_MS_MAX));
            let until = Instant::now() + Duration::from_millis(wait_ms);
            self.refuse_until = Some((until, reason.to_string()));
        }
        self.failures = self.failures.saturating_add(1);
    }
}

/// Waits until a message can be sent and there is something to send. None when nobody uses the
/// connection any more. Cancelled at any point it loses nothing: what was received is in `fresh`.
async fn gather<'a>(
    arriving: &mut mpsc::Receiver<Outgoing>,
    fresh: &mut Vec<Outgoing>,
    none_queued: bool,
    batches: &'a mpsc::Sender<proto::RequestBatch>,
) -> Option<mpsc::Permit<'a, proto::RequestBatch>> {
    // An error means that HTTP/2 dropped the stream; the other branch is about to hear why.
    let Ok(permit) = batches.reserve().await else {
        return std::future::pending().await;
    };
    if none_queued && fresh.is_empty() {
        if arriving.recv_many(fresh, BATCH_REQUESTS_MAX).await == 0 {
            return None;
        }
        // Tasks that are ready to run may be about to ask something too: let them go first, so that
        // under load their requests share this message. When idle it costs nothing.
        tokio::task::yield_now().await;
    }
    while fresh.len() < BATCH_REQUESTS_MAX
        && let Ok(outgoing) = arriving.try_recv()
    {
        fresh.push(outgoing);
    }
    Some(permit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_either_sent_or_abandoned() {
        let sent = Ticket::default();
        assert!(sent.send());
        assert!(!sent.abandon(), "too late to give up");
        let abandoned = Ticket::default();
        assert!(abandoned.abandon());
        assert!(!abandoned.send(), "must not be sent any more");
    }
}
