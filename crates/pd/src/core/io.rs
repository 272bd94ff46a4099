//! What goes into the core and what comes out: plain data.

use std::collections::BTreeMap;

use flotilla_host::core::carry_out::Append;
use flotilla_host::core::message::{Envelope, StagedId};
use flotilla_types::placement::{PdError, PdReply, PdRequest};
use flotilla_types::{RegionId, StoreId};

/// Names a request. The driver chooses the number; the core answers each request once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A tick of the Raft clock has passed.
    Tick,
    /// A caller asks for something.
    Request {
        /// To be given back with the reply.
        id: RequestId,
        /// What it asks for.
        request: PdRequest,
    },
    /// Another member says something.
    Message(Envelope),
    /// A snapshot was received; the envelope carries its message.
    SnapshotStaged {
        /// Its rows.
        staged: StagedId,
        /// From whom, and which.
        envelope: Envelope,
    },
    /// The sending of a snapshot has ended.
    SnapshotSent {
        /// To whom.
        member: u64,
        /// True if the member took it.
        is_ok: bool,
    },
    /// Messages to the member were dropped.
    Unreachable {
        /// Which.
        member: u64,
    },
    /// The inbox is drained: the turn ends, and what its inputs led to comes out.
    Flush,
    /// The log of the turn's [`Output::Append`], and of all before it, is written, and synced if
    /// that was asked for.
    Persisted {
        /// The turn.
        turn: u64,
    },
    /// The checkpoint is durable.
    Checkpointed {
        /// As [`Output::Checkpoint`] had it.
        applied: u64,
    },
    /// The process ends: every request is answered and the state made durable.
    Stop,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message to another member; it may be lost.
    Send(Envelope),
    /// Write to the log and sync it if that is asked for, then report [`Input::Persisted`]. After a
    /// failure nothing more is given to the core.
    Append(Append<Envelope>),
    /// Flush the state store, which is frozen; install the snapshot, if there is one, in place of
    /// all rows, and discard its file; keep a view of the state if it is asked for. Then report
    /// [`Input::Checkpointed`].
    Checkpoint {
        /// The last applied entry in what is flushed. Names the view.
        applied: u64,
        /// True if a view is to be kept, in place of an earlier one.
        exports: bool,
        /// The snapshot.
        install: Option<StagedId>,
    },
    /// Send the rows of the view with this number beside the snapshot message, then report
    /// [`Input::SnapshotSent`].
    SendSnapshot {
        /// Carries the message.
        envelope: Envelope,
        /// Which view.
        number: u64,
    },
    /// The view is not needed any more.
    DropExport,
    /// A received snapshot is not wanted.
    DiscardStaged {
        /// Its rows.
        staged: StagedId,
    },
    /// Where the members listen.
    MemberAddrs(BTreeMap<u64, String>),
    /// This member was removed: its process ends, and is never started again.
    Removed,
    /// Another member knows another directory of this one: its process ends, and is never started
    /// again over this directory.
    Stranger {
        /// Who knows it.
        known_by: u64,
    },
    /// The answer to a request.
    Reply {
        /// Whose.
        id: RequestId,
        /// The answer, or why there is none.
        reply: Result<PdReply, PdError>,
    },
    /// Something to log.
    Event(Event),
    /// The member cannot go on: stop the process. The core ignores all further inputs.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Something to log: what operators of the cluster should be able to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This member leads.
    LeadershipBegan {
        /// The term.
        term: u64,
    },
    /// This member no longer leads; its operators are forgotten.
    LeadershipEnded {
        /// The term that ended.
        term: u64,
    },
    /// A store was registered, or has another address or labels.
    StoreRegistered {
        /// The store.
        store: StoreId,
    },
    /// A store or a client of another cluster asks: it has a wrong address, or this member a wrong
    /// directory. Once a minute at most.
    OtherCluster {
        /// The cluster of whoever asks.
        wanted: u64,
        /// This member's cluster.
        cluster: u64,
        /// Who asks: a store that sends its heartbeat, or else anyone.
        store: Option<StoreId>,
    },
    /// The cluster has had no region for a while.
    Awaits {
        /// What it waits for.
        what: String,
    },
    /// The stores of the first region are chosen.
    FirstRegion {
        /// The region.
        region: RegionId,
        /// The stores of its voters.
        stores: Vec<StoreId>,
        /// True if two of them share a label value.
        is_crowded: bool,
    },
    /// A request that has waited until this member was confirmed to lead is decided on now.
    Decides {
        /// The request.
        id: RequestId,
    },
    /// A heartbeat was ignored, for its store has sent another one since that was taken.
    HeartbeatOvertaken {
        /// Who sent it.
        store: StoreId,
    },
    /// A region's report was ignored.
    ReportIgnored {
        /// Who sent it.
        store: StoreId,
        /// The region.
        region: RegionId,
        /// Why.
        reason: String,
    },
    /// An operator is under way.
    OperatorStarted {
        /// The operator.
        id: u64,
        /// The region.
        region: RegionId,
        /// Its name, such as "repair add-peer".
        name: String,
    },
    /// An operator is no longer under way.
    OperatorEnded {
        /// The operator.
        id: u64,
        /// The region.
        region: RegionId,
        /// How it ended, such as "done".
        outcome: &'static str,
    },
}
