//! All connections: which one carries a message, and what becomes of them when a process ends.
//!
//! As in the product, each store opens one connection to each store that it sends Raft messages
//! to, others for snapshots, and clients and stores open one to each process that they ask.
//!
//! Invariant: no message of a connection is lost, overtaken or duplicated, unless all that is under
//! way is lost with the connection, or the queue for it is full.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::dice::Dice;

use crate::event::{Body, ConnEvent, ConnId, End, Link, Packet, Stream, Way};
use crate::scenario::ConnScenario;
use crate::time::Micros;

use super::conn::{Conn, Context, Peer, Told};
use super::wires::Wires;

/// Of the processes that end, so many in a thousand end with their machine, which tells nobody.
const MACHINES: u64 = 300;

/// Of the processes that end, so many in a thousand leave behind them what they have sent.
const DRAINED: u64 = 500;

/// The connections of a world.
#[derive(Debug)]
pub struct Conns {
    config: ConnScenario,
    dice: Dice,
    conns: BTreeMap<ConnId, Conn>,
    /// Processes that do not run.
    down: BTreeMap<End, Peer>,
}

/// The connection that carries a message, and in which direction.
fn route(packet: &Packet) -> (ConnId, Way) {
    let Packet { from, to, .. } = *packet;
    let (stream, way) = match packet.body {
        Body::Envelope(_) => (Stream::Raft, Way::There),
        Body::Snapshot { .. } => (Stream::Snapshots, Way::There),
        Body::SnapshotTaken { .. } => (Stream::Snapshots, Way::Back),
        Body::Request(_) | Body::PdRequest { .. } | Body::RoutesRequest { .. } => {
            (Stream::Calls, Way::There)
        }
        Body::Reply { .. }
        | Body::Broken { .. }
        | Body::PdReply { .. }
        | Body::RoutesReply { .. } => (Stream::Calls, Way::Back),
    };
    let (opener, acceptor) = if way == Way::There { (from, to) } else { (to, from) };
    (ConnId { opener, acceptor, stream }, way)
}

impl Conns {
    /// No connection yet.
    pub fn new(config: ConnScenario, seed: u64) -> Conns {
        Conns { config, dice: Dice::new(seed), conns: BTreeMap::new(), down: BTreeMap::new() }
    }

    /// Lets `act` work with a connection and what the connection works with.
    fn with<R>(
        &mut self,
        (wires, now): (&mut Wires, Micros),
        told: &mut Vec<Told>,
        id: ConnId,
        act: impl FnOnce(&mut Conn, &mut Context<'_>) -> R,
    ) -> R {
        let conn = self.conns.entry(id).or_insert_with(|| Conn::new(id));
        act(conn, &mut Context { now, wires, config: &self.config, told })
    }

    /// Sends a message. False if the message is lost.
    pub fn send(
        &mut self,
        wires: (&mut Wires, Micros),
        told: &mut Vec<Told>,
        packet: Packet,
    ) -> bool {
        let (id, way) = route(&packet);
        self.with(wires, told, id, |conn, cx| conn.send(cx, way, packet))
    }

    /// An event of a connection. Answers what arrives.
    pub fn on(
        &mut self,
        wires: (&mut Wires, Micros),
        told: &mut Vec<Told>,
        event: ConnEvent,
    ) -> Vec<Packet> {
        match event {
            ConnEvent::Deliver { conn, way } => {
                return self.with(wires, told, conn, |conn, cx| conn.deliver(cx, way));
            }
            ConnEvent::Connect { conn, number } => {
                let peer = self.down.get(&conn.acceptor).copied().unwrap_or(Peer::Listens);
                self.with(wires, told, conn, |conn, cx| conn.on_connect(cx, number, peer));
            }
            ConnEvent::Silent { conn, number, since } => {
                self.with(wires, told, conn, |conn, cx| conn.on_silent(cx, number, since));
            }
            ConnEvent::Broken { conn, number } => {
                self.with(wires, told, conn, |conn, cx| conn.on_broken(cx, number));
            }
        }
        vec![]
    }

    /// Links were cut, mended or made fast again.
    pub fn on_links(
        &mut self,
        (wires, now): (&mut Wires, Micros),
        told: &mut Vec<Told>,
        links: &BTreeSet<Link>,
    ) {
        for (from, to) in links {
            for stream in [Stream::Raft, Stream::Snapshots, Stream::Calls] {
                for (opener, acceptor, way) in [(*from, *to, Way::There), (*to, *from, Way::Back)] {
                    let id = ConnId { opener, acceptor, stream };
                    if let Some(conn) = self.conns.get_mut(&id) {
                        let config = &self.config;
                        conn.on_link(&mut Context { now, wires, config, told }, way);
                    }
                }
            }
        }
    }

    fn all(
        &mut self,
        (wires, now): (&mut Wires, Micros),
        told: &mut Vec<Told>,
        mut act: impl FnMut(ConnId, &mut Conn, &mut Context<'_>),
    ) {
        for (id, conn) in &mut self.conns {
            act(*id, conn, &mut Context { now, wires, config: &self.config, told });
        }
    }

    /// Connections that are open break, `share` in a thousand. Answers how many.
    pub fn reset(
        &mut self,
        wires: (&mut Wires, Micros),
        told: &mut Vec<Told>,
        (dice, share): (&mut Dice, u64),
    ) -> usize {
        let mut count = 0;
        self.all(wires, told, |_, conn, cx| {
            if conn.is_alive() && dice.chance(share) {
                count += 1;
                conn.reset(cx);
            }
        });
        count
    }

    /// A process has ended, and its connections with it.
    pub fn process_ended(&mut self, wires: (&mut Wires, Micros), told: &mut Vec<Told>, end: End) {
        let peer = if self.dice.chance(MACHINES) { Peer::IsSilent } else { Peer::Refuses };
        let is_drained = self.dice.chance(DRAINED);
        self.down.insert(end, peer);
        self.all(wires, told, |id, conn, cx| {
            if id.opener == end {
                conn.opener_ended(cx, is_drained);
            } else if id.acceptor == end {
                conn.acceptor_ended(cx, peer, is_drained);
            }
        });
    }

    /// A process has begun.
    pub fn process_began(&mut self, wires: (&mut Wires, Micros), told: &mut Vec<Told>, end: End) {
        self.down.remove(&end);
        self.all(wires, told, |id, conn, cx| {
            if id.acceptor == end {
                conn.acceptor_began(cx);
            }
        });
    }
}
