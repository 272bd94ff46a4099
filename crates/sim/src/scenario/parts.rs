//! Parts of a scenario: the cluster, the clients, the network and the disks.

use flotilla_pd::core::limits::BALANCE_MOVES_MAX;
use flotilla_store::core::worker::LogKept;
use flotilla_types::dice::Dice;
use serde::{Deserialize, Serialize};

use crate::time::{MS, Micros};

/// The greatest time until a snapshot's rows are read, in most seeds.
pub const ROWS_USUAL: Micros = 50 * MS;

/// Snapshots in a thousand that arrive although their sender is told otherwise, in most seeds.
const UNREPORTED_USUAL: u64 = 50;

/// The sizes and settings of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterScenario {
    /// Number of stores.
    pub stores: u64,
    /// Members of the placement driver.
    #[serde(default = "one")]
    pub pds: u32,
    /// Voters of each region.
    pub replica_count: u64,
    /// A region of more bytes than this is split.
    pub region_bytes_max: u64,
    /// A checkpoint begins once this many bytes are buffered.
    pub checkpoint_bytes: usize,
    /// A region is quiescent after this long without activity.
    pub idle_ms: u64,
    /// How many entries logs keep. Few in some seeds, so that followers often need snapshots.
    #[serde(with = "LogKeptFields")]
    pub log_kept: LogKept,
    /// True if the log and the state of each store are those that ship, on a simulated disk.
    pub has_engines: bool,
    /// The placement driver takes a store for down this long after the store's last heartbeat.
    pub down_after_ms: u64,
    /// The placement driver gives a store no peers and no leaders this long after the store's last
    /// heartbeat.
    pub disconnected_after_ms: u64,
    /// One store fewer than a region has voters is there at the beginning; the others come at
    /// random times up to this one. 0: all are there.
    pub late_max: Micros,
    /// How many regions the placement driver moves at once to even the stores out. 0: none, as in
    /// the files of scenarios that failed before it did.
    pub balance_moves_max: usize,
}

/// The fields of [`LogKept`] in a file.
#[derive(Serialize, Deserialize)]
#[serde(remote = "LogKept")]
struct LogKeptFields {
    entries: u64,
    entries_for_absent: u64,
    truncate_entries_min: u64,
}

impl Default for ClusterScenario {
    fn default() -> ClusterScenario {
        ClusterScenario {
            stores: 3,
            pds: 1,
            replica_count: 3,
            region_bytes_max: 1_000,
            checkpoint_bytes: 10_000,
            idle_ms: 1_000,
            log_kept: LogKept::default(),
            has_engines: false,
            down_after_ms: 6_000,
            disconnected_after_ms: 3_000,
            late_max: 0,
            balance_moves_max: 0,
        }
    }
}

impl ClusterScenario {
    /// How many stores are there at the beginning, and how many come later.
    pub fn on_time_and_late(&self) -> (u64, u64) {
        let on_time = if self.late_max == 0 { self.stores } else { self.replica_count - 1 };
        (on_time, self.stores - on_time)
    }

    pub(super) fn draw(dice: &mut Dice, ends_disks: bool) -> ClusterScenario {
        let replica_count = match dice.between(0, 10) {
            0 => 1,
            1..=3 => 5,
            _ => 3,
        };
        let stores = dice.between(replica_count, 8);
        let down_after_ms: &[u64] = if ends_disks { &[6_000] } else { &[6_000, 15_000, 1_000_000] };
        ClusterScenario {
            stores,
            pds: match dice.between(0, 20) {
                0..=6 => 1,
                7 => 5,
                _ => 3,
            },
            replica_count,
            region_bytes_max: dice.between(300, 1_500),
            checkpoint_bytes: checkpoint_bytes(dice),
            idle_ms: if dice.chance(700) { dice.between(200, 3_000) } else { u64::MAX },
            log_kept: log_kept(dice),
            has_engines: false,
            down_after_ms: *dice.pick(down_after_ms).unwrap_or(&6_000),
            disconnected_after_ms: 3_000,
            late_max: if dice.chance(300) { dice.between(500, 6_000) * MS } else { 0 },
            balance_moves_max: 0,
        }
    }

    /// Draws whether regions are evened out, by dice of their own.
    pub(super) fn draw_balance(&mut self, dice: &mut Dice) {
        self.balance_moves_max = match dice.between(0, 10) {
            0..3 => 0,
            3..5 => dice.between(1, 4) as usize,
            _ => BALANCE_MOVES_MAX,
        };
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

/// How many clients there are, and what they do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientScenario {
    /// Number of clients.
    pub count: u32,
    /// Number of keys.
    pub keys: u16,
    /// The number of keys that calls go to once each key was written, evenly spaced; 0 for all.
    pub focus: u16,
    /// Calls in a hundred that go to one of the first four keys.
    pub hot_percent: u64,
    /// Attempts in a thousand for which a client avoids a store without cause.
    pub wander: u64,
    /// Writes in a hundred that their client may repeat while the outcome is not known.
    pub repeats_percent: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// The greatest time between two calls of a client.
    pub think_max: Micros,
}

impl Default for ClientScenario {
    fn default() -> ClientScenario {
        ClientScenario {
            count: 4,
            keys: 24,
            focus: 0,
            hot_percent: 50,
            wander: 0,
            repeats_percent: 0,
            value_bytes: 50,
            think_max: 50 * MS,
        }
    }
}

impl ClientScenario {
    pub(super) fn draw(dice: &mut Dice) -> ClientScenario {
        ClientScenario {
            count: dice.between(7, 15) as u32,
            keys: dice.between(24, 61) as u16,
            focus: 0,
            hot_percent: dice.between(0, 80),
            wander: if dice.chance(600) { dice.between(0, 400) } else { 0 },
            repeats_percent: if dice.chance(400) { dice.between(5, 101) } else { 0 },
            value_bytes: dice.between(16, 200) as usize,
            think_max: if dice.chance(150) { 10 } else { 1 } * dice.between(5, 80) * MS,
        }
    }
}

/// How links treat messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Snapshots in a thousand that arrive although their sender is told otherwise, and sends
    /// them again.
    pub snapshots_unreported: u64,
}

impl Default for NetScenario {
    fn default() -> NetScenario {
        NetScenario {
            delay_min: 200,
            delay_max: 2_000,
            spikes: 0,
            loss: 0,
            duplicates: 0,
            rpc_loss: 0,
            reorders: false,
            snapshots_unreported: UNREPORTED_USUAL,
        }
    }
}

impl NetScenario {
    pub(super) fn draw(dice: &mut Dice) -> NetScenario {
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
            snapshots_unreported: match dice.chance(300) {
                true => dice.between(100, 600),
                false => UNREPORTED_USUAL,
            },
        }
    }
}

/// How disks behave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskScenario {
    /// The least time of a sync.
    pub sync_min: Micros,
    /// The greatest usual time of a sync.
    pub sync_max: Micros,
    /// The greatest time of a step of a checkpoint.
    pub step_max: Micros,
    /// The greatest time from a snapshot's view to the moment in which its rows are read. Long in
    /// some seeds: what the snapshot is for may have changed when it arrives.
    pub rows_max: Micros,
    /// True if a store that starts may find no addresses in its directory, as one does that an
    /// earlier version has left.
    pub forgets_addresses: bool,
}

impl Default for DiskScenario {
    fn default() -> DiskScenario {
        DiskScenario {
            sync_min: 500,
            sync_max: 2_000,
            step_max: 20_000,
            rows_max: ROWS_USUAL,
            forgets_addresses: false,
        }
    }
}

impl DiskScenario {
    pub(super) fn draw(dice: &mut Dice) -> DiskScenario {
        let sync_min = dice.between(50, 3_000);
        DiskScenario {
            sync_min,
            sync_max: sync_min + dice.between(100, 15_000),
            step_max: if dice.chance(200) { 4 } else { 1 } * dice.between(1_000, 500_000),
            rows_max: if dice.chance(300) { dice.between(500, 4_000) * MS } else { ROWS_USUAL },
            forgets_addresses: dice.chance(150),
        }
    }
}

fn one() -> u32 {
    1
}
