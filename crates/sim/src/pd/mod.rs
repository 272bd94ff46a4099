//! The simulated placement driver: a list of members on the network, each with a disk, a clock and
//! a process of its own, as the stores have.
//!
//! What the nemesis and the checkers ask past the network goes to the member that leads.
//!
//! * [`calls`]: the calls of others to it.
//! * [`node`]: one member.
//! * `process`: a member's process.
//! * `thread`: a member's thread while the loop that ships runs over it.

pub mod calls;
pub mod node;
mod process;
mod thread;

use std::collections::BTreeMap;

use flotilla_pd::core::RequestId;
use flotilla_pd::core::records::StoreMode;
use flotilla_types::dice::Dice;
use flotilla_types::placement::PdMembers;
use flotilla_types::{Load, RangeMap, RegionId, StoreId, proto};

use crate::check::{Verdict, Violation};
use crate::event::{End, Event, Packet};
use crate::hub::Hub;
use crate::time::Micros;
use node::Node;
use thread::QUESTIONS;

/// Of 1,000 faults of a member, so many hit the leader.
const LEADER_SHARE: u64 = 600;

/// The placement driver.
pub struct SimPd {
    nodes: BTreeMap<u32, Node>,
    questions: u64,
}

/// A question past the network that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    node: u32,
    life: u32,
    id: RequestId,
}

impl SimPd {
    /// A placement driver of `count` members, numbered from 1, none of which runs.
    pub fn new(count: u32) -> SimPd {
        SimPd { nodes: (1..=count).map(|id| (id, Node::new(id))).collect(), questions: QUESTIONS }
    }

    /// The member that leads, else the first.
    fn leading(&self) -> Option<&Node> {
        let leading = self.nodes.values().filter(|node| node.is_leading());
        leading.max_by_key(|node| node.term()).or(self.nodes.values().next())
    }

    fn leading_mut(&mut self) -> Option<&mut Node> {
        let id = self.leading()?.id;
        self.nodes.get_mut(&id)
    }

    /// True if a member leads.
    pub fn is_led(&self) -> bool {
        self.nodes.values().any(Node::is_leading)
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

    /// What clients have the regions do, as the leader was told; nothing while it is down.
    pub fn loads(&self) -> impl Iterator<Item = (RegionId, Load)> {
        self.leading().into_iter().flat_map(|node| node.loads())
    }

    /// True if the leader waits for stores to say which ids are in use.
    pub fn awaits_ids(&self, now: Micros) -> bool {
        self.leading().is_some_and(|node| node.awaits_ids(now))
    }

    /// The stores that the leader knows to be in this mode; none while it is down.
    pub fn stores_in(&self, mode: StoreMode) -> Vec<StoreId> {
        self.leading().map(|node| node.stores_in(mode)).unwrap_or_default()
    }

    /// Starts the process of every member that is down.
    pub fn start(&mut self, hub: &mut Hub) -> Verdict {
        let mut down = self.nodes().filter(|node| !node.is_up() && !node.is_retired());
        down.try_for_each(|node| node.start(hub))
    }

    /// Starts the member's process again, unless it has been started since its process of this
    /// number.
    pub fn restart(&mut self, hub: &mut Hub, id: u32, life: u32) -> Verdict {
        match self.node(id).filter(|node| node.life == life && !node.is_up() && !node.is_retired())
        {
            Some(node) => node.start(hub),
            None => Ok(()),
        }
    }

    /// A request arrives at a member.
    pub fn arrive(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        let End::Pd(id) = packet.to else { return Ok(()) };
        self.node(id).map_or(Ok(()), |node| node.arrive(hub, packet))
    }

    /// The member that leads, if there are no others.
    pub fn lone(&mut self) -> Option<&mut Node> {
        if self.nodes.len() > 1 {
            return None;
        }
        self.leading_mut().filter(|node| node.is_leading())
    }

    /// Something happens on a member.
    pub fn happen(&mut self, hub: &mut Hub, event: Event) -> Verdict {
        let node = match event {
            Event::PdTick { node, .. }
            | Event::PdSynced { node, .. }
            | Event::PdSnapshotSent { node, .. }
            | Event::PdDisk { node, .. }
            | Event::Unreachable { end: End::Pd(node), .. } => node,
            _ => return Ok(()),
        };
        let Some(node) = self.node(node) else { return Ok(()) };
        match event {
            Event::PdTick { life, .. } => node.on_tick(hub, life),
            Event::PdSynced { life, .. } => node.on_synced(hub, life),
            Event::PdSnapshotSent { life, member, is_ok, .. } => {
                node.on_snapshot_sent(hub, life, (member, is_ok))
            }
            Event::PdDisk { life, applied, .. } => node.on_disk(hub, life, applied),
            Event::Unreachable { of: End::Pd(of), .. } => node.on_unreachable(hub, of),
            _ => Ok(()),
        }
    }

    /// Who votes, if all members do and run, one leads that knows all that any has applied, and
    /// all know the same. One that was deposed, and is suspended, say, knows of no later member;
    /// and one that has yet to learn of a new voter cannot be elected by it.
    pub fn voters(&self) -> Option<Vec<u64>> {
        let latest = self.nodes.values().map(Node::applied).max()?;
        let leading = self.leading().filter(|node| node.is_leading())?;
        let voters = leading.voters().filter(|_| leading.applied() == latest)?;
        let mut present = self.nodes.values().filter(|node| !node.is_retired());
        present.all(|node| node.voters().as_ref() == Some(&voters)).then_some(voters)
    }

    /// A random member, with preference for the leader.
    pub fn victim(&self, dice: &mut Dice) -> u32 {
        let leader = self.leading().map_or(1, |node| node.id);
        let present = self.nodes.values().filter(|node| !node.is_retired());
        let ids: Vec<u32> = present.map(|node| node.id).collect();
        if ids.len() == 1 || dice.chance(LEADER_SHARE) {
            return leader;
        }
        dice.pick(&ids).copied().unwrap_or(leader)
    }

    /// A member's machine is gone for good.
    pub fn retire(&mut self, hub: &mut Hub, id: u32) -> Verdict {
        self.node(id).map_or(Ok(()), |node| node.retire(hub))
    }

    /// A member's directory is lost, and it starts over an empty one.
    pub fn lose_directory(&mut self, hub: &mut Hub, id: u32, down: Micros) -> Verdict {
        self.node(id).map_or(Ok(()), |node| node.lose_directory(hub, down))
    }

    /// The machines of members that were removed are gone: none is left, maybe, that could tell one
    /// of them.
    pub fn end_removed(&mut self, hub: &mut Hub) -> Verdict {
        let known = self.leading().map(Node::removed_members).unwrap_or_default();
        let mut removed = self.nodes().filter(|node| known.contains(&node.id));
        removed.try_for_each(|node| if node.is_retired() { Ok(()) } else { node.retire(hub) })?;
        hub.give_pd();
        Ok(())
    }

    /// A new member joins the group, which said what it was added to.
    pub fn join(&mut self, hub: &mut Hub, id: u32, told: PdMembers) -> Verdict {
        let mut node = Node::joining(id, told);
        let verdict = node.start(hub);
        self.nodes.insert(id, node);
        verdict
    }

    /// Kills a member's process. False if none ran.
    pub fn crash(&mut self, hub: &mut Hub, id: u32, down: Micros) -> Result<bool, Violation> {
        self.node(id).map_or(Ok(false), |node| node.crash(hub, down))
    }

    /// Kills the leader's process. False if none ran.
    pub fn crash_leader(&mut self, hub: &mut Hub, down: Micros) -> Result<bool, Violation> {
        self.leading_mut().map_or(Ok(false), |node| node.crash(hub, down))
    }

    /// Kills the processes of all members. False if none ran.
    pub fn crash_all(&mut self, hub: &mut Hub, down: Micros) -> Result<bool, Violation> {
        let mut is_any = false;
        for node in self.nodes() {
            is_any |= node.crash(hub, down)?;
        }
        Ok(is_any)
    }

    /// The members' disks have room again.
    pub fn empty_disks(&mut self) {
        self.nodes().for_each(|node| node.set_full(false));
    }

    /// The members' disks do not fail any more.
    pub fn mend(&mut self) {
        self.nodes().for_each(Node::mend);
    }

    /// Asks a lone member past the network and in no time. None if it is down, or its disk fails at
    /// that, or there are several.
    pub fn ask_lone(
        &mut self,
        hub: &mut Hub,
        op: proto::pd_request::Op,
    ) -> Result<Option<proto::PdReply>, Violation> {
        match self.nodes.len() {
            1 => self.leading_mut().map_or(Ok(None), |node| node.ask(hub, op)),
            _ => Ok(None),
        }
    }

    /// Asks the leader past the network. None if no member leads.
    pub fn put_question(
        &mut self,
        hub: &mut Hub,
        op: proto::pd_request::Op,
    ) -> Result<Option<Question>, Violation> {
        let id = RequestId(self.questions);
        let Some(node) = self.leading_mut().filter(|node| node.is_leading()) else {
            return Ok(None);
        };
        node.put_question(hub, id, op)?;
        let question = Question { node: node.id, life: node.life, id };
        self.questions += 1;
        Ok(Some(question))
    }

    /// Asks the leader to remove a voter without which no majority is heard. None unless it has
    /// decided on that at once.
    pub fn ask_too_much(&mut self, hub: &mut Hub) -> Result<Option<Question>, Violation> {
        let id = RequestId(self.questions);
        self.questions += 1;
        let Some(node) = self.leading_mut() else { return Ok(None) };
        let is_asked = node.ask_too_much(hub, id)?;
        Ok(is_asked.then_some(Question { node: node.id, life: node.life, id }))
    }

    /// True if the question will not be answered any more, or is answered.
    pub fn is_settled(&self, question: Question) -> bool {
        let node = self.nodes.get(&question.node).filter(|node| node.life == question.life);
        node.is_none_or(|node| !node.is_up() || node.answer(question.id).is_some())
    }

    /// The answer to the question; None if it was lost.
    pub fn answer(&self, question: Question) -> Option<proto::PdReply> {
        let node = self.nodes.get(&question.node).filter(|node| node.life == question.life)?;
        node.answer(question.id).cloned()
    }
}
