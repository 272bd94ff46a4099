//! How the links of a seed differ, and whether messages travel on connections.

use flotilla_types::dice::Dice;
use serde::{Deserialize, Serialize};

use crate::time::{MS, Micros};

/// The product's keepalive: a probe after half a second of silence, and a second for its answer.
const KEEPALIVE: Micros = 1_500 * MS;

/// What each link adds to the network's delays, and what the links carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkScenario {
    /// The connections; None if each message travels on its own, as a datagram.
    pub connections: Option<ConnScenario>,
    /// The id of a store that is far away from everybody; 0 if none is.
    pub far_store: u64,
    /// What the links of that store add to a message's delay: the least.
    pub far_min: Micros,
    /// The same: the greatest. Each direction draws its own.
    pub far_max: Micros,
    /// Directed links in a thousand that are slow, while the way back is not.
    pub slow_ways: u64,
    /// What such a link adds to a message's delay at most.
    pub slow_max: Micros,
}

/// How connections behave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnScenario {
    /// Bytes that a directed link carries in a second, for all its connections.
    pub bytes_per_s: u64,
    /// Bytes of a stream of Raft messages that are under way without counting as queued: what
    /// sockets and the stream's window hold.
    pub window_bytes: u64,
    /// Turns that wait for one address; the next turn is dropped.
    pub turns_max: usize,
    /// A connection on which nothing comes is given up after this long, or after two thirds of it.
    pub keepalive: Micros,
}

impl Default for ConnScenario {
    fn default() -> ConnScenario {
        ConnScenario {
            bytes_per_s: 100_000_000,
            window_bytes: 64 * 1024,
            turns_max: 128,
            keepalive: KEEPALIVE,
        }
    }
}

impl LinkScenario {
    pub(super) fn draw(dice: &mut Dice, stores: u64) -> LinkScenario {
        let connections = dice.chance(500).then(|| ConnScenario::draw(dice));
        let far_store = if dice.chance(200) { dice.between(1, stores + 1) } else { 0 };
        let far_min = dice.between(20, 60) * MS;
        LinkScenario {
            connections,
            far_store,
            far_min,
            far_max: far_min + dice.between(1, 60) * MS,
            slow_ways: if dice.chance(300) { dice.between(20, 300) } else { 0 },
            slow_max: dice.between(5, 80) * MS,
        }
    }
}

impl ConnScenario {
    fn draw(dice: &mut Dice) -> ConnScenario {
        // From 200 KB/s, at which a busy world just works, to 200 MB/s.
        let bytes_per_s =
            dice.between(200, 2_000) * *dice.pick(&[1_000, 10_000, 100_000]).unwrap_or(&1_000);
        // The product's keepalive gives up after 1.5 s; a machine that is put off may be later.
        let keepalive = if dice.chance(300) { KEEPALIVE } else { dice.between(1_000, 8_000) * MS };
        ConnScenario {
            bytes_per_s,
            window_bytes: if dice.chance(500) { 64 * 1024 } else { dice.between(500, 8_000) },
            turns_max: if dice.chance(400) { 128 } else { dice.between(2, 64) as usize },
            keepalive,
        }
    }
}
