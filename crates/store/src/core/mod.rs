//! What a store decides: plain inputs in, plain outputs out.
//!
//! [`worker::Worker`] owns the peers. Its driver collects inputs for a while, passes each to
//! [`worker::Worker::step`], ends the turn with [`Input::Flush`], and carries the outputs out in
//! order. One write crosses these modules:
//!
//! ```text
//!   worker    Input::Request -> the region's peer
//!   peer      leader? epoch? keys in range? -> queued
//!   worker    Flush: all peers' queues -> entries; all groups' entries -> ONE Output::Append
//!   driver    sends messages, writes and syncs the log, sends the messages that wait for it
//!   peer      Input::Persisted, then the followers' answers -> committed
//!   apply     the command -> the state store; a checkpoint adds how far that goes
//!   peer      the reply waiting at (index, term) -> Output::Reply
//! ```
//!
//! * [`worker`]: the turn, the inbox, ticks.
//! * [`peer`]: one region's peer: proposals, replies, reads.
//! * [`permit`]: lease reads that are answered away from the worker.
//! * [`apply`]: commands to state changes, equal on every peer.
//! * [`route`]: messages of other stores: which peer, whether to create one, tombstones.
//! * [`split`]: when and where a region is cut; the whole life of a split is told there.
//! * [`checkpoint`]: what becomes durable when; snapshots out and in; log truncation.
//! * [`command`]: what the placement driver asks for.
//! * [`report`]: what the placement driver is told.
//! * [`quiesce`]: why idle regions cost nothing.
//! * [`records`]: the layout of the state store.

pub mod apply;
pub mod checkpoint;
pub mod command;
pub mod peer;
pub mod permit;
pub mod quiesce;
pub mod read;
pub mod records;
pub mod report;
pub mod route;
pub mod split;
pub mod worker;

use bytes::Bytes;
use flotilla_engine::{LogBatch, StateBatch};
use flotilla_types::proto;
use flotilla_types::{
    Epoch, KeyRange, Millis, PeerId, Region, RegionError, RegionId, StoreId, WriteOp,
};

/// Names a request between a worker and its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a received snapshot that the driver keeps on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagedId(pub u64);

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

/// What a client asks of one region.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The values of these keys.
    Get(Vec<Bytes>),
    /// A chunk of rows.
    Scan(ScanOp),
    /// A change, through the log.
    Write(WriteOp),
}

/// A chunk of rows within one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOp {
    /// The keys wanted; within the region.
    pub range: KeyRange,
    /// Rows at most; 0 for no limit.
    pub limit: u64,
    /// The chunk ends after the row that exceeds this.
    pub bytes_max: usize,
    /// From the range's end downwards.
    pub is_reverse: bool,
    /// Without values.
    pub keys_only: bool,
}

/// A store's answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// One slot for each key, in the order asked.
    Get(Vec<Option<Bytes>>),
    /// Rows in the order asked for; `is_done` if the range or the limit is exhausted.
    Scan {
        /// The rows.
        pairs: Vec<(Bytes, Bytes)>,
        /// True if there is no more to come.
        is_done: bool,
    },
    /// The write took effect.
    Written,
    /// The comparison was made.
    Swapped {
        /// True if the value was the expected one, and is now the new one.
        swapped: bool,
        /// The value found.
        previous: Option<Bytes>,
    },
}

/// What a worker is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A tick of time has passed.
    Tick,
    /// A client asks.
    Request(Request),
    /// Another store says something.
    Envelope(proto::Envelope),
    /// A snapshot was received whole and its checksums fit; `envelope` is its header's.
    SnapshotStaged {
        /// Where the driver keeps the rows.
        staged: StagedId,
        /// Carries the snapshot message.
        envelope: proto::Envelope,
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
    /// Messages to this store were dropped.
    Unreachable {
        /// The store.
        store: StoreId,
    },
    /// The placement driver's answer to a heartbeat; None if it did not answer.
    HeartbeatReply(Option<proto::HeartbeatReply>),
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
    /// Nothing more is stepped, and what is applied is about to be made durable as it is.
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
        envelope: proto::Envelope,
    },
    /// Write this to the log, sync it if asked to, then send `then`, then step
    /// [`Input::Persisted`], before any answer to `then` is stepped. If the write fails, stop.
    Append {
        /// Comes back in [`Input::Persisted`].
        turn: u64,
        /// The changes.
        batch: LogBatch,
        /// Whether they must be synced.
        sync: bool,
        /// Messages that imply that the batch is durable.
        then: Vec<(StoreId, proto::Envelope)>,
    },
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
        envelope: proto::Envelope,
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
    Heartbeat(proto::StoreHeartbeat),
    /// Where the stores listen, as the placement driver says.
    StoreAddrs(Vec<proto::StoreAddr>),
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
}

/// Why a worker cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] flotilla_engine::EngineError),
    /// A group's log and state do not fit together.
    #[error(transparent)]
    Group(#[from] flotilla_group::GroupError),
    /// A record or a log entry cannot be read.
    #[error("{what}: {source}")]
    Unreadable {
        /// Which record or entry.
        what: String,
        /// What is wrong with it.
        source: flotilla_types::WireError,
    },
    /// The log lost entries that this store had acknowledged.
    #[error("region {region}: {reason}; remove this store and let the others restore its replicas")]
    LostLog {
        /// The region.
        region: RegionId,
        /// What is missing.
        reason: String,
    },
    /// A committed change cannot be applied: peers would differ from here on.
    #[error("region {region}, entry {index}: {reason}")]
    CannotApply {
        /// The region.
        region: RegionId,
        /// The entry.
        index: u64,
        /// Why.
        reason: String,
    },
}
