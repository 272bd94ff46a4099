//! Several PD members whose messages arrive at once, unless a link is cut.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_engine::MemLog;
use flotilla_engine::mem_base::MemBase;
use flotilla_group::Timing;
use flotilla_host::core::message::Address;
use flotilla_pd::core::{CoreConfig, Input, RequestId};
use flotilla_types::Millis;
use flotilla_types::placement::{MembersChange, PdError, PdMembers, PdOp, PdReply};

use super::{Ended, PdMember, config};

/// More rounds of messages without time passing are an endless exchange.
const ROUNDS_MAX: usize = 200;

/// Longer than two elections, or than a learner takes to catch up.
const WAIT_MS_MAX: u64 = 10_000;

/// The members that run, by id.
pub struct Group {
    pub members: BTreeMap<u64, PdMember>,
    /// Nothing reaches these, and nothing comes from them.
    cut: BTreeSet<u64>,
    list: BTreeMap<u64, String>,
    now: Millis,
}

/// Where a member listens.
pub fn addr(id: u64) -> String {
    format!("pd{id}:2379")
}

/// Each directory draws numbers of its own.
fn member_config(id: u64, now: Millis) -> CoreConfig {
    CoreConfig { id, addr: addr(id), seed: (now.0 + id) << 20, ..config() }
}

impl Group {
    /// A new group with members 1 to `count`, none of which runs.
    pub fn planned(count: u64) -> Group {
        let list = (1..=count).map(|id| (id, addr(id))).collect();
        Group { members: BTreeMap::new(), cut: BTreeSet::new(), list, now: Millis(1_000) }
    }

    /// A group of which all members run, and one leads.
    pub fn new(count: u64) -> Group {
        let mut group = Group::planned(count);
        (1..=count).for_each(|id| group.start(id));
        group.leader();
        group
    }

    /// Starts a member of the group's first list over empty disks.
    pub fn start(&mut self, id: u64) {
        let config = CoreConfig { members: self.list.clone(), ..member_config(id, self.now) };
        let member = PdMember::start(config, MemLog::default(), MemBase::default(), self.now);
        self.members.insert(id, member);
    }

    /// Adds a member and starts it.
    pub fn join(&mut self, id: u64) -> PdMembers {
        let PdReply::Members(told) = self.change(MembersChange::Add { id, addr: addr(id) }) else {
            panic!("expected the members");
        };
        let config = CoreConfig { joins: Some(told.clone()), ..member_config(id, self.now) };
        let member = PdMember::start(config, MemLog::default(), MemBase::default(), self.now);
        self.members.insert(id, member);
        told
    }

    /// A member's process dies and starts again.
    pub fn restart(&mut self, id: u64) {
        let member = self.members.remove(&id).expect("it runs");
        self.members.insert(id, member.crash_in_group());
    }

    pub fn cut_off(&mut self, ids: &[u64]) {
        self.cut.extend(ids);
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn member(&mut self, id: u64) -> &mut PdMember {
        self.members.get_mut(&id).expect("it runs")
    }

    /// Time passes, tick by tick.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(Timing::DEFAULT.tick_ms) {
            self.now = self.now.plus(Timing::DEFAULT.tick_ms);
            for member in self.members.values_mut().filter(|m| m.links.ended.is_none()) {
                member.tick(Timing::DEFAULT.tick_ms);
            }
            self.deliver();
        }
    }

    /// Time passes until `find` finds something.
    pub fn until<T>(&mut self, what: &str, mut find: impl FnMut(&mut Group) -> Option<T>) -> T {
        for _ in 0..WAIT_MS_MAX / Timing::DEFAULT.tick_ms {
            if let Some(found) = find(self) {
                return found;
            }
            self.pass(Timing::DEFAULT.tick_ms);
        }
        panic!("never: {what}");
    }

    /// The member that leads those which are not cut off.
    pub fn leader(&mut self) -> u64 {
        self.until("a leader", |group| {
            let linked = group.members.iter().filter(|(id, _)| !group.cut.contains(id));
            let mut leading = linked.filter(|(_, member)| member.pd.is_leading());
            leading.next().map(|(id, _)| *id)
        })
    }

    /// The members that are not `id`.
    pub fn others(&self, id: u64) -> Vec<u64> {
        self.members.keys().copied().filter(|other| *other != id).collect()
    }

    /// Asks a member, and does not wait for the answer.
    pub fn ask(&mut self, id: u64, op: PdOp) -> RequestId {
        let member = self.member(id);
        let request = member.ask(0, op);
        member.flush();
        self.deliver();
        request
    }

    /// What the member has answered.
    pub fn answer(&mut self, id: u64, request: RequestId) -> Option<Result<PdReply, PdError>> {
        self.member(id).replies.remove(&request)
    }

    /// What the member answers in the end.
    pub fn outcome(&mut self, id: u64, op: PdOp) -> Result<PdReply, PdError> {
        let request = self.ask(id, op);
        self.until("an answer", |group| group.answer(id, request))
    }

    /// What the leader answers; it is asked again while it is busy.
    pub fn call(&mut self, op: PdOp) -> PdReply {
        self.until("a reply", |group| {
            let leader = group.leader();
            match group.outcome(leader, op.clone()) {
                Ok(reply) => Some(reply),
                Err(PdError::Busy { .. } | PdError::NotLeader { .. }) => None,
                Err(error) => panic!("{op:?}: {error:?}"),
            }
        })
    }

    pub fn change(&mut self, change: MembersChange) -> PdReply {
        self.call(PdOp::ChangeMembers(change))
    }

    /// True if the members that are not cut off have applied the same.
    pub fn is_level(&self) -> bool {
        let linked =
            self.members.iter().filter(|(id, m)| !self.cut.contains(id) && m.links.ended.is_none());
        let states: Vec<_> =
            linked.map(|(_, m)| (m.pd.applied_and_durable().0, m.pd.state())).collect();
        states.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Carries messages to and fro until there are none.
    fn deliver(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut mails = vec![];
            for (from, member) in &mut self.members {
                let outgoing = std::mem::take(&mut member.links.outgoing);
                mails.extend(outgoing.into_iter().map(|mail| (*from, mail)));
            }
            if mails.is_empty() {
                return;
            }
            for (from, (envelope, rows)) in mails {
                let Address::Pd(to) = envelope.to.address else { panic!("{envelope:?}") };
                let is_cut = self.cut.contains(&from) || self.cut.contains(&to);
                let is_snapshot = rows.is_some();
                let receiver = self.members.get_mut(&to).filter(|_| !is_cut);
                let receiver = receiver.filter(|member| member.links.ended.is_none());
                let is_ok = receiver.map(|member| member.receive(envelope, rows)).is_some();
                if is_snapshot {
                    let sender = self.member(from);
                    sender.step(Input::SnapshotSent { member: to, is_ok });
                    sender.flush();
                }
            }
        }
        panic!("messages without end");
    }

    /// Why the member's process has ended for good, once it has.
    pub fn ended(&mut self, id: u64) -> Ended {
        self.until("its end", |group| group.member(id).links.ended)
    }
}
