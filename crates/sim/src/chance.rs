//! The sources of chance: one stream of dice for each part of the world, so that a change of one
//! part leaves what the others roll as it was.
//!
//! All streams follow from the seed. Streams that are kept elsewhere: each link of the network has
//! its own ([`crate::net`]), and so has each act of the nemesis ([`crate::nemesis`]).

use flotilla_types::dice::{Dice, mix};

/// What a stream is for. The number of a lane is part of what a seed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Processes = 1,
    Disks = 2,
    Clients = 3,
    Acts = 4,
    Links = 5,
}

fn of(seed: u64, lane: Lane) -> u64 {
    mix(seed ^ mix(lane as u64))
}

/// The streams that are shared by all users of a kind.
#[derive(Clone, Debug)]
pub struct Streams {
    /// Threads, clocks, and the reports of drivers.
    pub processes: Dice,
    /// How long disks take, and what a crash leaves of their last writes.
    pub disks: Dice,
    /// What clients do.
    pub clients: Dice,
    /// The present act of the nemesis, or what follows from the last one.
    pub acts: Dice,
}

impl Streams {
    /// The streams of a seed.
    pub fn new(seed: u64) -> Streams {
        Streams {
            processes: Dice::new(of(seed, Lane::Processes)),
            disks: Dice::new(of(seed, Lane::Disks)),
            clients: Dice::new(of(seed, Lane::Clients)),
            acts: Dice::new(of(seed, Lane::Acts)),
        }
    }
}

/// The seed of the dice of the link between two endpoints, given by their numbers.
pub fn of_link(seed: u64, from: u64, to: u64) -> u64 {
    mix(of(seed, Lane::Links) ^ mix(from) ^ mix(to).rotate_left(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_and_each_direction_of_a_link_has_rolls_of_its_own() {
        let mut streams = Streams::new(7);
        let rolls = [
            streams.processes.roll(),
            streams.disks.roll(),
            streams.clients.roll(),
            streams.acts.roll(),
            Dice::new(of_link(7, 1, 2)).roll(),
            Dice::new(of_link(7, 2, 1)).roll(),
        ];
        let distinct: std::collections::BTreeSet<u64> = rolls.into_iter().collect();
        assert_eq!(distinct.len(), rolls.len());
        assert_eq!(Streams::new(7).disks.roll(), rolls[1]);
    }
}
