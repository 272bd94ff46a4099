//! What can happen ([`Event`]) and what travels over the network ([`Packet`]): plain values.
//! [`Ambush`], [`Duel`] and [`Stupor`] are the values of the faults in [`crate::nemesis`] of the
//! same names.
//!
//! The queue is in [`crate::agenda`]. What an event does is decided where the event is handled.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::part::PartId;
use flotilla_host::core::message::Envelope;
use flotilla_store::core::held_routes::HeldRoutes;
use flotilla_store::core::{Answer, Input, Op, RequestId};
use flotilla_types::{Epoch, RegionError, RegionId, StoreId, proto};

use crate::scenario::PlannedAct;
use crate::time::Micros;

/// An endpoint of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A store.
    Store(StoreId),
    /// A member of the placement driver.
    Pd(u32),
    /// A client.
    Client(u32),
}

impl End {
    /// The number by which the trace knows the endpoint.
    pub fn number(self) -> u64 {
        match self {
            End::Store(store) => store.0,
            End::Pd(node) => (1 << 32) + u64::from(node),
            End::Client(client) => (2 << 32) + u64::from(client),
        }
    }
}

/// A directed link.
pub type Link = (End, End);

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Raft messages, all in one direction.
    Raft,
    /// Snapshots, and whether they were taken.
    Snapshots,
    /// Requests and replies.
    Calls,
}

/// A connection, whenever it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId {
    /// Who connects.
    pub opener: End,
    /// Whom to.
    pub acceptor: End,
    /// What for.
    pub stream: Stream,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the opener to the acceptor.
    There,
    /// From the acceptor to the opener.
    Back,
}

/// What a connection planned for itself (see [`crate::net::conn`]). An event of an earlier attempt
/// to connect has no effect.
#[derive(Clone, Copy, Debug)]
pub enum ConnEvent {
    /// Messages arrive.
    Deliver {
        /// The connection.
        conn: ConnId,
        /// The direction.
        way: Way,
    },
    /// An attempt to connect ends, or is repeated.
    Connect {
        /// The connection.
        conn: ConnId,
        /// The attempt.
        number: u64,
    },
    /// Nothing has got through for too long.
    Silent {
        /// The connection.
        conn: ConnId,
        /// The attempt.
        number: u64,
        /// Since when.
        since: Micros,
    },
    /// The opener learns that the other end knows nothing of the connection.
    Broken {
        /// The connection.
        conn: ConnId,
        /// The attempt.
        number: u64,
    },
}

/// The id of one attempt of a client's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId {
    /// The client.
    pub client: u32,
    /// The number of the attempt, unique at the client.
    pub number: u64,
}

/// A client's request as a store's server receives it.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// The attempt's id, which the reply carries too.
    pub attempt: AttemptId,
    /// The region that the client routed the request to.
    pub region: RegionId,
    /// The region's epoch that the client knew.
    pub epoch: Epoch,
    /// How long the store may take, in milliseconds.
    pub timeout_ms: u64,
    /// The operation.
    pub op: Op,
}

/// The sender of a request to the placement driver, to which the reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A store's process, which waits for the reply to a heartbeat.
    Heartbeat {
        /// The store.
        store: StoreId,
        /// The store's life.
        life: u32,
        /// The heartbeat's number.
        number: u64,
    },
    /// A client's lookup.
    Lookup {
        /// The client.
        client: u32,
        /// The lookup's number.
        number: u64,
    },
    /// The administrator.
    Admin {
        /// The question's number.
        number: u64,
    },
    /// The nemesis, which drops the reply.
    Nemesis {
        /// The request's number.
        number: u64,
    },
    /// A call that seeks the leader (see [`crate::pd::calls`]).
    Probe {
        /// The call's number.
        call: u64,
    },
}

/// Rows of a snapshot: pairs of state key and stored value.
pub type Rows = Arc<Vec<(Bytes, Bytes)>>;

/// The body of a message.
#[derive(Clone, Debug)]
pub enum Body {
    /// Raft traffic.
    Envelope(Box<Envelope>),
    /// A snapshot with its rows.
    Snapshot {
        /// The envelope of the snapshot message.
        envelope: Box<Envelope>,
        /// The rows.
        rows: Rows,
        /// The sender's life, to which the end of the transfer is reported.
        life: u32,
    },
    /// How a snapshot's transfer ended, reported to the snapshot's sender.
    SnapshotTaken {
        /// The sender's life.
        life: u32,
        /// The report.
        input: Box<Input>,
    },
    /// A client's request to a store.
    Request(Box<ClientRequest>),
    /// A store's reply.
    Reply {
        /// The attempt that is answered.
        attempt: AttemptId,
        /// The answer, or the error.
        result: Box<Result<Answer, RegionError>>,
    },
    /// The connection of an attempt failed.
    Broken {
        /// The attempt that failed.
        attempt: AttemptId,
        /// The failure, as the client's driver reports it.
        failure: Box<Failure>,
    },
    /// A client asks a store which regions it holds around a key.
    RoutesRequest {
        /// The client's question.
        question: Question,
        /// The key.
        key: Bytes,
        /// Regions at most.
        limit: u64,
    },
    /// What the store holds.
    RoutesReply {
        /// The question that is answered.
        question: Question,
        /// The answer.
        held: Box<HeldRoutes>,
    },
    /// A request to the placement driver.
    PdRequest {
        /// The sender.
        asker: Asker,
        /// The request.
        request: Box<proto::PdRequest>,
    },
    /// The placement driver's reply.
    PdReply {
        /// The sender of the request.
        asker: Asker,
        /// The reply; None if the placement driver was unreachable.
        reply: Option<Box<proto::PdReply>>,
    },
}

/// A question of a client to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The client.
    pub client: u32,
    /// The number of the client's question.
    pub number: u64,
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The sender.
    pub from: End,
    /// The receiver.
    pub to: End,
    /// The content.
    pub body: Body,
}

/// Why the administrator acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminWake {
    /// The time between two questions is over.
    Ask,
    /// The question of this number took too long.
    Late(u64),
}

/// Why a client acts.
#[derive(Clone, Debug)]
pub enum ClientWake {
    /// The time between two calls is over.
    Begin,
    /// A timer of the client's own clock may be due.
    Timer,
    /// The attempt of this number took too long.
    GiveUp(u64),
    /// A back-off is over.
    Ready {
        /// The call.
        call: u64,
        /// The part that waited; None for a scan.
        part: Option<PartId>,
    },
    /// The lookup of this number took too long.
    LookupLate(u64),
    /// The question is not answered yet: stores are asked, too.
    LookupStores(u64),
    /// The caller of the call of this number drops it.
    Drop(u64),
    /// The client's process dies.
    Die,
    /// The client's clock jumps forward by so much.
    Jump(Micros),
}

/// The end of a fault, or a later stage of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relief {
    /// These links are mended.
    Links(Vec<(End, End)>),
    /// These links have their usual bandwidth again.
    Fast(Vec<(End, End)>),
    /// These links are cut, some time after the act that planned the cut.
    CutOff(Vec<(End, End)>),
    /// The store's administrative state is set to up again.
    Undrain(StoreId),
    /// A store that has just started is killed again (a restart storm).
    Crash(StoreId),
    /// A machine that was suspended goes on.
    Wake(End),
    /// A wave of a flood reaches a store (see [`crate::nemesis::flood`]).
    Flood {
        /// The store.
        store: StoreId,
        /// The number of requests.
        requests: u64,
    },
    /// Disks are fast again.
    Disks,
    /// The placement driver's disk has room again.
    PdRoom,
    /// The placement driver is put back from the copy that was made of its directory.
    OldPd,
    /// A store's disk has room again.
    Room(StoreId),
    /// An empty store registers in place of a store whose disk has ended.
    Replacement,
    /// An empty directory takes the place of a store (see [`crate::nemesis::impostor`]).
    Impostor {
        /// The store.
        store: StoreId,
        /// How often the placement driver is asked yet.
        tries_left: u32,
    },
    /// A store that was not there when the cluster began registers.
    Latecomer,
    /// The next step of a replacement of a member of the placement driver.
    PdReplaced {
        /// True if the old one is removed.
        is_removed: bool,
    },
    /// The next stage of a leader's stupor (see [`crate::nemesis::stupor`]).
    Stupor {
        /// The region.
        region: RegionId,
        /// The leader.
        leader: StoreId,
        /// When the leader's thread goes on.
        until: Micros,
        /// The stage that begins now.
        stage: Stupor,
    },
    /// The candidate of an ambush stands for election: the voters are killed or cut off now.
    Ambush(Ambush),
    /// The time for an ambush is over: the links between leader and candidate are mended.
    NoAmbush(Vec<(End, End)>),
    /// The followers have caught up with the leader: a duel begins, and one follower is cut off.
    Duel {
        /// The region.
        region: RegionId,
        /// The region's leader.
        leader: StoreId,
    },
    /// The next stage of a rumour (see [`crate::nemesis::rumour`]).
    Rumour(RumourStage),
    /// A store has applied a joint change, and a strike waits for it (see
    /// [`crate::nemesis::joint`]).
    Joint(StoreId),
    /// The next order that follows a split which a follower applies late (see
    /// [`crate::nemesis::late_split`]).
    LateSplit {
        /// The end of the right part's range.
        end: Bytes,
        /// The follower's store.
        store: StoreId,
        /// The orders that are left, with this one.
        orders_left: u32,
    },
    /// All stores but one truncate their logs as far as they can.
    Forget {
        /// The store that is being outrun.
        but: StoreId,
    },
    /// The links of a store that was outrun are mended.
    Outrun {
        /// The store.
        store: StoreId,
        /// The store's links.
        links: Vec<(End, End)>,
    },
}

/// A stage of a rumour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RumourStage {
    /// The followers have caught up with the leader; nobody hears it from now on.
    Begins {
        /// The region.
        region: RegionId,
        /// The region's leader.
        old: StoreId,
    },
    /// The next leader's first entry has reached the others.
    Settles,
    /// The others have caught up with the next leader: a candidate is cut off from it.
    Parts,
    /// The time for the rumour is over.
    Ends,
}

/// A duel as its clients see it: some clients read at the store that led a region, others write
/// through whichever store leads the region now. A store that serves reads under a lease that has
/// ended gives stale answers to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duel {
    /// The region.
    pub region: RegionId,
    /// The store that led the region when the duel began.
    pub old: StoreId,
    /// When the duel ends, in true time.
    pub until: Micros,
}

/// An ambush: when a candidate asks for votes, the other voters are cut off from the leader whose
/// lease they have just confirmed. See [`crate::nemesis::ambush`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambush {
    /// The region.
    pub region: RegionId,
    /// The region's leader.
    pub leader: StoreId,
    /// The voter that is cut off from the leader and will stand for election.
    pub candidate: StoreId,
    /// The other voters.
    pub voters: Vec<StoreId>,
    /// True if the voters are killed as well; false if they are only cut off from the leader.
    pub kills: bool,
    /// The earliest time: the candidate's election timeout is over by then.
    pub from: Micros,
}

/// The stages of a leader's stupor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stupor {
    /// The leader's thread stops.
    Begins,
    /// Clients ask the leader; then its thread goes on.
    Ends,
}

/// What can happen. An event of a process names the process's life; an event of an earlier life has
/// no effect.
#[derive(Clone, Debug)]
pub enum Event {
    /// A store's thread looks at its inbox and its clock.
    Wake {
        /// The store.
        store: StoreId,
        /// The store's life.
        life: u32,
        /// The time for which the event was planned; a later plan replaces an earlier one.
        at: Micros,
    },
    /// A store's log is synced.
    Synced {
        /// The store.
        store: StoreId,
        /// The store's life.
        life: u32,
    },
    /// The work on a message is done, and the message leaves.
    Depart {
        /// The store that sends it.
        store: StoreId,
        /// The store's life.
        life: u32,
        /// The message.
        packet: Box<Packet>,
    },
    /// The next step of a read under a permit is due.
    PermitRead {
        /// The store.
        store: StoreId,
        /// The store's life.
        life: u32,
        /// The read.
        id: RequestId,
    },
    /// A store's disk thread has finished a step.
    Disk {
        /// The store.
        store: StoreId,
        /// The store's life.
        life: u32,
    },
    /// A snapshot's rows are to be read and sent.
    SendSnapshot {
        /// The sending store.
        store: StoreId,
        /// The store's life.
        life: u32,
        /// The envelope of the snapshot message.
        envelope: Box<Envelope>,
        /// The receiving store.
        to: StoreId,
        /// The number of the checkpoint whose view is read.
        number: u64,
    },
    /// A report for a store's worker.
    Report {
        /// The store.
        store: StoreId,
        /// The store's life.
        life: u32,
        /// The report.
        input: Box<Input>,
    },
    /// A store's heartbeat was not answered in time.
    HeartbeatLate {
        /// The store.
        store: StoreId,
        /// The store's life.
        life: u32,
        /// The heartbeat's number.
        number: u64,
    },
    /// A call to the placement driver goes on, or is given up.
    PdCall {
        /// The process that calls.
        caller: End,
        /// The call's number.
        call: u64,
    },
    /// A message arrives.
    Arrive(Box<Packet>),
    /// A connection's event.
    Conn(ConnEvent),
    /// A process's driver reports that it could not send to another process.
    Unreachable {
        /// The process that is told.
        end: End,
        /// The process that was to be reached.
        of: End,
    },
    /// The placement driver's clock ticks.
    PdTick {
        /// The member.
        node: u32,
        /// The placement driver's life.
        life: u32,
    },
    /// The placement driver's log is synced.
    PdSynced {
        /// The member.
        node: u32,
        /// The placement driver's life.
        life: u32,
    },
    /// The sending of a snapshot of the placement driver has ended.
    PdSnapshotSent {
        /// The sender.
        node: u32,
        /// The sender's life.
        life: u32,
        /// The receiver.
        member: u64,
        /// True if the receiver took it.
        is_ok: bool,
    },
    /// The placement driver's checkpoint is done.
    PdDisk {
        /// The member.
        node: u32,
        /// The placement driver's life.
        life: u32,
        /// The applied index that the checkpoint covers.
        applied: u64,
    },
    /// A client acts.
    Client {
        /// The client.
        client: u32,
        /// Why the client acts.
        wake: ClientWake,
    },
    /// The administrator acts.
    Admin(AdminWake),
    /// The world looks at every region (see [`crate::looks`]).
    Look,
    /// The nemesis acts.
    Nemesis(PlannedAct),
    /// The clients of a duel ask again.
    Duel(Duel),
    /// A fault ends, or goes on to its next stage.
    Relief(Relief),
    /// A crashed process starts again.
    Restart {
        /// The process.
        end: End,
        /// The life that ended.
        life: u32,
    },
}
