//! A rumour, as the network sees it: which messages of one region are lost, late or free while one
//! voter is to learn of a later term. [`crate::nemesis::rumour`] tells the whole story.
//!
//! In: each message between members of the region. Out: whether it passes, and what happens with
//! it. Messages are only lost or late, as any network may lose and delay them.

use std::collections::BTreeSet;

use flotilla_group::{MessageKind, RaftMessage};
use flotilla_host::core::message::{Body, Envelope};
use flotilla_types::{RegionId, StoreId};

/// In how many terms the climber stands for election unheard. The next leader may be elected in the
/// first of them, so only the second is later than that leader's.
const TERMS_AHEAD: usize = 2;

/// How far the rumour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The climber stands for election; the others do not, and nobody hears the old leader.
    Climbs,
    /// The climber is cut off; the others elect a leader.
    Elects,
    /// The new leader's log reaches the others.
    Settles,
    /// The candidate is cut off from the leader, and hears the climber.
    Waits,
    /// The late message has reached the climber; the leader is cut off from all.
    Struck,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Rumour {
    /// The region.
    pub region: RegionId,
    /// Led the region when the rumour began, and is to learn of the later term.
    pub old: StoreId,
    /// Stands for election in terms that nobody else learns of.
    pub climber: StoreId,
    /// Was elected meanwhile.
    pub leader: Option<StoreId>,
    /// Stands for election beside the leader.
    pub candidate: Option<StoreId>,
    stage: Stage,
    /// The terms in which the climber stood for election.
    terms: BTreeSet<u64>,
    /// A message of the old leader to the climber.
    late: Option<Envelope>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It goes its way.
    Free,
    /// It is lost.
    Lost,
    /// It goes its way, and shows that a leader was elected.
    Elected,
    /// The candidate asks for votes: the late message goes first.
    Strikes,
}

impl Rumour {
    /// A rumour that begins now.
    pub fn new(region: RegionId, old: StoreId, climber: StoreId) -> Rumour {
        Rumour {
            region,
            old,
            climber,
            leader: None,
            candidate: None,
            stage: Stage::Climbs,
            terms: BTreeSet::new(),
            late: None,
        }
    }

    /// The candidate is cut off from the leader.
    pub fn part(&mut self, candidate: StoreId) {
        self.candidate = Some(candidate);
        self.stage = Stage::Waits;
    }

    /// True if a leader was elected and the candidate is not cut off from it yet.
    pub fn is_settling(&self) -> bool {
        self.stage == Stage::Settles
    }

    /// Takes the late message, for which the candidate has waited.
    pub fn take_late(&mut self) -> Option<Envelope> {
        self.late.take()
    }

    /// Decides on a message of the region.
    pub fn judge(&mut self, from: StoreId, to: StoreId, envelope: &Envelope) -> Passage {
        if envelope.region_id != self.region {
            return Passage::Free;
        }
        let message =
            if let Body::Message(message) = &envelope.body { Some(message) } else { None };
        let message = message.map(Box::as_ref);
        match self.stage {
            Stage::Climbs => self.judge_climb((from, to), envelope, message),
            Stage::Elects | Stage::Settles => self.judge_election((from, to), message),
            Stage::Waits | Stage::Struck => self.judge_wait((from, to), message),
        }
    }

    fn judge_climb(
        &mut self,
        (from, to): (StoreId, StoreId),
        envelope: &Envelope,
        message: Option<&RaftMessage>,
    ) -> Passage {
        if from == self.old {
            let is_leaders = message.is_some_and(|m| leads(m).is_some());
            if to == self.climber && is_leaders && self.late.is_none() {
                self.late = Some(envelope.clone());
            }
            return Passage::Lost;
        }
        let kind = message.map(|message| (message.kind(), message.term));
        match kind {
            Some((MessageKind::MsgRequestVote, term)) if from == self.climber => {
                self.terms.insert(term);
                if self.terms.len() >= TERMS_AHEAD && self.late.is_some() {
                    self.stage = Stage::Elects;
                }
                Passage::Lost
            }
            Some((MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote, _))
                if from != self.climber =>
            {
                Passage::Lost
            }
            Some(_) | None => Passage::Free,
        }
    }

    fn judge_election(
        &mut self,
        (from, to): (StoreId, StoreId),
        message: Option<&RaftMessage>,
    ) -> Passage {
        let is_old_candidate = from == self.old && message.is_some_and(asks);
        if from == self.climber || to == self.climber || is_old_candidate {
            return Passage::Lost;
        }
        let climbed = self.terms.last().copied().unwrap_or(0);
        let is_new = |term: u64| self.terms.first().is_some_and(|first| term >= *first);
        match message.and_then(leads) {
            Some(term) if self.leader.is_none() && is_new(term) && term < climbed => {
                self.leader = Some(from);
                self.stage = Stage::Settles;
                Passage::Elected
            }
            Some(_) | None => Passage::Free,
        }
    }

    fn judge_wait(
        &mut self,
        (from, to): (StoreId, StoreId),
        message: Option<&RaftMessage>,
    ) -> Passage {
        let between = |one: Option<StoreId>, other| {
            [(Some(from), Some(to)), (Some(to), Some(from))].contains(&(one, other))
        };
        let is_of = |store: StoreId| from == store || to == store;
        let is_leaders = self.leader.is_some_and(is_of);
        if self.stage == Stage::Struck {
            return if is_leaders { Passage::Lost } else { Passage::Free };
        }
        let is_climbers = is_of(self.climber) && !between(Some(self.climber), self.candidate);
        if between(self.leader, self.candidate) || is_climbers {
            return Passage::Lost;
        }
        let climbed = self.terms.last().copied().unwrap_or(0);
        let strikes = message.is_some_and(|message| asks(message) && message.term > climbed);
        if Some(from) == self.candidate && strikes {
            self.stage = Stage::Struck;
            return Passage::Strikes;
        }
        Passage::Free
    }
}

/// The sender's term, if only a leader sends such a message.
fn leads(message: &RaftMessage) -> Option<u64> {
    let kind = message.kind();
    let is_leaders = matches!(kind, MessageKind::MsgAppend | MessageKind::MsgHeartbeat);
    is_leaders.then_some(message.term)
}

fn asks(message: &RaftMessage) -> bool {
    matches!(message.kind(), MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Member, PeerId, Region};

    const REGION: RegionId = RegionId(7);
    const OLD: StoreId = StoreId(1);
    const LEADER: StoreId = StoreId(2);
    const CLIMBER: StoreId = StoreId(3);
    const CANDIDATE: StoreId = StoreId(4);

    fn judge(rumour: &mut Rumour, from: StoreId, to: StoreId, kind: MessageKind) -> Passage {
        judge_in(rumour, (from, to), kind, 5)
    }

    fn judge_in(
        rumour: &mut Rumour,
        (from, to): (StoreId, StoreId),
        kind: MessageKind,
        term: u64,
    ) -> Passage {
        let message = RaftMessage { kind: kind.into(), term, ..RaftMessage::default() };
        let member = |store: StoreId| Member::voter(PeerId(10 + store.0), store);
        let region = Region { id: REGION, ..Region::default() };
        let body = Body::Message(Box::new(message));
        let envelope =
            flotilla_store::core::envelope::with_region_id(&region, member(from), member(to), body);
        rumour.judge(from, to, &envelope)
    }

    #[test]
    fn the_climber_is_ahead_of_the_next_leader_and_the_late_message_goes_before_the_candidate_asks()
    {
        use MessageKind::{MsgAppend, MsgHeartbeat, MsgRequestPreVote, MsgRequestVote};
        let mut rumour = Rumour::new(REGION, OLD, CLIMBER);
        assert_eq!(judge(&mut rumour, OLD, CLIMBER, MsgHeartbeat), Passage::Lost);
        assert_eq!(judge(&mut rumour, LEADER, OLD, MsgRequestPreVote), Passage::Lost);
        assert_eq!(judge(&mut rumour, CLIMBER, OLD, MsgRequestPreVote), Passage::Free);
        for term in [6, 7] {
            let climbs = judge_in(&mut rumour, (CLIMBER, OLD), MsgRequestVote, term);
            assert_eq!(climbs, Passage::Lost);
        }
        assert_eq!(judge_in(&mut rumour, (LEADER, CLIMBER), MsgAppend, 6), Passage::Lost);
        let elected = judge_in(&mut rumour, (LEADER, OLD), MsgAppend, 6);
        assert_eq!((elected, rumour.leader), (Passage::Elected, Some(LEADER)));
        rumour.part(CANDIDATE);
        assert_eq!(judge(&mut rumour, LEADER, CANDIDATE, MsgHeartbeat), Passage::Lost);
        let early = judge_in(&mut rumour, (CANDIDATE, CLIMBER), MsgRequestPreVote, 7);
        assert_eq!(early, Passage::Free, "the candidate learns the later term");
        let strikes = judge_in(&mut rumour, (CANDIDATE, OLD), MsgRequestPreVote, 8);
        assert_eq!(strikes, Passage::Strikes);
        assert!(rumour.take_late().is_some());
        assert_eq!(judge(&mut rumour, OLD, LEADER, MsgHeartbeat), Passage::Lost);
        assert_eq!(judge(&mut rumour, CLIMBER, OLD, MsgHeartbeat), Passage::Free);
    }
}
