//! The scenario: what a seed decides before the world begins, namely sizes, timings, and which
//! kinds of faults the seed has.
//!
//! Swarm testing (Groce et al. 2012): each kind of fault is on in some seeds and off in others, so
//! that one kind does not hide what another would show. When and to whom a fault happens is decided
//! in [`crate::nemesis`].

use flotilla_store::core::worker::LogKept;
use flotilla_types::dice::Dice;

use crate::time::{MS, Micros};

/// The range of clock rates, in local microseconds per true second. The fastest clock is 9.9 %
/// ahead of the slowest, within the drift that the lease allows for.
pub const RATES: (u64, u64) = (953_000, 1_047_000);

macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident $mark:literal)*) => {
        /// The kinds of faults and orders that the nemesis can choose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Act {
            $($(#[$doc])* $act,)*
        }

        impl Act {
            /// All acts, in the order in which a scenario draws them.
            pub const ALL: &'static [Act] = &[$(Act::$act,)*];

            /// The name of the counter of this act.
            pub const fn mark(self) -> &'static str {
                match self {
                    $(Act::$act => $mark,)*
                }
            }
        }
    };
}

acts! {
    /// Kills a store.
    CrashOne "crashes of one"
    /// Kills most stores.
    CrashMajority "crashes of several"
    /// Kills all stores at once.
    CrashAll "crashes of all"
    /// Kills a store whenever it has just started, several times.
    RestartStorm "restart storms"
    /// Kills stores soon after they have changed the shape of a region, or as a checkpoint ends.
    Strike "strikes prepared"
    /// Cuts the power of all stores; one of the disks is lost for good.
    PowerCut "power cuts"
    /// Stops a store's thread for a while.
    Pause "pauses"
    /// Changes the rate of a store's clock.
    ClockRate "clock rates changed"
    /// Makes a store's clock jump forward. In seeds with this act, clocks begin at any value.
    ClockJump "clocks that jumped"
    /// Makes syncs slow for a while.
    DiskStall "disk stalls"
    /// Makes the next write or sync of a store's log fail.
    LogError "log errors planned"
    /// Makes a store's next checkpoint fail.
    CheckpointError "checkpoint errors planned"
    /// Leaves a store's disk without room for a while.
    DiskFull "disks full"
    /// Loses a store's disk for good.
    LoseDisk "disks lost"
    /// Damages a store's disk; the store finds the damage when it starts.
    DamageDisk "disks damaged"
    /// Cuts one endpoint off from all others.
    Isolate "partitions: one alone"
    /// Cuts the endpoints into two groups.
    Halves "partitions: two groups"
    /// Each store reaches only its neighbours in a ring.
    Ring "partitions: a ring"
    /// Cuts some links in one direction.
    OneWay "partitions: one way"
    /// Delays what travels over some links.
    Clog "links clogged"
    /// Cuts some links one by one and mends the links in another order.
    Swizzle "links swizzled"
    /// Kills the placement driver.
    CrashPd "placement driver crashes"
    /// Orders a region's leadership to another store.
    Transfer "orders: leadership moved"
    /// Orders a store's leaderships to other stores and cuts the links to the store at once.
    TransferAway "orders: leaderships moved away"
    /// As `TransferAway`; clients keep reading at the store, so that a lease that outlives the
    /// transfer is noticed.
    TransferWatched "orders: leaderships moved away and watched"
    /// Restarts voters in the moment in which a candidate asks for their votes.
    Ambush "ambushes laid"
    /// Makes a follower stand for election while the other voters still follow the leader.
    Duel "duels begun"
    /// Stops a leader's thread while its followers' answers are under way.
    Stupor "leaders stupefied"
    /// Orders a split of a region.
    Split "orders: region cut"
    /// Orders a peer to another store.
    MovePeer "orders: peer moved"
    /// Orders a peer's removal; the placement driver will add another peer.
    RemovePeer "orders: peer removed"
    /// Orders the removal of a peer that becomes the leader at the same time.
    RemoveHeir "orders: heir removed"
    /// Drains a store for a while.
    Drain "orders: store drained"
    /// Cuts a store off while all other stores truncate their logs, so that the store needs
    /// snapshots.
    Outrun "stores outrun"
}

/// How links treat messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetScenario {
    /// The least delay one way.
    pub delay_min: Micros,
    /// The greatest usual delay.
    pub delay_max: Micros,
    /// Messages in a thousand that take up to fifty times as long.
    pub spikes: u64,
    /// Raft messages in a thousand that are lost.
    pub loss: u64,
    /// Raft messages and heartbeats in a thousand that arrive twice.
    pub duplicates: u64,
    /// Requests and replies in a thousand that are lost.
    pub rpc_loss: u64,
    /// True if a message may overtake another on its link.
    pub reorders: bool,
}

/// How disks behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskScenario {
    /// The least time of a sync.
    pub sync_min: Micros,
    /// The greatest usual time of a sync.
    pub sync_max: Micros,
    /// The greatest time of a step of a checkpoint.
    pub step_max: Micros,
}

/// What a seed decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Number of stores.
    pub stores: u64,
    /// Voters of each region.
    pub replica_count: u64,
    /// Number of clients.
    pub clients: u32,
    /// Number of keys.
    pub keys: u16,
    /// Calls in a hundred that go to one of the first four keys.
    pub hot_percent: u64,
    /// Attempts in a thousand for which a client avoids a store without cause.
    pub wander: u64,
    /// Writes in a hundred that their client may repeat while the outcome is not known.
    pub repeats_percent: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// A region of more bytes than this is split.
    pub region_bytes_max: u64,
    /// A checkpoint begins once this many bytes are buffered.
    pub checkpoint_bytes: usize,
    /// A region is quiescent after this long without activity.
    pub idle_ms: u64,
    /// How many entries logs keep. Few in some seeds, so that followers often need snapshots.
    pub log_kept: LogKept,
    /// The greatest time between two calls of a client.
    pub think_max: Micros,
    /// The placement driver takes a store for down this long after the store's last heartbeat.
    pub down_after_ms: u64,
    /// The placement driver gives a store no peers and no leaders this long after the store's last
    /// heartbeat.
    pub disconnected_after_ms: u64,
    /// The greatest time between two acts of the nemesis.
    pub act_max: Micros,
    /// The longest time that a fault lasts.
    pub fault_max: Micros,
    /// The acts that this seed has.
    pub acts: Vec<Act>,
    /// True if a crash loses what was not synced; false if only the process dies.
    pub power_loss: bool,
    /// The network.
    pub net: NetScenario,
    /// The disks.
    pub disk: DiskScenario,
    /// The length of the first phase, in which anything may fail.
    pub safety: Micros,
    /// How long after healing every key must be readable and writable.
    pub liveness: Micros,
}

impl Scenario {
    /// What `seed` decides.
    pub fn draw(seed: u64) -> Scenario {
        let mut dice = Dice::new(seed ^ 0x5ce9_a210);
        let stores = dice.between(3, 6);
        let replica_count = if stores == 5 && dice.chance(250) { 5 } else { 3 };
        let acts = acts(&mut dice);
        let ends_disks =
            acts.iter().any(|act| matches!(act, Act::LoseDisk | Act::DamageDisk | Act::PowerCut));
        let patience: &[u64] = if ends_disks { &[6_000] } else { &[6_000, 15_000, 1_000_000] };
        let mut scenario = Scenario {
            seed,
            stores,
            replica_count,
            clients: dice.between(7, 15) as u32,
            keys: dice.between(24, 61) as u16,
            hot_percent: dice.between(0, 80),
            wander: if dice.chance(600) { dice.between(0, 400) } else { 0 },
            repeats_percent: if dice.chance(400) { dice.between(5, 101) } else { 0 },
            value_bytes: dice.between(16, 200) as usize,
            region_bytes_max: dice.between(300, 1_500),
            checkpoint_bytes: checkpoint_bytes(&mut dice),
            idle_ms: if dice.chance(700) { dice.between(200, 3_000) } else { u64::MAX },
            log_kept: log_kept(&mut dice),
            think_max: if dice.chance(150) { 10 } else { 1 } * dice.between(5, 80) * MS,
            down_after_ms: *dice.pick(patience).unwrap_or(&6_000),
            disconnected_after_ms: 3_000,
            act_max: dice.between(500, 4_000) * MS,
            fault_max: dice.between(500, 8_000) * MS,
            acts,
            power_loss: dice.chance(800),
            net: net(&mut dice),
            disk: disk(&mut dice),
            safety: 40_000 * MS,
            liveness: 40_000 * MS,
        };
        scenario.liveness += DISK_STEPS * scenario.disk.step_max;
        scenario
    }

    /// True if the nemesis may carry out this act.
    pub fn has(&self, act: Act) -> bool {
        self.acts.contains(&act)
    }
}

fn acts(dice: &mut Dice) -> Vec<Act> {
    Act::ALL.iter().copied().filter(|act| dice.chance(how_often(*act))).collect()
}

/// Steps of checkpoints that a call may have to wait for, one after another: regions are split
/// while the last calls go on, each new region serves once its state is durable, and the disk
/// thread takes one snapshot after the other.
const DISK_STEPS: u64 = 40;

/// The number of seeds in a thousand that have this act.
fn how_often(act: Act) -> u64 {
    match act {
        Act::LoseDisk | Act::DamageDisk | Act::PowerCut => 150,
        _ => 450,
    }
}

/// Some seeds draw so few bytes that a checkpoint is due whenever none runs.
fn checkpoint_bytes(dice: &mut Dice) -> usize {
    let (least, most) = if dice.chance(300) { (400, 1_000) } else { (2_000, 60_000) };
    dice.between(least, most) as usize
}

fn log_kept(dice: &mut Dice) -> LogKept {
    if dice.chance(400) {
        return LogKept::default();
    }
    let entries = dice.between(0, 20);
    LogKept {
        entries,
        entries_for_absent: entries + dice.between(0, 40),
        truncate_entries_min: dice.between(1, 10),
    }
}

fn net(dice: &mut Dice) -> NetScenario {
    let delay_min = dice.between(100, 5_000);
    let mut rare = |on: u64, most: u64| if dice.chance(on) { dice.between(1, most) } else { 0 };
    let (spikes, loss) = (rare(400, 30), rare(500, 150));
    let (duplicates, rpc_loss) = (rare(500, 200), rare(400, 50));
    NetScenario {
        delay_min,
        delay_max: delay_min + dice.between(100, 20_000),
        spikes,
        loss,
        duplicates,
        rpc_loss,
        reorders: dice.chance(500),
    }
}

fn disk(dice: &mut Dice) -> DiskScenario {
    let sync_min = dice.between(50, 3_000);
    DiskScenario {
        sync_min,
        sync_max: sync_min + dice.between(100, 15_000),
        step_max: if dice.chance(200) { 4 } else { 1 } * dice.between(1_000, 500_000),
    }
}
