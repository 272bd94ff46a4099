//! The simulated placement driver: a list of members on the network, each with a disk, a clock and
//! a process of its own, as the stores have.
//!
//! Today's placement driver has one member ([`End::PD`]). What the nemesis and the checkers ask
//! past the network goes to the member that leads.
//!
//! * [`node`]: one member.
//! * `process`: a member's process.
//! * `thread`: a member's thread while the loop that ships runs over it.

pub mod node;
mod process;
mod thread;

use std::collections::BTreeMap;

use flotilla_types::{RangeMap, StoreId, proto};

use crate::check::{Verdict, Violation};
use crate::event::{End, Packet};
use crate::hub::Hub;
use crate::time::Micros;
use node::Node;

/// The placement driver.
pub struct SimPd {
    nodes: BTreeMap<u32, Node>,
}

impl SimPd {
    /// A placement driver of `count` members, numbered from 1, none of which runs.
    pub fn new(count: u32) -> SimPd {
        SimPd { nodes: (1..=count).map(|id| (id, Node::new(id))).collect() }
    }

    /// The member that leads, else the first.
    fn leading(&self) -> Option<&Node> {
        let leader = self.nodes.values().find(|node| node.is_leading());
        leader.or(self.nodes.values().next())
    }

    fn leading_mut(&mut self) -> Option<&mut Node> {
        let id = self.leading()?.id;
        self.nodes.get_mut(&id)
    }

    /// The member, if there is one of this number.
    pub fn node(&mut self, id: u32) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// All members.
    pub fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.values_mut()
    }

    /// True if the member that leads runs.
    pub fn is_up(&self) -> bool {
        self.leading().is_some_and(Node::is_up)
    }

    /// What the leader knows; None while it is down.
    pub fn regions(&self) -> Option<&RangeMap> {
        self.leading()?.regions()
    }

    /// The stores that the leader knows; none while it is down.
    pub fn stores(&self) -> Vec<StoreId> {
        self.leading().map(Node::stores).unwrap_or_default()
    }

    /// The stores that the leader knows to be removed; none while it is down.
    pub fn removed(&self) -> Vec<StoreId> {
        self.leading().map(Node::removed).unwrap_or_default()
    }

    /// Starts the process of every member that is down.
    pub fn start(&mut self, hub: &mut Hub) -> Verdict {
        self.nodes().filter(|node| !node.is_up()).try_for_each(|node| node.start(hub))
    }

    /// Starts the member's process again, unless it has been started since its process of this
    /// number.
    pub fn restart(&mut self, hub: &mut Hub, id: u32, life: u32) -> Verdict {
        match self.node(id).filter(|node| node.life == life && !node.is_up()) {
            Some(node) => node.start(hub),
            None => Ok(()),
        }
    }

    /// A request arrives at a member.
    pub fn arrive(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        let End::Pd(id) = packet.to else { return Ok(()) };
        self.node(id).map_or(Ok(()), |node| node.arrive(hub, packet))
    }

    /// Kills the leader's process. False if none ran.
    pub fn crash(&mut self, hub: &mut Hub, down: Micros) -> Result<bool, Violation> {
        self.leading_mut().map_or(Ok(false), |node| node.crash(hub, down))
    }

    /// The member that leads, if there are no others.
    pub fn lone(&mut self) -> Option<&mut Node> {
        if self.nodes.len() > 1 {
            return None;
        }
        self.leading_mut().filter(|node| node.is_leading())
    }

    /// The leader's next write, sync or checkpoint fails.
    pub fn fail_next(&mut self, is_log: bool, is_sync: bool) {
        if let Some(node) = self.leading_mut() {
            node.fail_next(is_log, is_sync);
        }
    }

    /// While their disks are full, the members can write nothing.
    pub fn set_full(&mut self, is_full: bool) {
        self.nodes().for_each(|node| node.set_full(is_full));
    }

    /// The members' disks do not fail any more.
    pub fn mend(&mut self) {
        self.nodes().for_each(Node::mend);
    }

    /// The leader's clock runs at another rate.
    pub fn set_rate(&mut self, now: Micros, rate: u64) {
        if let Some(node) = self.leading_mut() {
            node.set_rate(now, rate);
        }
    }

    /// The leader's clock jumps forward.
    pub fn jump(&mut self, now: Micros, by: Micros) {
        if let Some(node) = self.leading_mut() {
            node.jump(now, by);
        }
    }

    /// Asks the leader past the network and in no time. None if it is down, or its disk fails at
    /// that.
    pub fn ask(
        &mut self,
        hub: &mut Hub,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        self.leading_mut().map_or(Ok(None), |node| node.ask(hub, op))
    }
}
