//! The scripts of the sweep: what happens to a store while its disk is made to fail. A script is
//! data; [`super::world`] carries out its acts.

use flotilla_types::{Epoch, KeyRange, Member, PeerId, Region, RegionId, StoreId};

/// One act of a script.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// This many ticks pass.
    Ticks(u64),
    /// This many writes, one after the other.
    Puts(u64),
    /// This many entries, as fast as the leader appends them.
    Fill(u64),
    /// This many writes at once.
    Burst(u64),
    /// An order of the placement driver for the region of the first key.
    Order(Order),
    /// The swept store's checkpoints are delayed from now on.
    Hold,
    /// The delayed checkpoint is carried out, and later checkpoints are no longer delayed.
    Release,
    /// The swept store's log deletes files that it no longer needs.
    Purge,
    /// The links of the swept store are cut (true) or mended (false).
    CutOff(bool),
    /// The swept store stops in good order, and starts again.
    Restart,
}

/// An order of the placement driver.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// A split at this key.
    Split(&'static str),
    /// A new learner on this store (first), with this peer id (second).
    AddLearner(u64, u64),
    /// A promotion of this learner to a voter.
    Promote(u64),
    /// A removal of this peer: a voter becomes a learner, a learner is removed.
    Remove(u64),
    /// A transfer of the leadership to this peer.
    Lead(u64),
}

/// A script, and the region with which it begins.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// The script's name on the command line.
    pub name: &'static str,
    /// What the script is about.
    pub about: &'static str,
    /// The stores on which the first region has voters; the voter on store `n` is peer `10 + n`.
    pub voters: &'static [u64],
    /// The number of the script's points whose recovery is swept, too.
    pub reopened_points: u64,
    /// True if the swept store's first start is swept too.
    pub sweeps_start: bool,
    /// The acts, in order.
    pub acts: &'static [Act],
}

impl Script {
    /// The first region.
    pub fn region(&self) -> Region {
        Region {
            id: RegionId(1),
            range: KeyRange::all(),
            epoch: Epoch::FIRST,
            members: self
                .voters
                .iter()
                .map(|s| Member::voter(PeerId(10 + s), StoreId(*s)))
                .collect(),
        }
    }
}

use Act::{Burst, CutOff, Fill, Hold, Purge, Puts, Release, Restart, Ticks};
use Order::{AddLearner, Lead, Promote, Remove, Split};

const fn order(order: Order) -> Act {
    Act::Order(order)
}

/// All scripts.
pub const SCRIPTS: &[Script] = &[
    Script {
        name: "bootstrap",
        about: "a store's first start, first region, first election and first writes",
        voters: &[1],
        reopened_points: 6,
        sweeps_start: true,
        acts: &[Ticks(3), Puts(4), Restart, Ticks(30), Puts(4)],
    },
    Script {
        name: "apply",
        about: "writes as leader, as follower, and across changes of leader",
        voters: &[1, 2, 3],
        reopened_points: 6,
        sweeps_start: false,
        acts: &[
            Ticks(30),
            order(Lead(11)),
            Ticks(5),
            Puts(60),
            Burst(30),
            order(Lead(12)),
            Ticks(5),
            Puts(60),
            order(Lead(11)),
            Ticks(5),
            CutOff(true),
            Burst(3),
            Ticks(30),
            Puts(5),
            CutOff(false),
            Ticks(30),
            Puts(20),
        ],
    },
    Script {
        name: "checkpoint",
        about: "checkpoints beside writes, early and late",
        voters: &[1],
        reopened_points: 6,
        sweeps_start: false,
        acts: &[
            Ticks(3),
            Puts(15),
            Ticks(60),
            Hold,
            Puts(15),
            Ticks(60),
            Puts(15),
            Release,
            Puts(5),
            Ticks(60),
            Burst(100),
            Ticks(60),
        ],
    },
    Script {
        name: "split",
        about: "cuts as leader and as follower, with the checkpoint at once and late",
        voters: &[1, 2, 3],
        reopened_points: 6,
        sweeps_start: false,
        acts: &[
            Ticks(30),
            order(Lead(11)),
            Ticks(5),
            Puts(10),
            Hold,
            order(Split("k050")),
            Ticks(5),
            Puts(10),
            Release,
            Puts(6),
            order(Lead(12)),
            Ticks(5),
            order(Split("k020")),
            Ticks(5),
            Puts(10),
            Ticks(60),
        ],
    },
    Script {
        name: "install",
        about: "a snapshot comes, and comes again over what is there",
        voters: &[2, 3],
        reopened_points: 6,
        sweeps_start: false,
        acts: &[
            Ticks(30),
            Burst(60),
            Puts(5),
            Hold,
            order(AddLearner(1, 21)),
            Ticks(10),
            Puts(5),
            Release,
            Ticks(10),
            order(Promote(21)),
            Puts(10),
            Ticks(60),
            order(Remove(21)),
            Ticks(10),
            order(Remove(21)),
            Ticks(20),
            Puts(5),
            order(AddLearner(1, 31)),
            Ticks(20),
            order(Promote(31)),
            Puts(10),
            Ticks(60),
        ],
    },
    Script {
        name: "membership",
        about: "the store's peer is removed, late and at once, and others come and go",
        voters: &[1, 2, 3],
        reopened_points: 6,
        sweeps_start: false,
        acts: &[
            Ticks(30),
            order(Lead(11)),
            Ticks(5),
            Puts(8),
            order(Remove(13)),
            Ticks(10),
            order(Remove(13)),
            Ticks(10),
            Puts(4),
            order(AddLearner(3, 23)),
            Ticks(20),
            order(Promote(23)),
            Ticks(5),
            Puts(4),
            order(Lead(12)),
            Ticks(10),
            Hold,
            order(Remove(11)),
            Ticks(10),
            order(Remove(11)),
            Ticks(10),
            Puts(4),
            Release,
            Ticks(10),
            order(AddLearner(1, 21)),
            Ticks(20),
            order(Promote(21)),
            Ticks(10),
            Puts(8),
        ],
    },
    Script {
        name: "truncation",
        about: "a long log is caught up with, truncated, filled again and purged",
        voters: &[1, 2, 3],
        reopened_points: 2,
        sweeps_start: false,
        acts: &[
            Ticks(30),
            order(Lead(12)),
            Ticks(5),
            CutOff(true),
            Ticks(10),
            Fill(1_320),
            CutOff(false),
            Ticks(80),
            Purge,
            Puts(20),
            CutOff(true),
            Fill(300),
            CutOff(false),
            Ticks(80),
            Purge,
            Puts(20),
            Purge,
            Restart,
            Ticks(30),
            Puts(10),
            Purge,
        ],
    },
];
