//! What can happen, and what travels over the network: plain values.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::part::PartId;
use flotilla_store::core::{Answer, Input, Op};
use flotilla_types::proto::{self, Envelope};
use flotilla_types::{Epoch, RegionError, RegionId, StoreId};

use crate::time::Micros;

/// Whoever is on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A store.
    Store(StoreId),
    /// The placement driver.
    Pd,
    /// A client.
    Client(u32),
}

impl End {
    /// A number for the trace.
    pub fn number(self) -> u64 {
        match self {
            End::Store(store) => store.0,
            End::Pd => 1 << 32,
            End::Client(client) => (2 << 32) + u64::from(client),
        }
    }
}

/// Names one attempt of a client's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId {
    /// Whose.
    pub client: u32,
    /// Unique at the client.
    pub number: u64,
}

/// A request as a store's server gets it.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// Comes back with the reply.
    pub attempt: AttemptId,
    /// The region it was routed to.
    pub region: RegionId,
    /// The epoch by which it was routed.
    pub epoch: Epoch,
    /// How long the store may take.
    pub timeout_ms: u64,
    /// What is asked.
    pub op: Op,
}

/// Who asked the placement driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A store's process, by its heartbeat's number.
    Heartbeat {
        /// The store.
        store: StoreId,
        /// Its life.
        life: u32,
        /// The heartbeat.
        number: u64,
    },
    /// A client's lookup.
    Lookup {
        /// The client.
        client: u32,
        /// The lookup.
        number: u64,
    },
    /// The nemesis, which wants no answer.
    Nemesis,
}

/// Rows of a snapshot: state keys and stored values.
pub type Rows = Arc<Vec<(Bytes, Bytes)>>;

/// What a message carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// Raft traffic.
    Envelope(Box<Envelope>),
    /// A snapshot with its rows.
    Snapshot {
        /// Carries the snapshot message.
        envelope: Box<Envelope>,
        /// The rows.
        rows: Rows,
        /// The sender's life, to which the end is reported.
        life: u32,
    },
    /// How a snapshot's transfer ended, for its sender.
    SnapshotTaken {
        /// The sender's life.
        life: u32,
        /// What to report.
        input: Box<Input>,
    },
    /// A client asks a store.
    Request(Box<ClientRequest>),
    /// A store answers.
    Reply {
        /// Which attempt.
        attempt: AttemptId,
        /// What.
        result: Box<Result<Answer, RegionError>>,
    },
    /// The connection of an attempt failed.
    Broken {
        /// Which attempt.
        attempt: AttemptId,
        /// How, as the client's driver would tell it.
        failure: Box<Failure>,
    },
    /// Somebody asks the placement driver.
    PdRequest {
        /// Who.
        asker: Asker,
        /// What.
        request: Box<proto::PdRequest>,
    },
    /// The placement driver answers; None if it could not be reached.
    PdReply {
        /// Whom.
        asker: Asker,
        /// What.
        reply: Option<Box<proto::PdReply>>,
    },
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Who sent it.
    pub from: End,
    /// Whom it is for.
    pub to: End,
    /// What it carries.
    pub body: Body,
}

/// What makes a client act.
#[derive(Clone, Debug)]
pub enum ClientWake {
    /// The time between two calls is over.
    Begin,
    /// An attempt took too long.
    GiveUp(u64),
    /// A back-off is over.
    Ready {
        /// Of which call.
        call: u64,
        /// The part that waited; None for a scan.
        part: Option<PartId>,
    },
    /// A lookup took too long.
    LookupLate(u64),
}

/// The end of a fault, or its second half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relief {
    /// These links work again.
    Links(Vec<(End, End)>),
    /// The other way round: these links do not work any more.
    CutOff(Vec<(End, End)>),
    /// The store is set to up again.
    Undrain(StoreId),
    /// A store that has just started is killed again.
    Crash(StoreId),
    /// Disks are fast again.
    Disks,
    /// The placement driver's disk has room again.
    PdRoom,
    /// A store's disk has room again.
    Room(StoreId),
    /// An empty store takes the place of one whose disk has ended.
    Replacement,
    /// A leader's stupor goes on.
    Stupor {
        /// Of this region.
        region: RegionId,
        /// Whose.
        leader: StoreId,
        /// When it wakes.
        until: Micros,
        /// What comes now.
        stage: Stupor,
    },
    /// A candidate stands for election before voters that are killed in this moment.
    Ambush(Ambush),
    /// It has not: the leader and the candidate hear each other again.
    NoAmbush(Vec<(End, End)>),
    /// Followers have what the leader has: one of them is cut off.
    Duel {
        /// Of this region.
        region: RegionId,
        /// Who leads it.
        leader: StoreId,
    },
    /// All stores but this one forget what they can of their logs.
    Forget {
        /// Which keeps its own.
        but: StoreId,
    },
    /// A store that was outrun hears from the others again.
    Outrun {
        /// Which store.
        store: StoreId,
        /// Its links.
        links: Vec<(End, End)>,
    },
}

/// Clients that stick to the store that led a region, while others write through whoever leads it
/// now: a store that serves reads by a lease that it should not have is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duel {
    /// The region.
    pub region: RegionId,
    /// Who led it when this began.
    pub old: StoreId,
    /// How long it goes on.
    pub until: Micros,
}

/// What befalls voters in the moment in which a candidate asks for their votes: the leader that
/// they had just assured of their support does not hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ambush {
    /// The region.
    pub region: RegionId,
    /// Who leads it.
    pub leader: StoreId,
    /// Who does not hear the leader and will stand for election.
    pub candidate: StoreId,
    /// The other voters.
    pub voters: Vec<StoreId>,
    /// True if the voters are killed; otherwise they only do not hear the leader any more.
    pub kills: bool,
    /// Not before: the candidate shall have lost patience, the others not.
    pub from: Micros,
}

/// A leader's stupor, in its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stupor {
    /// It stops.
    Begins,
    /// Clients ask it; then it wakes.
    Ends,
}

/// What can happen. Events of a process name its life: those of an earlier life are void.
#[derive(Clone, Debug)]
pub enum Event {
    /// A store's thread looks at its inbox and its clock.
    Wake {
        /// Which store.
        store: StoreId,
        /// Its life.
        life: u32,
        /// When it was to wake; another wake-up may have been set since.
        at: Micros,
    },
    /// The log is synced.
    Synced {
        /// Which store.
        store: StoreId,
        /// Its life.
        life: u32,
    },
    /// The disk thread has finished a step.
    Disk {
        /// Which store.
        store: StoreId,
        /// Its life.
        life: u32,
    },
    /// A snapshot's rows are read and sent.
    SendSnapshot {
        /// Which store.
        store: StoreId,
        /// Its life.
        life: u32,
        /// Carries the snapshot message.
        envelope: Box<Envelope>,
        /// To whom.
        to: StoreId,
        /// The checkpoint whose view is read.
        number: u64,
    },
    /// A report for a store's worker.
    Report {
        /// Which store.
        store: StoreId,
        /// Its life.
        life: u32,
        /// The report.
        input: Box<Input>,
    },
    /// A heartbeat was not answered.
    HeartbeatLate {
        /// Which store.
        store: StoreId,
        /// Its life.
        life: u32,
        /// The heartbeat.
        number: u64,
    },
    /// A message arrives.
    Arrive(Box<Packet>),
    /// The placement driver's clock ticks.
    PdTick {
        /// Its life.
        life: u32,
    },
    /// The placement driver's log is synced.
    PdSynced {
        /// Its life.
        life: u32,
    },
    /// The placement driver's checkpoint is done.
    PdDisk {
        /// Its life.
        life: u32,
        /// What it covers.
        applied: u64,
    },
    /// A client acts.
    Client {
        /// Which client.
        client: u32,
        /// Why.
        wake: ClientWake,
    },
    /// The nemesis acts.
    Nemesis,
    /// Clients that stick to a store ask again.
    Duel(Duel),
    /// A fault ends.
    Relief(Relief),
    /// A crashed process starts again.
    Restart {
        /// Which.
        end: End,
        /// The life that ended.
        life: u32,
    },
}
