//! A network on which each message travels on its own.
//!
//! Raft messages may be lost, duplicated and, in some seeds, reordered, each for itself. Requests
//! and replies may be lost, and the network never duplicates them (a heartbeat may arrive twice,
//! because its sender repeats it). A cut link loses what is sent while the link is cut; a clogged
//! link delays it.

use std::collections::BTreeMap;

use crate::event::{Asker, Body, Link, Packet};
use crate::time::Micros;

use super::wires::Wires;

/// When a message arrives that is sent on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Never.
    Lost,
    /// Once.
    Once(Micros),
    /// Twice.
    Twice(Micros, Micros),
}

/// How the network treats a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carriage {
    /// Raft must bear loss, duplication and reordering.
    Raft,
    /// Lost or not, never duplicated.
    Rpc,
    /// Repeated by the sender.
    Repeated,
}

/// What the network remembers of the messages under way.
#[derive(Debug, Default)]
pub struct Datagrams {
    last: BTreeMap<Link, Micros>,
}

impl Datagrams {
    /// Decides what becomes of `packet`, sent at `now`.
    pub fn fate(&mut self, wires: &mut Wires, now: Micros, packet: &Packet) -> Fate {
        let link = (packet.from, packet.to);
        let carriage = carriage(&packet.body);
        let loss = match carriage {
            Carriage::Raft => wires.config.loss,
            Carriage::Rpc | Carriage::Repeated => wires.config.rpc_loss,
        };
        if wires.is_cut(link) || (!wires.is_healed && wires.dice(link).chance(loss)) {
            return Fate::Lost;
        }
        let at = self.arrival(wires, now, link);
        let may_double = carriage != Carriage::Rpc && !wires.is_healed;
        let duplicates = wires.config.duplicates;
        if !may_double || !wires.dice(link).chance(duplicates) {
            return Fate::Once(at);
        }
        let late_max = if carriage == Carriage::Repeated { 4_000_000 } else { 500_000 };
        let late = wires.dice(link).between(0, late_max);
        Fate::Twice(at, self.arrival(wires, now, link) + late)
    }

    /// When the last message arrives that later ones on its link may not overtake; 0 if there is
    /// none.
    pub fn held_until(&self) -> Micros {
        self.last.values().max().copied().unwrap_or(0)
    }

    fn arrival(&mut self, wires: &mut Wires, now: Micros, link: Link) -> Micros {
        let mut at = wires.travel(now, link);
        if !wires.config.reorders || wires.is_healed {
            let last = self.last.entry(link).or_default();
            at = at.max(*last + 1);
            *last = at;
        }
        at
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
        | Body::RoutesRequest { .. }
        | Body::RoutesReply { .. }
        | Body::PdRequest { .. }
        | Body::PdReply { .. } => Carriage::Rpc,
    }
}
