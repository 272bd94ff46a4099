//! The network: whether a message arrives, and when.
//!
//! Two networks, each in half of the seeds. On the one, each message travels on its own, and Raft
//! messages may be lost, duplicated and reordered. On the other, messages travel on connections, as
//! in production: in order, and lost only together.
//!
//! * [`wires`]: the directed links: delays, bandwidth, cuts.
//! * [`datagrams`]: messages on their own.
//! * [`conns`]: all connections.
//! * [`conn`]: one connection: how it opens, falls silent and ends.
//! * [`lane`]: one direction of a connection.
//! * [`owed`]: requests that fail when their connection breaks.
//! * [`size`]: how many bytes a message takes.
//!
//! In: messages, cuts and other faults, and the connections' own events. Out: what the world plans
//! and counts ([`Net::told`]).
//!
//! Which links are cut, clogged or slow is decided in [`crate::nemesis`].

pub mod conn;
pub mod conns;
pub mod datagrams;
pub mod lane;
pub mod owed;
pub mod size;
pub mod wires;

use std::collections::BTreeSet;

use flotilla_types::dice::{Dice, mix};

pub use crate::event::Link;
use crate::event::{Body, ConnEvent, End, Event, Packet};
use crate::scenario::{LinkScenario, NetScenario};
use crate::time::Micros;

use conn::Told;
use conns::Conns;
use datagrams::{Datagrams, Fate};
use wires::Wires;

/// The lane of the seed for what connections draw.
const CONNS: u64 = 0x636f_6e6e;

/// The network.
#[derive(Debug)]
pub struct Net {
    wires: Wires,
    datagrams: Datagrams,
    conns: Option<Conns>,
    told: Vec<Told>,
}

impl Net {
    /// The network of the world `seed`, with all links in order.
    pub fn new(config: NetScenario, links: LinkScenario, seed: u64) -> Net {
        let conns = links.connections.clone();
        Net {
            conns: conns.map(|config| Conns::new(config, mix(seed ^ CONNS))),
            wires: Wires::new(config, links, seed),
            datagrams: Datagrams::default(),
            told: vec![],
        }
    }

    /// True if messages travel on connections.
    pub fn has_connections(&self) -> bool {
        self.conns.is_some()
    }

    /// Sends a message. False if it is lost already.
    pub fn send(&mut self, now: Micros, packet: Packet) -> bool {
        self.settle(now);
        let Net { wires, datagrams, conns, told } = self;
        if let Some(conns) = conns {
            let lost = lost(&packet.body);
            let is_sent = conns.send((wires, now), told, packet);
            told.extend((!is_sent).then_some(Told::Count(lost, 1)));
            return is_sent;
        }
        let fate = datagrams.fate(wires, now, &packet);
        match fate {
            Fate::Lost => {
                told.push(Told::Count(lost(&packet.body), 1));
                return false;
            }
            Fate::Once(at) => told.push(arrival(at, packet)),
            Fate::Twice(at, again) => {
                told.push(Told::Count(doubled(&packet.body), 1));
                told.push(arrival(at, packet.clone()));
                told.push(arrival(again, packet));
            }
        }
        true
    }

    /// An event of a connection. Answers what arrives.
    pub fn on(&mut self, now: Micros, event: ConnEvent) -> Vec<Packet> {
        let Net { wires, conns, told, .. } = self;
        conns.as_mut().map(|conns| conns.on((wires, now), told, event)).unwrap_or_default()
    }

    /// Lets connections know which of their links were cut or mended.
    fn settle(&mut self, now: Micros) {
        if self.wires.has_changed() {
            let links = self.wires.take_changed();
            if let Some(conns) = &mut self.conns {
                conns.on_links((&mut self.wires, now), &mut self.told, &links);
            }
        }
    }

    /// What is to be planned and counted; the caller takes it out.
    pub fn told(&mut self, now: Micros) -> &mut Vec<Told> {
        self.settle(now);
        &mut self.told
    }

    /// A process has ended, and its connections with it.
    pub fn process_ended(&mut self, now: Micros, end: End) {
        let Net { wires, conns, told, .. } = self;
        if let Some(conns) = conns {
            conns.process_ended((wires, now), told, end);
        }
    }

    /// A process has begun.
    pub fn process_began(&mut self, now: Micros, end: End) {
        let Net { wires, conns, told, .. } = self;
        if let Some(conns) = conns {
            conns.process_began((wires, now), told, end);
        }
    }

    /// Breaks `share` in a thousand of the open connections. Answers how many.
    pub fn reset(&mut self, now: Micros, dice: &mut Dice, share: u64) -> usize {
        let Net { wires, conns, told, .. } = self;
        conns.as_mut().map_or(0, |conns| conns.reset((wires, now), told, (dice, share)))
    }

    /// True if the link is cut.
    pub fn is_cut(&self, link: Link) -> bool {
        self.wires.is_cut(link)
    }

    /// Until when messages that are sent now may wait for earlier ones that were delayed.
    pub fn held_until(&self) -> Micros {
        self.datagrams.held_until()
    }

    /// True if the link is neither cut nor clogged at `now`. It may be slow.
    pub fn carries(&self, link: Link, now: Micros) -> bool {
        self.wires.carries(link, now)
    }

    /// True if the link is neither cut nor clogged nor slow at `now`.
    pub fn is_open(&self, link: Link, now: Micros) -> bool {
        self.wires.is_open(link, now)
    }

    /// True if a link to `end` is to carry what waits on it until after `at`.
    pub fn is_busy(&self, end: End, at: Micros) -> bool {
        self.wires.is_busy(end, at)
    }

    /// True if every link is open at `now`.
    pub fn are_all_open(&self, now: Micros) -> bool {
        self.wires.are_all_open(now)
    }

    /// Cuts links. A link that is cut twice must be mended twice.
    pub fn cut(&mut self, links: &[Link]) {
        self.wires.cut(links);
    }

    /// Mends links that were cut.
    pub fn mend(&mut self, links: &[Link]) {
        self.wires.mend(links);
    }

    /// Delays what travels over the links until `until`.
    pub fn clog(&mut self, links: &[Link], until: Micros) {
        self.wires.clog(links, until);
    }

    /// Limits what the links carry to `bytes_per_s`; None ends that. Only connections feel it.
    pub fn slow(&mut self, links: &[Link], bytes_per_s: Option<u64>) {
        self.wires.slow(links, bytes_per_s);
    }

    /// True once [`Net::heal`] was called.
    pub fn is_healed(&self) -> bool {
        self.wires.is_healed
    }

    /// Mends and unclogs all links, and ends chance loss, duplication and reordering for good.
    /// Links that are cut later stay cut until they are mended.
    pub fn heal(&mut self) {
        self.wires.heal();
    }
}

fn arrival(at: Micros, packet: Packet) -> Told {
    Told::Plan(at, Event::Arrive(Box::new(packet)))
}

fn lost(body: &Body) -> &'static str {
    match body {
        Body::Reply { .. } => "replies lost",
        _ => "messages lost",
    }
}

fn doubled(body: &Body) -> &'static str {
    match body {
        Body::PdRequest { .. } => "heartbeats duplicated",
        _ => "messages duplicated",
    }
}

/// Both directions of every link between the two sides.
pub fn between(one: &BTreeSet<End>, other: &BTreeSet<End>) -> Vec<Link> {
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod net_tests;
