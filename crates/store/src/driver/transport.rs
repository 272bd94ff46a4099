//! Messages to other stores: one queue, one task and one stream for each of them.
//!
//! What a turn has for a store is handed on together: it is one frame on the wire, and one turn
//! where it arrives.
//!
//! Messages may be lost; Raft sends again what matters. So a full queue drops, a broken stream
//! drops what was queued, and the worker is told that the store was not reached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flotilla_net::connect::connect;
use flotilla_net::services::raft_client;
use flotilla_types::StoreId;
use flotilla_types::proto::envelope::Body;
use flotilla_types::proto::raft_client::RaftClient;
use flotilla_types::proto::{Entry, Envelope, EnvelopeBatch, Member, StoreAddr};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::debug;

use super::inbox::{Inbox, Mail};
use crate::core::Input;

/// Turns whose messages wait for one store.
const TURNS_QUEUED_MAX: usize = 128;

/// Messages in one batch.
const BATCH_MAX: usize = 1024;

/// Bytes after which a batch is closed.
const BATCH_BYTES_TARGET: usize = 1024 * 1024;

/// Batches between the queue and the network: enough to keep the stream busy.
const BATCHES_QUEUED_MAX: usize = 4;

/// After a failure, this long before the next attempt.
const RECONNECT_MS: u64 = 200;

/// Where stores listen, as the placement driver says.
#[derive(Clone, Default)]
pub struct AddressBook {
    addrs: Arc<Mutex<BTreeMap<StoreId, String>>>,
}

impl AddressBook {
    fn learn(&self, addrs: Vec<StoreAddr>) {
        let mut book = self.addrs.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in addrs {
            book.insert(StoreId(entry.store_id), entry.addr);
        }
    }

    /// Connects to the store. The reason in the error is one line.
    pub async fn connect(&self, store: StoreId) -> Result<RaftClient<Channel>, String> {
        let addr = self.addr(store).ok_or("its address is not known")?;
        connect(&addr).await.map(raft_client)
    }

    fn addr(&self, store: StoreId) -> Option<String> {
        let book = self.addrs.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&store).cloned()
    }
}

/// A full queue is reported at most this often: a report costs a look at every region.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

struct Queue {
    gathered: Vec<Envelope>,
    sender: mpsc::Sender<Vec<Envelope>>,
    reported: Option<Instant>,
}

/// The way to the other stores; owned by the worker's thread.
pub struct Transport {
    from: (u64, StoreId),
    addresses: AddressBook,
    queues: BTreeMap<StoreId, Queue>,
    inbox: Inbox,
    tasks: Handle,
}

impl Transport {
    /// Sends for the store `from` (cluster and store); tasks run on `tasks`.
    pub fn new(
        from: (u64, StoreId),
        addresses: AddressBook,
        inbox: Inbox,
        tasks: Handle,
    ) -> Transport {
        Transport { from, addresses, queues: BTreeMap::new(), inbox, tasks }
    }

    /// Notes where stores listen.
    pub fn learn(&self, addrs: Vec<StoreAddr>) {
        self.addresses.learn(addrs);
    }

    /// Gathers a message for the next [`Transport::flush`].
    pub fn send(&mut self, to: StoreId, envelope: Envelope) {
        let queue = self.queues.entry(to).or_insert_with(|| {
            let (sender, queue) = mpsc::channel(TURNS_QUEUED_MAX);
            let link = Link {
                from: self.from,
                to,
                addresses: self.addresses.clone(),
                inbox: self.inbox.clone(),
                queue,
                backlog: vec![],
            };
            self.tasks.spawn(link.run());
            Queue { gathered: vec![], sender, reported: None }
        });
        queue.gathered.push(envelope);
    }

    /// Queues what was gathered; drops what is for a store whose queue is full.
    pub fn flush(&mut self) {
        for (to, queue) in self.queues.iter_mut().filter(|(_, queue)| !queue.gathered.is_empty()) {
            let is_dropped = queue.sender.try_send(std::mem::take(&mut queue.gathered)).is_err();
            if is_dropped && queue.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
                queue.reported = Some(Instant::now());
                self.inbox.report(Mail::from(Input::Unreachable { store: *to }));
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
        region.start_key.len() + region.end_key.len() + region.members.len() * size_of::<Member>()
    });
    let Some(Body::Message(message)) = &envelope.body else { return ENVELOPE_BYTES + region };
    let entries = message.entries.iter();
    let entries: usize =
        entries.map(|entry| size_of::<Entry>() + entry.data.len() + entry.context.len()).sum();
    let snapshot = message.snapshot.as_ref().map_or(0, |meta| meta.data.len());
    ENVELOPE_BYTES + region + entries + snapshot
}

struct Link {
    from: (u64, StoreId),
    to: StoreId,
    addresses: AddressBook,
    inbox: Inbox,
    queue: mpsc::Receiver<Vec<Envelope>>,
    /// What did not fit the last batch.
    backlog: Vec<Envelope>,
}

impl Link {
    async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            match self.addresses.connect(self.to).await {
                Ok(client) => self.stream(client, first).await,
                Err(reason) => debug!(to = %self.to, %reason, "no connection"),
            }
            if self.queue.is_closed() && self.queue.is_empty() {
                return;
            }
            self.inbox.report(Mail::from(Input::Unreachable { store: self.to }));
            tokio::time::sleep(Duration::from_millis(RECONNECT_MS)).await;
            // What was queued meanwhile is stale.
            while self.queue.try_recv().is_ok() {}
            self.backlog.clear();
        }
    }

    /// Streams messages until the stream breaks or the worker is gone.
    async fn stream(&mut self, mut client: RaftClient<Channel>, first: Vec<Envelope>) {
        let (batches, stream) = mpsc::channel(BATCHES_QUEUED_MAX);
        let call = client.messages(ReceiverStream::new(stream));
        tokio::pin!(call);
        let mut next = Some(first);
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
        EnvelopeBatch {
            cluster_id: self.from.0,
            from_store: self.from.1.0,
            to_store: self.to.0,
            envelopes,
        }
    }
}
