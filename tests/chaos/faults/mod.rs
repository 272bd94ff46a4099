//! The faults: their names, and what each does from its beginning to its end.
//!
//! * [`processes`]: servers that are killed, stopped and restarted.
//! * [`network`]: links that are cut, slow, reset, or lose what they are sent.
//! * [`disks`]: disks that are slow, full, or fail.
//! * [`orders`]: an administrator's orders, many at once; a store whose disk is lost.
//!
//! A fault counts only when its effect was seen: a process that ended by the signal, a stream that
//! met the cut, an order that was taken.

pub mod disks;
pub mod network;
pub mod orders;
pub mod processes;

use std::time::Duration;

use flotilla_types::dice::Dice;

use crate::cluster::Cluster;

/// What is done to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillStore,
    KillMajority,
    KillAll,
    KillPd,
    KillPdLeader,
    PauseStore,
    PauseMajority,
    PausePdLeader,
    RollingRestart,
    Upgrade,
    CutOneWay,
    CutMinority,
    CutMajority,
    CutRing,
    CutClients,
    Delay,
    Throttle,
    Reset,
    BlackHole,
    SplitStorm,
    MoveStorm,
    TransferStorm,
    Drain,
    DiskSlow,
    DiskFull,
    DiskFails,
    DiskFlips,
    PowerLoss,
    WipeDisk,
    OldCopy,
}

/// A fault's name on the command line, and in a few words what it is.
type Description = (Fault, &'static str, &'static str);

/// All faults.
pub const ALL: &[Description] = &[
    (Fault::KillStore, "kill-store", "kill -9 of a store, and its restart"),
    (Fault::KillMajority, "kill-majority", "kill -9 of three of five stores at once"),
    (Fault::KillAll, "kill-all", "kill -9 of all stores and placement drivers at once"),
    (Fault::KillPd, "kill-pd", "kill -9 of a member of the placement driver"),
    (Fault::KillPdLeader, "kill-pd-leader", "kill -9 of the leading member"),
    (Fault::PauseStore, "pause-store", "SIGSTOP of a store for longer than a lease"),
    (Fault::PauseMajority, "pause-majority", "SIGSTOP of three of five stores"),
    (Fault::PausePdLeader, "pause-pd-leader", "SIGSTOP of the leading placement driver"),
    (Fault::RollingRestart, "rolling-restart", "SIGTERM and start of each store in turn"),
    (Fault::Upgrade, "upgrade", "the same with --other-binary, or back; off without it"),
    (Fault::CutOneWay, "cut-one-way", "what a store sends some others is held, or what they send"),
    (Fault::CutMinority, "cut-minority", "one or two stores and a placement driver apart"),
    (Fault::CutMajority, "cut-majority", "three stores, each apart from all servers"),
    (Fault::CutRing, "cut-ring", "each store reaches two others only"),
    (Fault::CutClients, "cut-clients", "clients do not reach some servers"),
    (Fault::Delay, "delay", "links of a store or of all carry later"),
    (Fault::Throttle, "throttle", "links of a store or of all carry few bytes in a second"),
    (Fault::Reset, "reset", "connections of a store are reset again and again"),
    (Fault::BlackHole, "black-hole", "links of a store take what they are sent, and lose it"),
    (Fault::SplitStorm, "split-storm", "regions are split by order"),
    (Fault::MoveStorm, "move-storm", "replicas are moved by order"),
    (Fault::TransferStorm, "transfer-storm", "leaders change by order, each region several times"),
    (Fault::Drain, "drain", "a store is drained, and taken back into service"),
    (Fault::DiskSlow, "disk-slow", "each sync of a store's disk takes longer"),
    (Fault::DiskFull, "disk-full", "writes to a store's disk fail: it is full"),
    (Fault::DiskFails, "disk-fails", "syncs of a store's disk fail"),
    (Fault::DiskFlips, "disk-flips", "a store's disk reads a wrong bit now and then; off"),
    (Fault::PowerLoss, "power-loss", "a store, or all at once, lose what was not synced"),
    (Fault::WipeDisk, "wipe-disk", "a store and its disk are lost, and another one joins"),
    (Fault::OldCopy, "old-copy", "a directory is replaced by an old copy; off unless named"),
];

/// Why some faults happen only if they are named.
pub const OFF_BECAUSE: &[(Fault, &str)] = &[
    (
        Fault::OldCopy,
        "a store does not tell yet that its directory is an old copy, so it may vote twice in a \
         term and lose what it acknowledged; it is named to see that",
    ),
    (
        Fault::DiskFlips,
        "rows have no checksum of their own yet, so a store may tell a wrong value; it is named \
         to see that",
    ),
];

impl Fault {
    /// The fault of this name.
    pub fn of_name(name: &str) -> Option<Fault> {
        ALL.iter().find(|(_, known, _)| *known == name).map(|(fault, ..)| *fault)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(fault, ..)| *fault == self).map_or("?", |(_, name, _)| name)
    }

    /// True unless it has to be named.
    pub fn is_on(self, cluster: &Cluster) -> bool {
        let is_off = OFF_BECAUSE.iter().any(|(fault, _)| *fault == self);
        match self {
            Fault::Upgrade => cluster.other_binary.is_some(),
            Fault::DiskSlow | Fault::DiskFull | Fault::DiskFails | Fault::PowerLoss => {
                cluster.has_disks()
            }
            _ => !is_off,
        }
    }
}

/// How a fault ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its effect was seen, and is told in words.
    Seen(String),
    /// It did what it does, and nobody noticed.
    Unseen(String),
    /// It did nothing, because another fault has what it needs or the cluster is not fit for it.
    Skipped(String),
}

/// One fault: its number in the run, its dice, and the cluster that it is done to.
pub struct Case<'a> {
    /// The number.
    pub number: u64,
    /// The kind.
    pub fault: Fault,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// What chance decides.
    pub dice: Dice,
}

impl Case<'_> {
    /// A time between these, in milliseconds.
    pub fn time(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.dice.between(low, high))
    }

    /// So many of these names.
    pub fn some(&mut self, mut names: Vec<String>, count: usize) -> Vec<String> {
        self.dice.shuffle(&mut names);
        names.truncate(count);
        names
    }

    /// Notes what the fault does.
    pub fn note(&self, what: &str) {
        let (number, name) = (self.number, self.fault.name());
        self.cluster.timeline.note(format!("fault {number} {name}: {what}"));
    }
}

/// Does it from its beginning to its end, after which nothing of it is left but what the cluster
/// has to recover from.
pub async fn carry_out(mut case: Case<'_>) -> Ended {
    let case = &mut case;
    match case.fault {
        Fault::KillStore => processes::kill_stores(case, 1).await,
        Fault::KillMajority => processes::kill_stores(case, 3).await,
        Fault::KillAll => processes::kill_all(case).await,
        Fault::KillPd => processes::kill_pd(case, false).await,
        Fault::KillPdLeader => processes::kill_pd(case, true).await,
        Fault::PauseStore => processes::pause_stores(case, 1).await,
        Fault::PauseMajority => processes::pause_stores(case, 3).await,
        Fault::PausePdLeader => processes::pause_pd_leader(case).await,
        Fault::RollingRestart => processes::rolling_restart(case).await,
        Fault::Upgrade => processes::upgrade(case).await,
        Fault::CutOneWay
        | Fault::CutMinority
        | Fault::CutMajority
        | Fault::CutRing
        | Fault::CutClients
        | Fault::Delay
        | Fault::Throttle
        | Fault::BlackHole => network::lay(case).await,
        Fault::Reset => network::reset(case).await,
        Fault::SplitStorm => orders::splits(case).await,
        Fault::MoveStorm => orders::moves(case).await,
        Fault::TransferStorm => orders::transfers(case).await,
        Fault::Drain => orders::drain(case).await,
        Fault::DiskSlow | Fault::DiskFull | Fault::DiskFails | Fault::DiskFlips => {
            disks::run(case).await
        }
        Fault::PowerLoss => disks::power_loss(case).await,
        Fault::WipeDisk => orders::wipe(case).await,
        Fault::OldCopy => processes::old_copy(case).await,
    }
}
