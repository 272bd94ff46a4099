//! Messages and snapshots between two members over a real socket.

use std::sync::Arc;

use flotilla_engine::base::ReadView;
use flotilla_engine::{StateBatch, StateStore};
use flotilla_host::core::message::{Address, Body, End, Envelope, Identity, StagedId};
use flotilla_host::driver::metrics::SnapshotCounts;
use flotilla_host::driver::raft_service::{RaftService, Receiver};
use flotilla_host::driver::snapshot::{Outgoing, SnapshotSender, Source};
use flotilla_host::driver::staging::Staging;
use flotilla_host::driver::transport::{AddressBook, Transport};
use flotilla_net::listen::{Listener, Services};
use flotilla_net::services::raft_server;
use flotilla_types::proto::raft_server::Raft;
use flotilla_types::proto::{EnvelopeBatch, MessagesDone, SnapshotDone, SnapshotPart};
use flotilla_types::{KeyRange, RegionId, StoreId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

const CLUSTER: u64 = 77;

/// What a member received.
#[derive(Debug, PartialEq)]
enum Received {
    Address(Address, String),
    Messages(Vec<Envelope>),
    Snapshot(StagedId, Envelope),
}

struct Notes(mpsc::UnboundedSender<Received>);

impl Receiver for Notes {
    fn messages(&self, envelopes: Vec<Envelope>, bytes: usize) {
        assert!(bytes >= envelopes.len(), "every message weighs something");
        self.0.send(Received::Messages(envelopes)).expect("the test waits");
    }

    fn listens_at(&self, member: Address, addr: String) {
        self.0.send(Received::Address(member, addr)).expect("the test waits");
    }

    fn takes_snapshots(&self) -> bool {
        true
    }

    fn snapshot_range(&self, _: &Envelope) -> Option<KeyRange> {
        Some(KeyRange::new("key", "l"))
    }

    fn snapshot(&self, staged: StagedId, envelope: Envelope) {
        self.0.send(Received::Snapshot(staged, envelope)).expect("the test waits");
    }
}

/// A member that listens, and its staged files.
struct Member {
    addr: String,
    received: mpsc::UnboundedReceiver<Received>,
    staging: Arc<Staging>,
    _dir: tempfile::TempDir,
}

fn identity(address: Address) -> Identity {
    Identity { cluster: CLUSTER, address }
}

fn sender(addresses: AddressBook) -> SnapshotSender {
    let counts = SnapshotCounts::default();
    SnapshotSender { from: identity(Address::Pd(1)), addresses, counts }
}

async fn listen(address: Address) -> Member {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let staging = Arc::new(Staging::new(dir.path().to_path_buf()));
    let (notes, received) = mpsc::unbounded_channel();
    let service = RaftService::new(identity(address), Arc::new(Notes(notes)), staging.clone());
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.addr().to_string();
    let routes = Routes::new(raft_server(service));
    tokio::spawn(listener.serve(Services::alike(routes), std::future::pending()));
    Member { addr, received, staging, _dir: dir }
}

/// A message of the first of the receiver's kind.
fn envelope(to: Address, region_id: u64) -> Envelope {
    let first = match to {
        Address::Store(_) => Address::Store(StoreId(1)),
        Address::Pd(_) => Address::Pd(1),
    };
    let end = |address| End { address, member: 0 };
    Envelope {
        region_id: RegionId(region_id),
        conf_ver: 0,
        region: None,
        from: end(first),
        to: end(to),
        body: Body::Removed,
    }
}

/// A view of a state with these keys, whose values have 16 KiB.
fn view(keys: impl Iterator<Item = String>) -> Arc<dyn ReadView> {
    let state = StateStore::in_memory();
    let mut batch = StateBatch::default();
    keys.for_each(|key| batch.put(key, vec![b'v'; 16 * 1024]));
    state.write(batch).expect("written");
    state.freeze();
    state.flush().expect("flushed");
    Arc::from(state.view().expect("a view"))
}

/// A transport of the first of its kind, which nobody can call back, and what it found unreachable.
fn transport(
    from: Address,
    addresses: &AddressBook,
) -> (Transport, mpsc::UnboundedReceiver<Address>) {
    transport_at(from, "", addresses)
}

fn transport_at(
    from: Address,
    listens_at: &str,
    addresses: &AddressBook,
) -> (Transport, mpsc::UnboundedReceiver<Address>) {
    let (told, unreachable) = mpsc::unbounded_channel();
    let on_unreachable = Arc::new(move |address| {
        let _ = told.send(address);
    });
    let (addresses, tasks) = (addresses.clone(), Handle::current());
    let transport = Transport::new(identity(from), listens_at, addresses, on_unreachable, tasks);
    (transport, unreachable)
}

#[tokio::test]
async fn a_member_says_where_it_listens_once_on_each_connection() {
    let (from, to) = (Address::Store(StoreId(1)), Address::Store(StoreId(2)));
    let mut member = listen(to).await;
    let addresses = AddressBook::default();
    let (mut transport, _unreachable) = transport_at(from, "db-1:20160", &addresses);
    transport.learn([(to, member.addr.clone())]);
    for region in 1..=2 {
        transport.send(to, envelope(to, region));
        transport.flush();
        if region == 1 {
            let told = Received::Address(from, "db-1:20160".into());
            assert_eq!(member.received.recv().await, Some(told));
        }
        let messages = Received::Messages(vec![envelope(to, region)]);
        assert_eq!(member.received.recv().await, Some(messages));
    }
}

#[tokio::test]
async fn messages_reach_the_address_that_they_name_in_order() {
    for (from, to) in
        [(Address::Store(StoreId(1)), Address::Store(StoreId(2))), (Address::Pd(1), Address::Pd(2))]
    {
        let mut member = listen(to).await;
        let addresses = AddressBook::default();
        let (mut transport, _unreachable) = transport(from, &addresses);
        transport.learn([(to, member.addr.clone())]);
        let sent: Vec<Envelope> = (1..=3).map(|region| envelope(to, region)).collect();
        sent.iter().for_each(|envelope| transport.send(to, envelope.clone()));
        transport.flush();
        assert_eq!(member.received.recv().await, Some(Received::Messages(sent)));
    }
}

#[tokio::test]
async fn a_store_takes_no_message_of_a_placement_driver_with_its_id() {
    let (store, pd) = (Address::Store(StoreId(2)), Address::Pd(2));
    let mut member = listen(store).await;
    let addresses = AddressBook::default();
    addresses.learn([(pd, member.addr.clone()), (store, member.addr.clone())]);
    let (mut transport, mut unreachable) = transport(Address::Pd(1), &addresses);
    transport.send(pd, envelope(pd, 1));
    transport.flush();
    assert_eq!(unreachable.recv().await, Some(pd), "the stream was refused");
    // In a batch for the store, a message of another role is dropped.
    transport.send(store, envelope(pd, 1));
    transport.send(store, envelope(store, 2));
    transport.flush();
    let expected = vec![envelope(store, 2)];
    assert_eq!(member.received.recv().await, Some(Received::Messages(expected)));
}

#[tokio::test]
async fn an_address_that_is_not_known_is_unreachable() {
    let nowhere = Address::Pd(9);
    let (mut transport, mut unreachable) = transport(Address::Pd(1), &AddressBook::default());
    transport.send(nowhere, envelope(nowhere, 1));
    transport.flush();
    assert_eq!(unreachable.recv().await, Some(nowhere));
}

#[tokio::test]
async fn a_snapshot_arrives_whole_or_is_reported_lost() {
    let to = Address::Pd(2);
    let mut member = listen(to).await;
    let addresses = AddressBook::default();
    addresses.learn([(to, member.addr.clone())]);
    let (queue, outgoing) = mpsc::unbounded_channel();
    tokio::spawn(sender(addresses).run(outgoing));
    let send = |to: Address, found: Result<Source, String>| {
        let (told, ended) = oneshot::channel();
        let snapshot = Outgoing {
            to,
            envelope: envelope(to, 1),
            source: Box::new(|_| found),
            ended: Box::new(|is_ok| told.send(is_ok).expect("the test waits")),
        };
        assert!(queue.send(snapshot).is_ok(), "the sender runs");
        ended
    };

    let source = |view| Source { view, range: KeyRange::all() };
    let many = view((0..300).map(|n| format!("key{n:03}")));
    let ended = send(to, Ok(source(many.clone())));
    let Some(Received::Snapshot(staged, arrived)) = member.received.recv().await else {
        panic!("no snapshot came");
    };
    assert_eq!(arrived, envelope(to, 1));
    assert_eq!(ended.await, Ok(true));
    let mut rows = member.staging.rows(staged).expect("it is staged");
    let mut count = 0;
    while let Some((key, value)) = rows.next_row().expect("readable") {
        assert_eq!((key, value.len()), (format!("key{count:03}").into(), 16 * 1024));
        count += 1;
    }
    assert_eq!(count, 300);

    assert_eq!(send(to, Err("its view is gone".into())).await, Ok(false));
    assert_eq!(send(Address::Pd(3), Ok(source(many))).await, Ok(false), "an unknown address");
    let outside = view(["key".to_string(), "other".to_string()].into_iter());
    assert_eq!(send(to, Ok(source(outside))).await, Ok(false), "a row outside the range");
    assert!(member.received.try_recv().is_err(), "the receiver sees nothing of it");
}

/// Takes calls and reads nothing, like a member whose disk hangs.
struct Stalled;

#[tonic::async_trait]
impl Raft for Stalled {
    async fn messages(
        &self,
        _: Request<Streaming<EnvelopeBatch>>,
    ) -> Result<Response<MessagesDone>, Status> {
        std::future::pending().await
    }

    async fn snapshot(
        &self,
        _: Request<Streaming<SnapshotPart>>,
    ) -> Result<Response<SnapshotDone>, Status> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_receiver_that_stands_still_holds_up_its_own_snapshots_only() {
    let (stalled, to) = (Address::Pd(2), Address::Pd(3));
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let addresses = AddressBook::default();
    addresses.learn([(stalled, listener.addr().to_string())]);
    let routes = Routes::new(raft_server(Stalled));
    tokio::spawn(listener.serve(Services::alike(routes), std::future::pending()));
    let mut member = listen(to).await;
    addresses.learn([(to, member.addr.clone())]);
    let (queue, outgoing) = mpsc::unbounded_channel();
    tokio::spawn(sender(addresses).run(outgoing));
    let rows = view(["key".to_string()].into_iter());
    // More than are sent at once.
    let to_stalled: Vec<_> = (0..8).map(|_| send(&queue, stalled, rows.clone())).collect();
    assert_eq!(send(&queue, to, rows).await, Ok(true));
    assert!(matches!(member.received.recv().await, Some(Received::Snapshot(..))));
    for mut ended in to_stalled {
        assert!(ended.try_recv().is_err(), "still under way");
    }
}

fn send(
    queue: &mpsc::UnboundedSender<Outgoing>,
    to: Address,
    view: Arc<dyn ReadView>,
) -> oneshot::Receiver<bool> {
    let (told, ended) = oneshot::channel();
    let snapshot = Outgoing {
        to,
        envelope: envelope(to, 1),
        source: Box::new(|_| Ok(Source { view, range: KeyRange::all() })),
        ended: Box::new(|is_ok| {
            let _ = told.send(is_ok);
        }),
    };
    assert!(queue.send(snapshot).is_ok(), "the sender runs");
    ended
}

#[tokio::test]
async fn a_message_in_the_name_of_another_member_is_dropped() {
    let to = Address::Store(StoreId(2));
    let mut member = listen(to).await;
    let addresses = AddressBook::default();
    let (mut transport, _unreachable) = transport(Address::Store(StoreId(1)), &addresses);
    transport.learn([(to, member.addr.clone())]);
    let forged = End { address: Address::Store(StoreId(3)), member: 0 };
    transport.send(to, Envelope { from: forged, ..envelope(to, 1) });
    transport.send(to, envelope(to, 2));
    transport.flush();
    let expected = vec![envelope(to, 2)];
    assert_eq!(member.received.recv().await, Some(Received::Messages(expected)));
}
