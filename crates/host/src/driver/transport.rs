//! Messages to the other members of Raft groups: one queue, one task and one stream for each
//! address.
//!
//! In: envelopes of a turn, by address. Out: batches over HTTP/2. What a turn has for an address is
//! sent on together: it is one frame on the wire, and one turn where it arrives.
//!
//! Messages may be lost; Raft sends again what matters. So a full queue drops, a broken stream
//! drops what was queued, and the host is told that the address is unreachable. Each queue is
//! bounded in turns and bytes, all queues together in bytes, each batch in messages and bytes.
//!
//! Not here: what a message means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flotilla_net::connect::{Callee, connect_member};
use flotilla_net::principal::{CertRole, Principal};
use flotilla_net::services::raft_client;
use flotilla_net::tls::Tls;
use flotilla_types::Member;
use flotilla_types::proto::raft_client::RaftClient;
use flotilla_types::proto::{Entry, EnvelopeBatch};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::debug;

use super::metrics::MessageCounts;
use super::wire::{encode_address, encode_envelope};
use crate::core::budget::{ByteBudget, Held};
use crate::core::message::{Address, Body, Envelope, Identity};

/// Turns whose messages wait for one address: the messages of a second or two.
const TURNS_QUEUED_MAX: usize = 128;

/// Bytes that wait for one address: what a disk that is busy for a second is behind by. One turn of
/// any size fits an empty queue.
const QUEUED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes that wait for all addresses: two members that stand still leave the others room only in an
/// empty queue.
const ALL_QUEUED_BYTES_MAX: usize = 2 * QUEUED_BYTES_MAX;

/// Messages in one batch: as many as a turn takes without delaying the next tick.
const BATCH_MAX: usize = 1024;

/// Bytes after which a batch is closed: the largest entry still fits the message limit beside them.
const BATCH_BYTES_TARGET: usize = 1024 * 1024;

/// Batches between the queue and the network: enough to keep the stream busy.
const BATCHES_QUEUED_MAX: usize = 4;

/// After a failure, this long before the next attempt to connect.
const RECONNECT_MS: u64 = 200;

/// A full queue is reported at most this often: a report costs a look at every region.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Told about an address whose messages were dropped. Must not wait.
pub type OnUnreachable = Arc<dyn Fn(Address) + Send + Sync>;

/// Where members listen, as far as it is known. Clones share what they know.
#[derive(Clone, Default)]
pub struct AddressBook {
    addrs: Arc<Mutex<BTreeMap<Address, String>>>,
    tls: Option<Tls>,
}

/// Whom the certificate of a member names.
pub(super) fn principal(address: Address) -> Principal {
    match address {
        Address::Store(store) => Principal { role: CertRole::Store, id: Some(store.0) },
        Address::Pd(id) => Principal { role: CertRole::Pd, id: Some(id) },
    }
}

impl AddressBook {
    /// An empty one, of members that are called with these certificates if there are any.
    pub fn secured(tls: Option<Tls>) -> AddressBook {
        AddressBook { tls, ..AddressBook::default() }
    }

    /// Notes where members listen (`HOST:PORT`).
    pub fn learn(&self, addrs: impl IntoIterator<Item = (Address, String)>) {
        self.addrs.lock().unwrap_or_else(PoisonError::into_inner).extend(addrs);
    }

    /// Connects to a member. The reason in the error is one line.
    pub async fn connect(&self, to: Address) -> Result<RaftClient<Channel>, String> {
        let addr = self.addr(to).ok_or("its address is not known")?;
        let callee = Callee { tls: self.tls.clone(), whom: Some(principal(to)) };
        connect_member(&addr, &callee).await.map(raft_client)
    }

    fn addr(&self, of: Address) -> Option<String> {
        self.addrs.lock().unwrap_or_else(PoisonError::into_inner).get(&of).cloned()
    }
}

/// The messages of a turn for one address, and what they weigh in the budgets of that address and
/// of all.
struct QueuedTurn {
    envelopes: Vec<Envelope>,
    held: [Held; 2],
}

/// The messages for one address.
struct Queue {
    /// Of the present turn.
    gathered: Vec<Envelope>,
    budget: Arc<ByteBudget>,
    sender: mpsc::Sender<QueuedTurn>,
    reported: Option<Instant>,
}

/// The way to the other members; owned by the core's thread.
pub struct Transport {
    from: Identity,
    listens_at: Arc<str>,
    addresses: AddressBook,
    queues: BTreeMap<Address, Queue>,
    all_queued: Arc<ByteBudget>,
    on_unreachable: OnUnreachable,
    tasks: Handle,
    counts: MessageCounts,
}

impl Transport {
    /// Sends for `from`, whom others reach at `listens_at` (`HOST:PORT`); tasks run on `tasks`.
    pub fn new(
        from: Identity,
        listens_at: &str,
        addresses: AddressBook,
        on_unreachable: OnUnreachable,
        tasks: Handle,
    ) -> Transport {
        let (listens_at, queues) = (listens_at.into(), BTreeMap::new());
        let counts = MessageCounts::default();
        let all_queued = ByteBudget::new(ALL_QUEUED_BYTES_MAX);
        Transport { from, listens_at, addresses, queues, all_queued, on_unreachable, tasks, counts }
    }

    /// The same, counting what it sends and drops.
    pub fn counted(mut self, counts: MessageCounts) -> Transport {
        self.counts = counts;
        self
    }

    /// The same, of which so many bytes wait for all addresses together, and half for each.
    pub fn bounded(mut self, bytes_max: usize) -> Transport {
        self.all_queued = ByteBudget::new(bytes_max);
        self
    }

    /// What waits for all addresses together.
    pub fn queued(&self) -> Arc<ByteBudget> {
        self.all_queued.clone()
    }

    /// Notes where members listen.
    pub fn learn(&self, addrs: impl IntoIterator<Item = (Address, String)>) {
        self.addresses.learn(addrs);
    }

    /// Gathers a message for the next [`Transport::flush`].
    pub fn send(&mut self, to: Address, envelope: Envelope) {
        let queue = self.queues.entry(to).or_insert_with(|| {
            let (sender, queue) = mpsc::channel(TURNS_QUEUED_MAX);
            let stream = MemberStream {
                from: self.from,
                listens_at: self.listens_at.clone(),
                is_first: true,
                to,
                addresses: self.addresses.clone(),
                on_unreachable: self.on_unreachable.clone(),
                queue,
                backlog: vec![],
                counts: self.counts.clone(),
                held: vec![],
            };
            self.tasks.spawn(stream.run());
            let budget = ByteBudget::new(self.all_queued.bytes_max() / 2);
            Queue { gathered: vec![], budget, sender, reported: None }
        });
        queue.gathered.push(envelope);
    }

    /// Queues what was gathered; drops what is for an address whose queue is full.
    pub fn flush(&mut self) {
        for (to, queue) in self.queues.iter_mut().filter(|(_, queue)| !queue.gathered.is_empty()) {
            let count = queue.gathered.len() as u64;
            let is_dropped = queue.put(&self.all_queued).is_none();
            if is_dropped {
                self.counts.dropped.add(count);
            }
            if is_dropped && queue.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                queue.reported = Some(Instant::now());
                (self.on_unreachable)(*to);
            }
        }
    }
}

impl Queue {
    /// Queues what was gathered. None if it finds no room and is dropped.
    fn put(&mut self, all_queued: &Arc<ByteBudget>) -> Option<()> {
        let envelopes = std::mem::take(&mut self.gathered);
        let bytes = envelopes.iter().map(weight).sum();
        let of_address = self.budget.try_take(bytes)?;
        // What the other addresses hold does not keep a first turn from an empty queue.
        let of_all = match all_queued.try_take(bytes) {
            None if self.budget.held() == bytes => all_queued.take(bytes),
            held => held?,
        };
        self.sender.try_send(QueuedTurn { envelopes, held: [of_address, of_all] }).ok()
    }
}

/// What an envelope of few bytes weighs.
const ENVELOPE_BYTES: usize = 128;

/// About how many bytes an envelope takes, in memory or on the wire. To add up what it carries is
/// much less work than to go through all of its fields.
pub fn weight(envelope: &Envelope) -> usize {
    let region = envelope.region.as_ref().map_or(0, |region| {
        let range = region.range.start.len() + region.range.end.len();
        range + region.members.len() * size_of::<Member>()
    });
    let Body::Message(message) = &envelope.body else { return ENVELOPE_BYTES + region };
    let entries = message.entries.iter();
    let entries: usize =
        entries.map(|entry| size_of::<Entry>() + entry.data.len() + entry.context.len()).sum();
    let snapshot = message.snapshot.as_ref().map_or(0, |meta| meta.data.len());
    ENVELOPE_BYTES + region + entries + snapshot
}

/// The task that sends to one address.
struct MemberStream {
    from: Identity,
    listens_at: Arc<str>,
    /// True until a batch has left on the present stream.
    is_first: bool,
    to: Address,
    addresses: AddressBook,
    on_unreachable: OnUnreachable,
    queue: mpsc::Receiver<QueuedTurn>,
    /// What did not fit the last batch.
    backlog: Vec<Envelope>,
    counts: MessageCounts,
    /// What the turns weigh that the backlog is of.
    held: Vec<[Held; 2]>,
}

impl MemberStream {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            match self.addresses.connect(self.to).await {
                Ok(client) => self.stream(client, first).await,
                Err(reason) => debug!(to = %self.to, %reason, "no connection"),
            }
            if self.queue.is_closed() && self.queue.is_empty() {
                return;
            }
            (self.on_unreachable)(self.to);
            tokio::time::sleep(Duration::from_millis(RECONNECT_MS)).await;
            // What was queued meanwhile is stale.
            let mut dropped = std::mem::take(&mut self.backlog).len();
            while let Ok(turn) = self.queue.try_recv() {
                dropped += turn.envelopes.len();
            }
            self.held.clear();
            self.counts.dropped.add(dropped as u64);
        }
    }

    /// Streams messages until the stream breaks or the core's thread is gone.
    async fn stream(&mut self, mut client: RaftClient<Channel>, first: QueuedTurn) {
        let (batches, stream) = mpsc::channel(BATCHES_QUEUED_MAX);
        let call = client.messages(ReceiverStream::new(stream));
        tokio::pin!(call);
        self.backlog.extend(first.envelopes);
        self.held.push(first.held);
        self.is_first = true;
        loop {
            let batch = self.batch();
            tokio::select! {
                sent = batches.send(batch) => if sent.is_err() { return },
                _ = &mut call => return,
            }
            self.let_go();
            if !self.backlog.is_empty() {
                continue;
            }
            let next = tokio::select! {
                turn = self.queue.recv() => turn,
                _ = &mut call => return,
            };
            let Some(turn) = next else { return };
            self.backlog.extend(turn.envelopes);
            self.held.push(turn.held);
        }
    }

    /// A batch was sent: turns of which nothing is left wait no more. The backlog is a part of the
    /// last one.
    fn let_go(&mut self) {
        let kept = usize::from(!self.backlog.is_empty());
        self.held.drain(..self.held.len() - kept);
    }

    /// As many messages of the backlog, and of the turns that wait after it, as make a batch.
    fn batch(&mut self) -> EnvelopeBatch {
        let mut envelopes = std::mem::take(&mut self.backlog);
        let (mut taken, mut bytes) = (0, 0);
        while taken < BATCH_MAX && bytes < BATCH_BYTES_TARGET {
            match envelopes.get(taken) {
                Some(envelope) => {
                    bytes += weight(envelope);
                    taken += 1;
                }
                None => match self.queue.try_recv() {
                    Ok(turn) => {
                        envelopes.extend(turn.envelopes);
                        self.held.push(turn.held);
                    }
                    Err(_) => break,
                },
            }
        }
        self.backlog = envelopes.split_off(taken);
        let (_, from) = encode_address(self.from.address);
        let (role, to) = encode_address(self.to);
        self.counts.sent.add(envelopes.len() as u64);
        let envelopes = envelopes.into_iter().map(encode_envelope).collect();
        let is_first = std::mem::take(&mut self.is_first);
        let from_addr = if is_first { self.listens_at.to_string() } else { String::new() };
        EnvelopeBatch { cluster_id: self.from.cluster, role, from, to, envelopes, from_addr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::message::{Beat, End};
    use flotilla_types::{RegionId, StoreId};

    /// A queue of so many bytes, the budget of all, and the receiving end.
    fn queue(bytes_max: usize) -> (Queue, Arc<ByteBudget>, mpsc::Receiver<QueuedTurn>) {
        let (sender, receiver) = mpsc::channel(TURNS_QUEUED_MAX);
        let budget = ByteBudget::new(bytes_max);
        let queue = Queue { gathered: vec![], budget, sender, reported: None };
        (queue, ByteBudget::new(4 * ENVELOPE_BYTES), receiver)
    }

    fn put(queue: &mut Queue, all: &Arc<ByteBudget>, count: usize) -> Option<()> {
        let end = |store| End { address: Address::Store(StoreId(store)), member: 0 };
        let body = Body::Beat(Beat { incarnation: 1, is_answer: false });
        let (from, to, region_id) = (end(1), end(2), RegionId(0));
        let beat = Envelope { region_id, conf_ver: 0, region: None, from, to, body };
        queue.gathered = vec![beat; count];
        queue.put(all)
    }

    #[tokio::test]
    async fn a_queue_drops_what_exceeds_its_bytes_and_gives_them_back_when_it_is_read() {
        let (mut queue, all, mut receiver) = queue(3 * ENVELOPE_BYTES);
        assert!(put(&mut queue, &all, 2).is_some());
        assert!(put(&mut queue, &all, 2).is_none(), "four do not fit");
        assert!(put(&mut queue, &all, 1).is_some());
        assert_eq!((all.held(), queue.budget.held()), (3 * ENVELOPE_BYTES, 3 * ENVELOPE_BYTES));
        drop((receiver.recv().await, receiver.recv().await));
        assert_eq!((all.held(), queue.budget.held()), (0, 0));
    }

    #[tokio::test]
    async fn turns_that_were_sent_give_their_bytes_back_while_others_wait() {
        let (mut waiting, _, receiver) = queue(4 * BATCH_MAX * ENVELOPE_BYTES);
        let all = ByteBudget::new(4 * BATCH_MAX * ENVELOPE_BYTES);
        let address = Address::Store(StoreId(2));
        let mut stream = MemberStream {
            from: Identity { cluster: 1, address },
            listens_at: "".into(),
            is_first: true,
            to: address,
            addresses: AddressBook::default(),
            on_unreachable: Arc::new(|_| {}),
            queue: receiver,
            backlog: vec![],
            counts: MessageCounts::default(),
            held: vec![],
        };
        for turn in 0..10 {
            assert!(put(&mut waiting, &all, BATCH_MAX - 1).is_some(), "turn {turn}");
            assert!(put(&mut waiting, &all, 2).is_some(), "turn {turn}");
            assert_eq!(stream.batch().envelopes.len(), BATCH_MAX);
            stream.let_go();
            assert!(stream.held.len() <= 1, "what is left is of one turn");
        }
    }

    #[test]
    fn one_turn_of_any_size_fits_an_empty_queue_whatever_waits_for_others() {
        let (mut stalled, all, _waits) = queue(4 * ENVELOPE_BYTES);
        let (mut other, _, _reads) = queue(4 * ENVELOPE_BYTES);
        assert!(put(&mut stalled, &all, 4).is_some());
        assert!(put(&mut other, &all, 9).is_some(), "its first turn");
        assert!(put(&mut other, &all, 1).is_none(), "the others hold the rest");
    }
}
