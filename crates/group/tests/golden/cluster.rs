//! The little cluster: members, the messages between them, and a clock.
//!
//! Everything happens by a command. Messages wait in one queue, in the order in which they were
//! sent, until they are delivered or dropped. Each command ends with the checks of
//! [`Cluster::check`]: at most one leader in a term, logs that agree on an entry agree on all
//! before it, and all members apply the same.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_group::{GroupLimits, Membership, Position, StepError};
use flotilla_types::Millis;
use flotilla_types::proto::{MessageKind, RaftMessage};

use crate::member::{Member, State};
use crate::trace;

/// The entry before a new group's first. Not zero, so that a member without state is behind it.
const FIRST: Position = Position { index: 1, term: 1 };

/// Rounds of delivery after which a cluster that still sends messages is broken.
const ROUNDS_MAX: usize = 1000;

/// See the module's documentation.
#[derive(Default)]
pub struct Cluster {
    pub members: BTreeMap<u64, Member>,
    pub now: Millis,
    pub shows_heartbeats: bool,
    pub is_isolated: BTreeSet<u64>,
    /// True if nobody tells a leader how the sending of its snapshot has ended.
    pub leaves_snapshots_untold: bool,
    pub limits: GroupLimits,
    messages: Vec<RaftMessage>,
    leaders: BTreeMap<u64, u64>,
    applied: BTreeMap<Position, String>,
}

impl Cluster {
    /// Begins with these members, all of the same empty state.
    pub fn create(&mut self, voters: &[u64], learners: &[u64]) {
        let learners = learners.to_vec();
        let membership = Membership { learners, ..Membership::of_voters(voters) };
        for id in voters.iter().chain(&membership.learners) {
            let membership = membership.clone();
            self.add(*id, State { applied: FIRST, membership, data: vec![] });
        }
    }

    /// Starts a member over `state`.
    pub fn add(&mut self, id: u64, state: State) {
        let mut member = Member::new(id, state, self.limits);
        member.start(self.now, false).expect("a new member opens");
        self.members.insert(id, member);
    }

    /// The member, which must exist.
    pub fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).unwrap_or_else(|| panic!("no member {id}"))
    }

    /// Carries out the readies of a member after a call.
    pub fn work(&mut self, id: u64, out: &mut Vec<String>) {
        let mut sent = vec![];
        self.member(id).work(&mut sent, out);
        self.messages.append(&mut sent);
    }

    /// Takes the waiting messages for which `is_meant` is true; the others go on waiting.
    pub fn take(&mut self, is_meant: impl Fn(&RaftMessage) -> bool) -> Vec<RaftMessage> {
        let (taken, left) = std::mem::take(&mut self.messages).into_iter().partition(is_meant);
        self.messages = left;
        taken
    }

    /// Delivers until nothing waits.
    pub fn stabilize(&mut self, out: &mut Vec<String>) {
        for _ in 0..ROUNDS_MAX {
            if self.messages.is_empty() {
                return;
            }
            for message in self.take(|_| true) {
                self.deliver(message, out);
            }
        }
        panic!("the cluster does not come to rest: {:?}", self.messages);
    }

    /// Delivers one message, or loses it if its way is cut.
    pub fn deliver(&mut self, message: RaftMessage, out: &mut Vec<String>) {
        let (from, to) = (message.from, message.to);
        let is_up = self.members.get(&to).is_some_and(|member| member.group.is_some());
        if !is_up || self.is_isolated.contains(&from) || self.is_isolated.contains(&to) {
            self.lose(message, out);
            return;
        }
        self.print(&message, "", out);
        let is_snapshot = message.kind() == MessageKind::MsgSnapshot;
        let now = self.now;
        match self.member(to).group().step(now, message) {
            Ok(()) => {}
            Err(StepError::Ignored) => out.push(format!("  {to} ignores it")),
            Err(lost @ StepError::LostLog { .. }) => {
                out.push(format!("  {to} stops: {lost}"));
                self.member(to).crash();
                return;
            }
        }
        self.work(to, out);
        self.report_snapshot(is_snapshot, from, to, true, out);
    }

    /// Loses a message, and reports a lost snapshot to its sender.
    pub fn lose(&mut self, message: RaftMessage, out: &mut Vec<String>) {
        self.print(&message, " (lost)", out);
        let is_snapshot = message.kind() == MessageKind::MsgSnapshot;
        self.report_snapshot(is_snapshot, message.from, message.to, false, out);
    }

    fn report_snapshot(
        &mut self,
        is_snapshot: bool,
        from: u64,
        to: u64,
        is_ok: bool,
        out: &mut Vec<String>,
    ) {
        let is_told = is_snapshot && !self.leaves_snapshots_untold;
        if let Some(group) = self.member(from).group.as_mut().filter(|_| is_told) {
            group.report_snapshot(to, is_ok);
            self.work(from, out);
        }
    }

    fn print(&self, message: &RaftMessage, note: &str, out: &mut Vec<String>) {
        if !self.shows_heartbeats && trace::is_heartbeat(message) {
            return;
        }
        let what = trace::describe(message);
        out.push(format!("{} -> {} {what}{note}", message.from, message.to));
    }

    /// Checks the invariants of the whole cluster; panics if one is broken.
    pub fn check(&mut self) {
        for (id, member) in &self.members {
            let Some(group) = &member.group else { continue };
            let role = group.role();
            if role.is_leader {
                let leader = *self.leaders.entry(role.term).or_insert(*id);
                assert_eq!(leader, *id, "two leaders in term {}", role.term);
            }
            assert!(member.state.applied.index <= group.commit_index(), "applied <= commit");
            let data = member.state.data.join(" ");
            let known = self.applied.entry(member.state.applied).or_insert(data.clone());
            assert_eq!(*known, data, "what {id} has applied at {:?}", member.state.applied);
        }
        let logs: Vec<Vec<Position>> = self.members.values().map(Member::entries).collect();
        for (at, log) in logs.iter().enumerate() {
            for other in &logs[at + 1..] {
                check_log_matching(log, other);
            }
        }
    }
}

/// If two logs hold the same entry at an index, they agree on every entry before it that both
/// still hold.
fn check_log_matching(log: &[Position], other: &[Position]) {
    let both = |index: u64| {
        let at = |log: &[Position]| log.iter().find(|at| at.index == index).map(|at| at.term);
        Some((at(log)?, at(other)?))
    };
    let indexes: Vec<u64> = log.iter().map(|at| at.index).rev().collect();
    let mut must_agree = false;
    for (mine, theirs) in indexes.into_iter().filter_map(both) {
        assert!(!must_agree || mine == theirs, "logs disagree below an entry they share");
        must_agree |= mine == theirs;
    }
}
