//! The kinds of faults ([`Act`]), and the list of those that a seed plans ([`PlannedAct`]).
//!
//! Each planned act has dice of its own, so that an act that is left out changes no other act. What
//! an act does is in [`crate::nemesis`].

use flotilla_types::dice::Dice;
use serde::{Deserialize, Serialize};

use crate::time::{MS, Micros};

macro_rules! acts {
    ($($(#[$doc:meta])* $act:ident $mark:literal)*) => {
        /// The kinds of faults and orders that the nemesis can choose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// Breaks some connections.
    ConnReset "connections broken by chance"
    /// Takes most of their bandwidth from some links for a while.
    SlowLink "links slowed"
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
    /// Suspends a machine: its process, its disk and what arrives wait.
    Suspend "machines suspended"
    /// Asks one store for more than it can serve at once.
    Flood "floods of requests"
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
    /// Lets a voter learn of a later term from the answer to a message that it sent long ago, while
    /// a leader's lease rests on the voter.
    Rumour "rumours spread"
    /// Orders a peer to another store, and strikes stores in the middle of the change.
    Joint "joint changes to be struck"
    /// Lets a follower apply a split when the right part is gone from its store.
    LateSplit "splits held up"
    /// Kills the placement driver, which comes back with healing.
    GonePd "placement driver gone until healing"
    /// Copies the placement driver's disk, and later puts the copy in the disk's place.
    OldPd "copies of the placement driver's directory"
    /// Removes a member of the placement driver, whose machine may be gone, and adds another.
    ReplacePd "members of the placement driver replaced"
}

/// An act of the nemesis that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedAct {
    /// When, in microseconds of true time.
    pub at: Micros,
    /// What.
    pub act: Act,
    /// The seed of the dice by which the act chooses its victims and its details.
    pub seed: u64,
}

/// Which faults a seed has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultScenario {
    /// The kinds of acts that this seed has.
    pub kinds: Vec<Act>,
    /// The acts, in the order of time.
    pub acts: Vec<PlannedAct>,
    /// The longest time that a fault lasts.
    pub fault_max: Micros,
    /// True if a crash loses what was not synced; false if only the process dies.
    pub power_loss: bool,
}

impl Default for FaultScenario {
    fn default() -> FaultScenario {
        let fault_max = 2_000 * MS;
        FaultScenario { kinds: vec![], acts: vec![], fault_max, power_loss: true }
    }
}

impl FaultScenario {
    /// The faults of a seed whose first phase lasts `safety`.
    pub(super) fn draw(dice: &mut Dice, safety: Micros) -> FaultScenario {
        let drawn = Act::ALL.iter().copied().filter(|act| *act != Act::OldPd);
        let kinds: Vec<Act> = drawn.filter(|act| dice.chance(how_often(*act))).collect();
        let act_max = dice.between(500, 4_000) * MS;
        FaultScenario {
            fault_max: dice.between(500, 8_000) * MS,
            power_loss: dice.chance(800),
            acts: FaultScenario::plan(dice, &kinds, act_max, safety),
            kinds,
        }
    }

    /// Acts at random times up to `safety`, at most `act_max` apart.
    pub(super) fn plan(
        dice: &mut Dice,
        kinds: &[Act],
        act_max: Micros,
        safety: Micros,
    ) -> Vec<PlannedAct> {
        let mut acts = vec![];
        let mut at = dice.between(100 * MS, act_max);
        while let Some(act) = dice.pick(kinds).filter(|_| at < safety).copied() {
            acts.push(PlannedAct { at, act, seed: dice.roll() });
            at += dice.between(100 * MS, act_max);
        }
        acts
    }

    /// Plans copies of the placement driver's directory in some seeds, by dice of their own.
    pub(super) fn plan_copies(&mut self, dice: &mut Dice, safety: Micros) {
        if !dice.chance(OLD_PD) {
            return;
        }
        self.kinds.push(Act::OldPd);
        for _ in 0..dice.between(1, 4) {
            let at = dice.between(1_000 * MS, safety);
            self.acts.push(PlannedAct { at, act: Act::OldPd, seed: dice.roll() });
        }
        self.acts.sort_by_key(|planned| planned.at);
    }

    /// True if the nemesis may carry out this act.
    pub fn has(&self, act: Act) -> bool {
        self.kinds.contains(&act)
    }

    /// True if disks may end for good.
    pub fn ends_disks(&self) -> bool {
        [Act::LoseDisk, Act::DamageDisk, Act::PowerCut].iter().any(|act| self.has(*act))
    }
}

/// The number of seeds in a thousand that have [`Act::OldPd`].
const OLD_PD: u64 = 60;

/// The number of seeds in a thousand that have this act.
fn how_often(act: Act) -> u64 {
    match act {
        Act::LoseDisk | Act::DamageDisk | Act::PowerCut => 150,
        // Most of what the placement driver does would not be seen.
        Act::GonePd => 60,
        _ => 450,
    }
}
