//! The network: whether a message arrives, and when.
//!
//! Raft messages may be lost, duplicated and, in some seeds, reordered. Requests and replies run
//! over connections: they may be lost with their connection, and the network never duplicates them
//! (a heartbeat may arrive twice, because its sender repeats it). A cut link loses what is sent
//! while the link is cut; a clogged link delays it.
//!
//! Which links are cut or clogged is decided in [`crate::nemesis`].

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::dice::Dice;

use crate::chance;
use crate::event::{Asker, Body, End, Packet};
use crate::scenario::NetScenario;
use crate::time::Micros;

/// A directed link.
pub type Link = (End, End);

/// The state of all links.
#[derive(Debug)]
pub struct Net {
    config: NetScenario,
    cut: BTreeMap<Link, u32>,
    clogged: BTreeMap<Link, Micros>,
    last: BTreeMap<Link, Micros>,
    /// The dice of each link that has carried a message, which follow from `seed`.
    dice: BTreeMap<Link, Dice>,
    seed: u64,
    is_healed: bool,
}

/// What becomes of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// The times of arrival: two if the message is duplicated, none if the message is lost.
    pub arrivals: Vec<Micros>,
}

/// How the network treats a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriage {
    /// As a datagram: Raft must bear loss, duplication and reordering.
    Raft,
    /// On a connection: lost with the connection, never duplicated.
    Rpc,
    /// On a connection, and repeated by the sender.
    Repeated,
}

impl Net {
    /// The network of the world `seed`, in which no link is cut or clogged yet.
    pub fn new(config: NetScenario, seed: u64) -> Net {
        Net {
            config,
            cut: BTreeMap::new(),
            clogged: BTreeMap::new(),
            last: BTreeMap::new(),
            dice: BTreeMap::new(),
            seed,
            is_healed: false,
        }
    }

    /// Decides what becomes of `packet`, sent at `now`.
    pub fn fate(&mut self, now: Micros, packet: &Packet) -> Fate {
        let link = (packet.from, packet.to);
        let carriage = carriage(&packet.body);
        let loss = match carriage {
            Carriage::Raft => self.config.loss,
            Carriage::Rpc | Carriage::Repeated => self.config.rpc_loss,
        };
        if self.is_cut(link) || (!self.is_healed && self.dice(link).chance(loss)) {
            return Fate::default();
        }
        let mut arrivals = vec![self.arrival(now, link)];
        let may_double = carriage != Carriage::Rpc && !self.is_healed;
        let duplicates = self.config.duplicates;
        if may_double && self.dice(link).chance(duplicates) {
            let late_max = if carriage == Carriage::Repeated { 4_000_000 } else { 500_000 };
            let late = self.dice(link).between(0, late_max);
            arrivals.push(self.arrival(now, link) + late);
        }
        Fate { arrivals }
    }

    /// The link's own dice: what one link does to its messages changes nothing on another.
    fn dice(&mut self, link: Link) -> &mut Dice {
        let seed = chance::of_link(self.seed, link.0.number(), link.1.number());
        self.dice.entry(link).or_insert_with(|| Dice::new(seed))
    }

    fn arrival(&mut self, now: Micros, link: Link) -> Micros {
        let NetScenario { delay_min, delay_max, spikes, reorders, .. } = self.config;
        let may_spike = !self.is_healed;
        let dice = self.dice(link);
        let mut delay = dice.between(delay_min, delay_max);
        if may_spike && dice.chance(spikes) {
            delay *= dice.between(2, 50);
        }
        let clogged = self.clogged.get(&link).copied().unwrap_or(0);
        let mut at = (now + delay).max(clogged + delay);
        if !reorders {
            let last = self.last.entry(link).or_default();
            at = at.max(*last + 1);
            *last = at;
        }
        at
    }

    /// True if the link is cut.
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains_key(&link)
    }

    /// Cuts links. A link that is cut twice must be mended twice.
    pub fn cut(&mut self, links: &[Link]) {
        for link in links {
            *self.cut.entry(*link).or_default() += 1;
        }
    }

    /// Mends links that were cut.
    pub fn mend(&mut self, links: &[Link]) {
        for link in links {
            if let Some(times) = self.cut.get_mut(link) {
                *times -= 1;
                if *times == 0 {
                    self.cut.remove(link);
                }
            }
        }
    }

    /// Delays what travels over the links until `until`.
    pub fn clog(&mut self, links: &[Link], until: Micros) {
        self.clogged.extend(links.iter().map(|link| (*link, until)));
    }

    /// True once [`Net::heal`] was called.
    pub fn is_healed(&self) -> bool {
        self.is_healed
    }

    /// Mends and unclogs all links, and ends chance loss and duplication for good. Links that are
    /// cut later stay cut until they are mended.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.clogged.clear();
        self.is_healed = true;
    }
}

fn carriage(body: &Body) -> Carriage {
    match body {
        Body::Envelope(_) | Body::Snapshot { .. } => Carriage::Raft,
        Body::PdRequest { asker: Asker::Heartbeat { .. }, .. } => Carriage::Repeated,
        Body::SnapshotTaken { .. }
        | Body::Request(_)
        | Body::Reply { .. }
        | Body::Broken { .. }
        | Body::PdRequest { .. }
        | Body::PdReply { .. } => Carriage::Rpc,
    }
}

/// Both directions of every link between the two sides.
pub fn between(one: &BTreeSet<End>, other: &BTreeSet<End>) -> Vec<Link> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}
