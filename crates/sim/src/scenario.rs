//! What a seed decides before the world begins: its size, and which kinds of faults it has.
//!
//! Swarm testing (Groce et al. 2012): each kind of fault is on in some seeds and off in others, so
//! that one kind does not hide what another would show.

use flotilla_store::core::worker::LogKept;
use flotilla_types::dice::Dice;

use crate::time::{MS, Micros};

/// Stores' clocks run between these rates: local microseconds in a true second. The fastest is
/// 9.9 % ahead of the slowest, within the drift that the lease allows for.
pub const RATES: (u64, u64) = (953_000, 1_047_000);

macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident $mark:literal)*) => {
        /// What the nemesis may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Act {
            $($(#[$doc])* $act,)*
        }

        impl Act {
            /// All acts, in the order in which they are drawn.
            pub const ALL: &'static [Act] = &[$(Act::$act,)*];

            /// What is counted when it is carried out.
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
    /// Kills stores soon after they have changed the shape of a region.
    Strike "strikes prepared"
    /// Takes the power of all stores, and one of their disks for good.
    PowerCut "power cuts"
    /// Stops a store's thread for a while.
    Pause "pauses"
    /// Changes the rate of a store's clock.
    ClockRate "clock rates changed"
    /// Makes a store's clock jump forward; with it, clocks begin anywhere.
    ClockJump "clocks that jumped"
    /// Makes syncs slow for a while.
    DiskStall "disk stalls"
    /// Makes the next write to a store's log fail, or its next sync.
    LogError "log errors planned"
    /// Makes a store's next checkpoint fail.
    CheckpointError "checkpoint errors planned"
    /// Leaves a store's disk without room for a while.
    DiskFull "disks full"
    /// Takes a store's disk away for good.
    LoseDisk "disks lost"
    /// Damages a store's disk, which the store finds when it is started.
    DamageDisk "disks damaged"
    /// Cuts one end off from all others.
    Isolate "partitions: one alone"
    /// Cuts the ends into two groups.
    Halves "partitions: two groups"
    /// Each store reaches only its neighbours in a ring.
    Ring "partitions: a ring"
    /// Cuts some links in one direction.
    OneWay "partitions: one way"
    /// Holds up what travels over some links.
    Clog "links clogged"
    /// Cuts some links one by one and mends them in another order.
    Swizzle "links swizzled"
    /// Kills the placement driver.
    CrashPd "placement driver crashes"
    /// Moves a region's leadership.
    Transfer "orders: leadership moved"
    /// Moves a store's leaderships and makes it deaf to other stores at once.
    TransferAway "orders: leaderships moved away"
    /// The same, and clients see to it that a lease kept over the transfer is noticed.
    TransferWatched "orders: leaderships moved away and watched"
    /// Restarts voters in the moment in which a candidate asks for their votes.
    Ambush "ambushes laid"
    /// Makes a follower stand for election beside a leader that the other voters hear.
    Duel "duels begun"
    /// Stops a leader's thread while answers to it are under way.
    Stupor "leaders stupefied"
    /// Cuts a region.
    Split "orders: region cut"
    /// Moves a peer to another store.
    MovePeer "orders: peer moved"
    /// Removes a peer; the placement driver will add another.
    RemovePeer "orders: peer removed"
    /// Removes a peer that is handed the leadership at the same time.
    RemoveHeir "orders: heir removed"
    /// Empties a store for a while.
    Drain "orders: store drained"
    /// Cuts a store off while all others forget what they can of their logs.
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
    /// How often in a thousand a client avoids a store for no reason.
    pub wander: u64,
    /// Writes in a hundred that are sent again if their outcome is not known.
    pub repeats_percent: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// A region over this is cut.
    pub region_bytes_max: u64,
    /// A checkpoint begins at this many bytes.
    pub checkpoint_bytes: usize,
    /// A region in which nothing happened for this long is quiescent.
    pub idle_ms: u64,
    /// How many entries logs keep; few in some seeds, so that followers need snapshots often.
    pub log_kept: LogKept,
    /// The greatest time between two calls of a client.
    pub think_max: Micros,
    /// A store silent for longer is down, for the placement driver.
    pub down_after_ms: u64,
    /// A store silent for longer gets no peers and no leaders.
    pub disconnected_after_ms: u64,
    /// The greatest time between two acts of the nemesis.
    pub act_max: Micros,
    /// How long faults last at most.
    pub fault_max: Micros,
    /// Acts that this seed has.
    pub acts: Vec<Act>,
    /// Crashed processes lose what was not synced; otherwise only the process dies.
    pub power_loss: bool,
    /// The network.
    pub net: NetScenario,
    /// The disks.
    pub disk: DiskScenario,
    /// The time in which anything may fail.
    pub safety: Micros,
    /// The time within which every key must be readable and writable after everything is healed.
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

    /// True if the nemesis may do this.
    pub fn has(&self, act: Act) -> bool {
        self.acts.contains(&act)
    }
}

fn acts(dice: &mut Dice) -> Vec<Act> {
    Act::ALL.iter().copied().filter(|act| dice.chance(how_often(*act))).collect()
}

/// Steps of checkpoints that a client may have to wait for, one after another, beside all else: new
/// regions are cut while the last calls go on, each speaks when its state is durable, and the disk
/// takes one snapshot after the other.
const DISK_STEPS: u64 = 40;

/// In how many of a thousand seeds there is an act.
fn how_often(act: Act) -> u64 {
    match act {
        Act::LoseDisk | Act::DamageDisk | Act::PowerCut => 150,
        _ => 450,
    }
}

/// In some seeds so few that a checkpoint is due whenever none runs.
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
