//! Messages to the other members of Raft groups: one queue, one task and one stream for each
//! address.
//!
//! In: envelopes of a turn, by address. Out: batches over HTTP/2. What a turn has for an address is
//! sent on together: it is one frame on the wire, and one turn where it arrives.
//!
//! Messages may be lost; Raft sends again what matters. So a full queue drops, a broken stream
//! drops what was queued, and the host is told that the address is unreachable. Each queue is
//! bounded in turns, each batch in messages and bytes.
//!
//! Not here: what a message means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flotilla_net::connect::connect;
use flotilla_net::services::raft_client;
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
use crate::core::message::{Address, Body, Envelope, Identity};

/// Turns whose messages wait for one address: the messages of a second or two.
const TURNS_QUEUED_MAX: usize = 128;

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
}

impl AddressBook {
    /// Notes where members listen (`HOST:PORT`).
    pub fn learn(&self, addrs: impl IntoIterator<Item = (Address, String)>) {
        self.addrs.lock().unwrap_or_else(PoisonError::into_inner).extend(addrs);
    }

    /// Connects to a member. The reason in the error is one line.
    pub async fn connect(&self, to: Address) -> Result<RaftClient<Channel>, String> {
        let addr = self.addr(to).ok_or("its address is not known")?;
        connect(&addr).await.map(raft_client)
    }

    fn addr(&self, of: Address) -> Option<String> {
        self.addrs.lock().unwrap_or_else(PoisonError::into_inner).get(&of).cloned()
    }
}

/// The messages for one address.
struct Queue {
    /// Of the present turn.
    gathered: Vec<Envelope>,
    sender: mpsc::Sender<Vec<Envelope>>,
    reported: Option<Instant>,
}

/// The way to the other members; owned by the core's thread.
pub struct Transport {
    from: Identity,
    listens_at: Arc<str>,
    addresses: AddressBook,
    queues: BTreeMap<Address, Queue>,
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
        Transport { from, listens_at, addresses, queues, on_unreachable, tasks, counts }
    }

    /// The same, counting what it sends and drops.
    pub fn counted(mut self, counts: MessageCounts) -> Transport {
        self.counts = counts;
        self
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
            };
            self.tasks.spawn(stream.run());
            Queue { gathered: vec![], sender, reported: None }
        });
        queue.gathered.push(envelope);
    }

    /// Queues what was gathered; drops what is for an address whose queue is full.
    pub fn flush(&mut self) {
        for (to, queue) in self.queues.iter_mut().filter(|(_, queue)| !queue.gathered.is_empty()) {
            let count = queue.gathered.len() as u64;
            let is_dropped = queue.sender.try_send(std::mem::take(&mut queue.gathered)).is_err();
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
    queue: mpsc::Receiver<Vec<Envelope>>,
    /// What did not fit the last batch.
    backlog: Vec<Envelope>,
    counts: MessageCounts,
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
                dropped += turn.len();
            }
            self.counts.dropped.add(dropped as u64);
        }
    }

    /// Streams messages until the stream breaks or the core's thread is gone.
    async fn stream(&mut self, mut client: RaftClient<Channel>, first: Vec<Envelope>) {
        let (batches, stream) = mpsc::channel(BATCHES_QUEUED_MAX);
        let call = client.messages(ReceiverStream::new(stream));
        tokio::pin!(call);
        let mut next = Some(first);
        self.is_first = true;
        while let Some(turn) = next.take() {
            let batch = self.batch(turn);
            tokio::select! {
                sent = batches.send(batch) => if sent.is_err() { return },
                _ = &mut call => return,
            }
            if !self.backlog.is_empty() {
                next = Some(std::mem::take(&mut self.backlog));
                continue;
            }
            next = tokio::select! {
                turn = self.queue.recv() => turn,
                _ = &mut call => return,
            };
        }
    }

    /// As many of these messages, and of those that wait after them, as make a batch.
    fn batch(&mut self, mut envelopes: Vec<Envelope>) -> EnvelopeBatch {
        let (mut taken, mut bytes) = (0, 0);
        while taken < BATCH_MAX && bytes < BATCH_BYTES_TARGET {
            match envelopes.get(taken) {
                Some(envelope) => {
                    bytes += weight(envelope);
                    taken += 1;
                }
                None => match self.queue.try_recv() {
                    Ok(turn) => envelopes.extend(turn),
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
