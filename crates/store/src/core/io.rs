//! What goes into a worker and what comes out of it: plain data.
//!
//! The order of outputs is the order in which they are to be carried out. Nothing here decides.

use flotilla_engine::StateBatch;
use flotilla_host::core::carry_out::Append;
use flotilla_host::core::message::Envelope;
pub use flotilla_host::core::message::StagedId;
use flotilla_types::heartbeat::{HeartbeatReply, StoreAddr, StoreHeartbeat};
use flotilla_types::{
    Answer, Epoch, KeyRange, Millis, Op, PeerId, Region, RegionError, RegionId, StoreId,
};

/// Names a request between a worker and its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A client's request, routed to a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Chosen by the driver; comes back in [`Output::Reply`].
    pub id: RequestId,
    /// The region it was routed to.
    pub region: RegionId,
    /// The epoch by which it was routed.
    pub epoch: Epoch,
    /// When an answer is of no use any more.
    pub deadline: Millis,
    /// What is asked.
    pub op: Op,
}

/// What a worker is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A tick of time has passed.
    Tick,
    /// A client asks.
    Request(Request),
    /// Another store says something.
    Envelope(Envelope),
    /// A snapshot was received whole and its checksums fit; `envelope` is its header's.
    SnapshotStaged {
        /// Where the driver keeps the rows.
        staged: StagedId,
        /// Carries the snapshot message.
        envelope: Envelope,
    },
    /// The sending of a snapshot ended.
    SnapshotSent {
        /// Whose snapshot.
        region: RegionId,
        /// To which member.
        peer: PeerId,
        /// Whether the receiver took it.
        is_ok: bool,
    },
    /// Where other stores listen, as they say themselves.
    StoreAddrs(Vec<StoreAddr>),
    /// Where the placement driver's members listen, as they say themselves.
    PdAddrs(Vec<String>),
    /// Messages to this store were dropped.
    Unreachable {
        /// The store.
        store: StoreId,
    },
    /// The placement driver's answer to a heartbeat; None if it did not answer.
    HeartbeatReply(Option<HeartbeatReply>),
    /// The log batch of this turn, and all before it, is durable.
    Persisted {
        /// The turn.
        turn: u64,
    },
    /// This checkpoint, with its installs, is durable.
    Checkpointed {
        /// The checkpoint.
        number: u64,
    },
    /// The turn ends: decide on everything that was stepped.
    Flush,
    /// The store is about to stop: it hands its leaderships on, finishes what is under way, and
    /// says so with [`Output::HandedOver`]. See [`super::hand_over`].
    HandOver,
    /// Nothing more is stepped, and what is applied is about to be made durable as it is. The
    /// placement driver is told with a last heartbeat.
    Stop,
}

/// What a worker wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Answer a request.
    Reply {
        /// Which.
        id: RequestId,
        /// How.
        result: Result<Answer, RegionError>,
    },
    /// Send this to another store; may be lost.
    Send {
        /// To whom.
        to: StoreId,
        /// What.
        envelope: Envelope,
    },
    /// Write this to the log, sync it if asked to, then send `then`, then step
    /// [`Input::Persisted`], before any answer to `then` is stepped. If the write fails, stop.
    Append(Append<(StoreId, Envelope)>),
    /// The state store was frozen: flush it, carry the installs out, then hold a view of the
    /// durable state for each export; then step [`Input::Checkpointed`]. Off the worker's thread.
    Checkpoint {
        /// Comes back in [`Input::Checkpointed`].
        number: u64,
        /// Regions of which a snapshot may be sent from the view.
        exports: Vec<RegionId>,
        /// Snapshots to install.
        installs: Vec<Install>,
    },
    /// Send the snapshot of the region as of checkpoint `number`; then step
    /// [`Input::SnapshotSent`].
    SendSnapshot {
        /// To whom.
        to: StoreId,
        /// Carries the snapshot message, and the region whose rows are meant.
        envelope: Envelope,
        /// Which view.
        number: u64,
    },
    /// The view of this region is not needed any more.
    DropExport {
        /// The region.
        region: RegionId,
    },
    /// The received snapshot is not wanted.
    DiscardStaged {
        /// Which.
        staged: StagedId,
    },
    /// Tell the placement driver; then step [`Input::HeartbeatReply`].
    Heartbeat(StoreHeartbeat),
    /// Where stores listen that was not known.
    StoreAddrs(Vec<StoreAddr>),
    /// What [`Input::HandOver`] asked for is done: nobody waits for this store.
    HandedOver,
    /// Something an operator of the store may want to know.
    Event(Box<Event>),
    /// The store cannot go on; nothing after this is carried out.
    Fatal {
        /// What happened, and to which file.
        reason: String,
    },
}

impl From<Event> for Output {
    fn from(event: Event) -> Output {
        Output::Event(Box::new(event))
    }
}

/// A received snapshot that becomes a peer's state, in one durable transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Install {
    /// Whose.
    pub region: RegionId,
    /// Where the rows are.
    pub staged: StagedId,
    /// What is dropped first.
    pub clear: Vec<KeyRange>,
    /// The peer's records.
    pub records: StateBatch,
}

/// What happened to a region, for the store's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// This store's peer leads the region now.
    BecameLeader {
        /// The region.
        region: RegionId,
        /// Since this term.
        term: u64,
    },
    /// This store's peer of the cluster's first region was created.
    FirstRegion {
        /// The region.
        region: Region,
    },
    /// A region was cut in two.
    Split {
        /// The left part, with the old id.
        left: Region,
        /// The right part.
        right: Region,
    },
    /// The members of a region changed.
    MembersChanged {
        /// The region as it is now.
        region: Region,
    },
    /// A peer was created for a message or a split.
    PeerCreated {
        /// Its region.
        region: RegionId,
        /// The peer.
        peer: PeerId,
    },
    /// A peer was removed from this store.
    PeerDestroyed {
        /// Its region.
        region: RegionId,
        /// The peer.
        peer: PeerId,
    },
    /// A snapshot was installed.
    SnapshotInstalled {
        /// The region.
        region: RegionId,
        /// The index it reaches.
        index: u64,
    },
    /// A follower holds entries back, for the disk is behind.
    EntriesHeldBack {
        /// Its region.
        region: RegionId,
    },
    /// Entries for a follower were refused, for the store holds as many back as it may.
    EntriesRefused {
        /// The region.
        region: RegionId,
    },
}
