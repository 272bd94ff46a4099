//! The network: when a message arrives, if it does.
//!
//! Raft traffic may be lost, doubled and, in some seeds, overtaken. Requests and replies run over
//! connections: they may be lost with their connection, and are never doubled by the network (a
//! heartbeat may be, for its caller repeats it). A cut link loses what is sent while it is cut; a
//! clogged one holds it up.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::dice::Dice;

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
    is_healed: bool,
}

/// What becomes of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When it arrives; twice if it is doubled, never if it is lost.
    pub arrivals: Vec<Micros>,
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriage {
    /// A datagram, as far as Raft may rely on it.
    Raft,
    /// On a connection.
    Rpc,
    /// On a connection, and repeated by its sender.
    Repeated,
}

impl Net {
    /// A network without faults yet.
    pub fn new(config: NetScenario) -> Net {
        Net {
            config,
            cut: BTreeMap::new(),
            clogged: BTreeMap::new(),
            last: BTreeMap::new(),
            is_healed: false,
        }
    }

    /// Decides what becomes of `packet`, sent at `now`.
    pub fn fate(&mut self, dice: &mut Dice, now: Micros, packet: &Packet) -> Fate {
        let link = (packet.from, packet.to);
        let carriage = carriage(&packet.body);
        let loss = match carriage {
            Carriage::Raft => self.config.loss,
            Carriage::Rpc | Carriage::Repeated => self.config.rpc_loss,
        };
        if self.is_cut(link) || (!self.is_healed && dice.chance(loss)) {
            return Fate::default();
        }
        let mut arrivals = vec![self.arrival(dice, now, link)];
        let may_double = carriage != Carriage::Rpc && !self.is_healed;
        if may_double && dice.chance(self.config.duplicates) {
            let late_max = if carriage == Carriage::Repeated { 4_000_000 } else { 500_000 };
            arrivals.push(self.arrival(dice, now, link) + dice.between(0, late_max));
        }
        Fate { arrivals }
    }

    fn arrival(&mut self, dice: &mut Dice, now: Micros, link: Link) -> Micros {
        let config = &self.config;
        let mut delay = dice.between(config.delay_min, config.delay_max);
        if !self.is_healed && dice.chance(config.spikes) {
            delay *= dice.between(2, 50);
        }
        let clogged = self.clogged.get(&link).copied().unwrap_or(0);
        let mut at = (now + delay).max(clogged + delay);
        if !config.reorders {
            let last = self.last.entry(link).or_default();
            at = at.max(*last + 1);
            *last = at;
        }
        at
    }

    /// True if nothing gets through.
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains_key(&link)
    }

    /// Cuts links. One that is cut twice must be mended twice.
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

    /// Holds up what travels over links until `until`.
    pub fn clog(&mut self, links: &[Link], until: Micros) {
        self.clogged.extend(links.iter().map(|link| (*link, until)));
    }

    /// True once nothing is cut, lost, doubled or held up.
    pub fn is_healed(&self) -> bool {
        self.is_healed
    }

    /// From now on nothing is cut, lost, doubled or held up.
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
