//! A member's side of the traffic with the other members: what arrives goes into the inbox of its
//! thread, and so does what became of what was sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use flotilla_engine::base::ReadView;
use flotilla_host::core::mailbox::Lane;
use flotilla_host::core::message::{Address, Envelope, Identity, StagedId};
use flotilla_host::driver::metrics::HostMetrics;
use flotilla_host::driver::raft_service::Receiver;
use flotilla_host::driver::snapshot::{Outgoing, Source};
use flotilla_host::driver::transport::{AddressBook, OnUnreachable, Transport};
use flotilla_types::KeyRange;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::core::Input;
use crate::driver::inbox::{Inbox, Mail};

/// Takes what other members send to the thread.
pub(crate) struct MemberReceiver {
    pub inbox: Inbox,
    pub addresses: AddressBook,
}

impl Receiver for MemberReceiver {
    fn messages(&self, envelopes: Vec<Envelope>, bytes: usize) {
        if self.inbox.offer(Lane::Consensus, Mail::Messages(envelopes), bytes).is_err() {
            debug!("the inbox is full, messages are dropped");
        }
    }

    fn listens_at(&self, member: Address, addr: String) {
        self.addresses.learn([(member, addr)]);
    }

    fn takes_snapshots(&self) -> bool {
        true
    }

    fn snapshot_range(&self, _: &Envelope) -> Option<KeyRange> {
        Some(KeyRange::all())
    }

    fn snapshot(&self, staged: StagedId, envelope: Envelope) {
        self.inbox.report(Mail::Input(Input::SnapshotStaged { staged, envelope }));
    }
}

/// The number of the checkpoint that left a view, and the view.
type Numbered = (u64, Arc<dyn ReadView>);

/// The view that snapshots are sent from, if there is one.
#[derive(Clone, Default)]
pub(crate) struct View {
    kept: Arc<Mutex<Option<Numbered>>>,
}

impl View {
    /// Keeps this view, or none.
    pub(crate) fn set(&self, view: Option<Numbered>) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    fn source(&self, number: u64) -> Result<Source, String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let view = kept.as_ref().filter(|(kept, _)| *kept == number).map(|(_, view)| view.clone());
        Ok(Source { view: view.ok_or("its view is gone")?, range: KeyRange::all() })
    }
}

/// What a member's thread needs to reach the others.
pub(crate) struct Links {
    /// Where this member listens, `HOST:PORT`.
    pub listens_at: String,
    /// Where the others listen.
    pub addresses: AddressBook,
    /// Where callers are told that the members listen.
    pub told: watch::Sender<Vec<String>>,
    /// The queue of the task that sends snapshots.
    pub snapshots: mpsc::UnboundedSender<Outgoing>,
    /// Where tasks run.
    pub tasks: Handle,
    /// What the process counts of its log, checkpoints and messages.
    pub metrics: HostMetrics,
}

/// The way to the other members; owned by the thread.
pub(crate) struct Others {
    pub transport: Transport,
    pub view: View,
    told: watch::Sender<Vec<String>>,
    snapshots: mpsc::UnboundedSender<Outgoing>,
    inbox: Inbox,
}

impl Others {
    /// The way of `from` to the others.
    pub(crate) fn new(from: Identity, links: Links, inbox: Inbox) -> Others {
        let Links { listens_at, addresses, told, snapshots, tasks, metrics } = links;
        let unreachable = on_unreachable(inbox.clone());
        let transport = Transport::new(from, &listens_at, addresses, unreachable, tasks)
            .counted(metrics.messages);
        Others { transport, view: View::default(), told, snapshots, inbox }
    }

    /// The members listen there.
    pub(crate) fn listen_at(&mut self, addrs: BTreeMap<u64, String>) {
        self.told.send_replace(addrs.values().cloned().collect());
        self.transport.learn(addrs.into_iter().map(|(id, addr)| (Address::Pd(id), addr)));
    }

    /// Sends the snapshot that the envelope carries, as of checkpoint `number`.
    pub(crate) fn send_snapshot(&self, envelope: Envelope, number: u64) {
        let (member, to) = (envelope.to.member, envelope.to.address);
        let (view, inbox) = (self.view.clone(), self.inbox.clone());
        let outgoing = Outgoing {
            to,
            envelope,
            source: Box::new(move |_| view.source(number)),
            ended: Box::new(move |is_ok| {
                inbox.report(Mail::Input(Input::SnapshotSent { member, is_ok }));
            }),
        };
        // The task ends only with the process.
        let _ = self.snapshots.send(outgoing);
    }
}

fn on_unreachable(inbox: Inbox) -> OnUnreachable {
    Arc::new(move |address| match address {
        Address::Pd(member) => inbox.report(Mail::Input(Input::Unreachable { member })),
        // A placement driver shares no Raft group with a store.
        Address::Store(_) => {}
    })
}
