//! One round of asking the members of the placement driver, of which one leads and the others say
//! who does: a hedged request (Dean and Barroso, "The Tail at Scale", 2013).
//!
//! In: the members, the one to begin with, what each says, and the time. Out: what to send to whom
//! ([`Step`]). The caller sends, reports every end of what it sent to [`Round::heard`], and ends
//! the round once the request is answered or [`Round::is_over`].
//!
//! 1. The request goes to the first member. A request that must not be carried out twice
//!    ([`Effect::Once`]) follows a *probe*: the member is asked who leads, and nothing else.
//! 2. A member that names another one as the leader sends the round there, as in step 1.
//! 3. A member that fails, or knows no leader, or has not answered for [`HEDGE_MS`], has all others
//!    probed at once. They are probed again every [`HEDGE_MS`] while something is unanswered, for
//!    the member that is silent may be the leader, and another one is elected then.
//! 4. A member that answers a probe as the leader gets the request.
//!
//! Invariants: no member has two of the same question open. A request with [`Effect::Once`] is open
//! at one member at most, and goes to no other once its answer is lost.
//!
//! Not here: connections, time limits of single questions, and further rounds.

use std::sync::Arc;

use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto::pd_request::Op;

/// A member that has not answered by then may be frozen or cut off, and the others are probed. A
/// member commits within milliseconds, and a slow disk costs no more than some probes, each of
/// which a follower answers from memory.
pub const HEDGE_MS: u64 = 150;

/// What carrying a request out twice does, which decides what a lost answer means, and whether a
/// request may be sent to a second member while the first is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that matters: a read, or what is said again anyway, or merely wasted.
    None,
    /// The same as carrying it out once: the request names its whole outcome.
    Repeatable,
    /// More than carrying it out once: the request makes something new.
    Once,
}

/// What a member is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The request.
    Request,
    /// Who leads: a read that only the leader answers, and every other member says who that is.
    Probe,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<M> {
    /// The member to send it to.
    pub to: M,
    /// What to ask.
    pub question: Question,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<M> {
    /// The member answered a probe as the leader does.
    Leads,
    /// The member does not lead, has done nothing, and names the leader if it knows one.
    NotLeader(Option<M>),
    /// The question never reached a member.
    NotSent,
    /// There is no answer, and the member may have done what it was asked.
    Lost,
}

/// See the module's documentation. `M` is a member's name: its address, or its number.
#[derive(Debug)]
pub struct Round<M> {
    members: Arc<[M]>,
    effect: Effect,
    contacts: Vec<Contact<M>>,
    /// When the members without an open question are probed.
    hedge_at: Millis,
    /// The answer to a request with [`Effect::Once`] is lost.
    is_spent: bool,
}

/// What one member was asked.
#[derive(Debug)]
struct Contact<M> {
    member: M,
    request: Asked,
    probe: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Never,
    Open,
    Done,
}

impl<M: Clone + Eq> Round<M> {
    /// A round over these members that begins with `first`, which need not be one of them.
    pub fn begin(
        members: Arc<[M]>,
        first: M,
        effect: Effect,
        now: Millis,
    ) -> (Round<M>, Vec<Step<M>>) {
        let hedge_at = now.plus(HEDGE_MS);
        let mut round = Round { members, effect, contacts: vec![], hedge_at, is_spent: false };
        let mut steps = vec![];
        round.approach(first, now, &mut steps);
        (round, steps)
    }

    /// A question to `from` has ended, other than with the answer to the request.
    pub fn heard(
        &mut self,
        from: &M,
        question: Question,
        heard: Heard<M>,
        now: Millis,
    ) -> Vec<Step<M>> {
        *self.contact(from).asked(question) = Asked::Done;
        self.is_spent |=
            question == Question::Request && self.effect == Effect::Once && heard == Heard::Lost;
        let mut steps = vec![];
        if !self.may_send() {
            return steps;
        }
        match heard {
            Heard::Leads => self.send(from.clone(), Question::Request, now, &mut steps),
            Heard::NotLeader(Some(leader)) => self.follow(leader, now, &mut steps),
            Heard::NotLeader(None) | Heard::NotSent | Heard::Lost => {
                self.probe_all(Asked::Never, now, &mut steps);
            }
        }
        steps
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Millis) -> Vec<Step<M>> {
        let mut steps = vec![];
        if self.wake_at().is_some_and(|at| now >= at) {
            self.hedge_at = now.plus(HEDGE_MS);
            self.probe_all(Asked::Done, now, &mut steps);
        }
        steps
    }

    /// When [`Round::on_time`] has something to do; None if it has not unless something is heard.
    pub fn wake_at(&self) -> Option<Millis> {
        (self.may_send() && !self.is_over()).then_some(self.hedge_at)
    }

    /// True once nothing is open: no member leads, or none can be reached.
    pub fn is_over(&self) -> bool {
        self.is_spent || self.open().next().is_none()
    }

    /// True while the request may be carried out by a member that has not answered.
    pub fn has_open_request(&self) -> bool {
        self.contacts.iter().any(|contact| contact.request == Asked::Open)
    }

    /// The members with a question that is not answered.
    pub fn open(&self) -> impl Iterator<Item = &M> {
        self.contacts.iter().filter(|contact| contact.is_open()).map(|contact| &contact.member)
    }

    /// Asks a member that may be the leader.
    fn approach(&mut self, member: M, now: Millis, steps: &mut Vec<Step<M>>) {
        let question = match self.effect {
            Effect::None | Effect::Repeatable => Question::Request,
            Effect::Once => Question::Probe,
        };
        self.send(member, question, now, steps);
    }

    /// A member has named the leader. One that has said itself that it does not lead is not asked
    /// again for that.
    fn follow(&mut self, leader: M, now: Millis, steps: &mut Vec<Step<M>>) {
        let contact = self.contact(&leader);
        match (contact.request, contact.probe) {
            (Asked::Never, Asked::Never) => self.approach(leader, now, steps),
            (Asked::Open, _) | (_, Asked::Open) => {}
            (Asked::Done, _) | (_, Asked::Done) => self.probe_all(Asked::Never, now, steps),
        }
    }

    /// Probes the members that have no question open; with [`Asked::Never`] only those that were
    /// asked nothing yet.
    fn probe_all(&mut self, worst: Asked, now: Millis, steps: &mut Vec<Step<M>>) {
        if planted(Mutant::PdOthersUnasked) {
            return;
        }
        for member in self.members.clone().iter() {
            let contact = self.contact(member);
            let is_new = (contact.request, contact.probe) == (Asked::Never, Asked::Never);
            if is_new || (worst == Asked::Done && !contact.is_open()) {
                self.send(member.clone(), Question::Probe, now, steps);
            }
        }
    }

    fn send(&mut self, to: M, question: Question, now: Millis, steps: &mut Vec<Step<M>>) {
        let asked = self.contact(&to).asked(question);
        if *asked == Asked::Open {
            return;
        }
        *asked = Asked::Open;
        self.hedge_at = now.plus(HEDGE_MS);
        steps.push(Step { to, question });
    }

    /// False while a request that must not be carried out twice is open, and once its answer is
    /// lost.
    fn may_send(&self) -> bool {
        let is_alone = self.effect == Effect::Once && self.has_open_request();
        !self.is_spent && !is_alone
    }

    fn contact(&mut self, member: &M) -> &mut Contact<M> {
        let known = self.contacts.iter().position(|contact| contact.member == *member);
        let at = known.unwrap_or_else(|| {
            let member = member.clone();
            self.contacts.push(Contact { member, request: Asked::Never, probe: Asked::Never });
            self.contacts.len() - 1
        });
        self.contacts.get_mut(at).expect("found or just added")
    }
}

impl<M> Contact<M> {
    fn asked(&mut self, question: Question) -> &mut Asked {
        match question {
            Question::Request => &mut self.request,
            Question::Probe => &mut self.probe,
        }
    }

    fn is_open(&self) -> bool {
        self.request == Asked::Open || self.probe == Asked::Open
    }
}

/// What carrying `op` out twice does.
pub fn effect(op: &Op) -> Effect {
    match op {
        Op::ClusterStatus(_)
        | Op::Regions(_)
        | Op::Stores(_)
        | Op::Operators(_)
        | Op::Explain(_)
        | Op::Members(_)
        | Op::Heartbeat(_)
        | Op::AllocateIds(_) => Effect::None,
        // A new store: each answer may name another id.
        Op::RegisterStore(register) if register.store_id == 0 => Effect::Once,
        Op::RegisterStore(_)
        | Op::SetStoreState(_)
        | Op::CancelOperator(_)
        | Op::ChangeMembers(_) => Effect::Repeatable,
        Op::AddOperator(_) => Effect::Once,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Heard::{Leads, Lost, NotLeader, NotSent};
    use Question::{Probe, Request};

    fn begin(effect: Effect) -> (Round<u32>, Vec<Step<u32>>) {
        Round::begin(Arc::from([1, 2, 3]), 1, effect, Millis(0))
    }

    fn steps(question: Question, to: &[u32]) -> Vec<Step<u32>> {
        to.iter().map(|to| Step { to: *to, question }).collect()
    }

    #[test]
    fn a_silent_leader_is_hedged_until_another_is_elected_and_gets_the_request() {
        let (mut round, first) = begin(Effect::None);
        assert_eq!(first, steps(Request, &[1]));
        assert_eq!(round.on_time(Millis(HEDGE_MS - 1)), vec![]);
        let at = round.wake_at().expect("something is open");
        assert_eq!(round.on_time(at), steps(Probe, &[2, 3]));
        for member in [2, 3] {
            assert_eq!(round.heard(&member, Probe, NotLeader(Some(1)), at), vec![]);
        }
        let later = round.wake_at().expect("the first is still open");
        assert_eq!(later, at.plus(HEDGE_MS));
        assert_eq!(round.on_time(later), steps(Probe, &[2, 3]));
        assert_eq!(round.heard(&2, Probe, NotLeader(None), later), vec![]);
        assert_eq!(round.heard(&3, Probe, Leads, later), steps(Request, &[3]));
        assert!(round.has_open_request() && !round.is_over());
    }

    #[test]
    fn a_followers_word_is_followed_and_one_that_denies_it_is_not_asked_again() {
        let (mut round, _) = begin(Effect::Repeatable);
        let named = round.heard(&1, Request, NotLeader(Some(9)), Millis(1));
        assert_eq!(named, steps(Request, &[9]), "it need not be known");
        let denied = round.heard(&9, Request, NotLeader(Some(1)), Millis(2));
        assert_eq!(denied, steps(Probe, &[2, 3]));
        for member in [2, 3] {
            assert!(!round.is_over());
            assert_eq!(round.heard(&member, Probe, NotLeader(Some(1)), Millis(3)), vec![]);
        }
        assert!(round.is_over());
        assert_eq!(round.wake_at(), None);
    }

    #[test]
    fn a_member_that_cannot_be_reached_has_the_others_probed_at_once() {
        let (mut round, _) = begin(Effect::None);
        assert_eq!(round.heard(&1, Request, NotSent, Millis(1)), steps(Probe, &[2, 3]));
        assert_eq!(round.heard(&2, Probe, NotLeader(Some(3)), Millis(2)), vec![]);
        assert_eq!(round.heard(&3, Probe, Lost, Millis(3)), vec![]);
        assert!(round.is_over());
    }

    #[test]
    fn what_may_be_done_once_only_is_open_at_one_member_and_never_sent_again_once_lost() {
        let (mut round, first) = begin(Effect::Once);
        assert_eq!(first, steps(Probe, &[1]));
        let at = round.wake_at().expect("the probe is open");
        assert_eq!(round.on_time(at), steps(Probe, &[2, 3]));
        assert_eq!(round.heard(&3, Probe, Leads, at), steps(Request, &[3]));
        assert_eq!(round.wake_at(), None, "nothing is hedged now");
        assert_eq!(round.heard(&2, Probe, Leads, at), vec![], "another that claims to lead");
        assert_eq!(round.heard(&3, Request, Lost, at), vec![]);
        assert!(round.is_over());
        assert_eq!(round.heard(&1, Probe, Leads, at), vec![]);
        assert_eq!(round.on_time(at.plus(HEDGE_MS)), vec![]);
    }

    #[test]
    fn what_may_be_done_once_only_goes_on_to_the_leader_after_a_certain_no() {
        let (mut round, _) = begin(Effect::Once);
        assert_eq!(round.heard(&1, Probe, Leads, Millis(1)), steps(Request, &[1]));
        let no = round.heard(&1, Request, NotLeader(Some(2)), Millis(2));
        assert_eq!(no, steps(Probe, &[2]));
        assert_eq!(round.heard(&2, Probe, Leads, Millis(3)), steps(Request, &[2]));
    }

    #[test]
    fn a_lone_member_is_waited_for() {
        let (mut round, _) = Round::begin(Arc::from([1]), 1, Effect::None, Millis(0));
        for tick in 1..=5 {
            assert_eq!(round.on_time(Millis(tick * HEDGE_MS)), vec![]);
            assert!(!round.is_over());
        }
        assert_eq!(round.heard(&1, Request, Lost, Millis(3_000)), vec![]);
        assert!(round.is_over());
    }
}
