//! A store's side of the traffic between members of Raft groups: what arrives goes into the
//! worker's inbox, and so does what became of what was sent.

use std::sync::Arc;

use flotilla_host::core::mailbox::Lane;
use flotilla_host::core::message::{Address, Envelope, StagedId};
use flotilla_host::driver::raft_service::Receiver;
use flotilla_host::driver::snapshot::Outgoing;
use flotilla_host::driver::transport::OnUnreachable;
use flotilla_types::heartbeat::StoreAddr;
use flotilla_types::{KeyRange, PeerId, StoreId};
use tokio::sync::mpsc;
use tracing::debug;

use super::inbox::{Inbox, Mail};
use super::views::{Views, snapshot_range};
use crate::core::Input;
use crate::core::pressure::Pressure;

/// Takes what other members send to the worker.
pub struct WorkerReceiver {
    /// The worker's.
    pub inbox: Inbox,
    /// Whether the disk keeps up.
    pub pressure: Pressure,
}

impl Receiver for WorkerReceiver {
    fn messages(&self, envelopes: Vec<Envelope>, bytes: usize) {
        if self.inbox.offer(Lane::Consensus, Mail::Messages(envelopes), bytes).is_err() {
            debug!("the inbox is full, messages are dropped");
        }
    }

    fn listens_at(&self, member: Address, addr: String) {
        if let Address::Store(store_id) = member {
            let told = vec![StoreAddr { store_id, addr }];
            self.inbox.report(Mail::from(Input::StoreAddrs(told)));
        }
    }

    fn takes_snapshots(&self) -> bool {
        !self.pressure.is_high()
    }

    fn snapshot_range(&self, envelope: &Envelope) -> Option<KeyRange> {
        snapshot_range(envelope)
    }

    fn snapshot(&self, staged: StagedId, envelope: Envelope) {
        self.inbox.report(Mail::from(Input::SnapshotStaged { staged, envelope }));
    }
}

/// Tells the worker which stores are unreachable.
pub fn on_unreachable(inbox: Inbox) -> OnUnreachable {
    Arc::new(move |address| match address {
        Address::Store(store) => inbox.report(Mail::from(Input::Unreachable { store })),
        // A store shares no Raft group with a placement driver.
        Address::Pd(_) => {}
    })
}

/// The stores' addresses as the transport knows them.
pub fn addresses(addrs: Vec<StoreAddr>) -> impl Iterator<Item = (Address, String)> {
    addrs.into_iter().map(|entry| (Address::Store(entry.store_id), entry.addr))
}

/// The way to the task that sends snapshots.
pub struct Snapshots {
    /// What snapshots are read from.
    pub views: Views,
    /// Where the ends are reported.
    pub inbox: Inbox,
    /// The task's.
    pub queue: mpsc::UnboundedSender<Outgoing>,
}

impl Snapshots {
    /// Sends the snapshot that `envelope` carries, as of checkpoint `number`.
    pub fn send(&self, to: StoreId, envelope: Envelope, number: u64) {
        let (region, peer) = (envelope.region_id, PeerId(envelope.to.member));
        let (views, inbox) = (self.views.clone(), self.inbox.clone());
        let outgoing = Outgoing {
            to: Address::Store(to),
            envelope,
            source: Box::new(move |envelope| views.source(envelope, number)),
            ended: Box::new(move |is_ok| {
                inbox.report(Mail::from(Input::SnapshotSent { region, peer, is_ok }));
            }),
        };
        // The task ends only with the process.
        let _ = self.queue.send(outgoing);
    }
}
