//! Which member of the placement driver an endpoint asks: the one that it takes for the leader. It
//! follows the answer of a member that does not lead, stays with a leader that is busy, and tries
//! the next one if nobody answers, as the caller that ships does (`flotilla_net::pd`).

use flotilla_types::proto;
use flotilla_types::proto::pd_error::Kind;
use flotilla_types::proto::pd_reply::Result as PdResult;

use crate::time::{MS, Micros};

/// A member that has not answered for this long is not asked again before the others.
const SILENT_AFTER: Micros = 1_000 * MS;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub struct PdGuess {
    /// One less than the member's number.
    at: u32,
    /// The first question to it without an answer.
    asked: Option<Micros>,
}

impl PdGuess {
    /// The member to ask now; there are `count`.
    pub fn ask(&mut self, now: Micros, count: u32) -> u32 {
        if self.asked.is_some_and(|asked| now >= asked + SILENT_AFTER) {
            self.next(count);
        }
        self.asked.get_or_insert(now);
        self.at + 1
    }

    /// Member `from` has answered; None if its connection failed.
    pub fn answered(&mut self, from: u32, reply: Option<&proto::PdReply>, count: u32) {
        if from != self.at + 1 {
            return;
        }
        self.asked = None;
        let error = match reply.map(|reply| &reply.result) {
            None => return self.next(count),
            Some(Some(PdResult::Error(error))) => &error.kind,
            Some(_) => return,
        };
        if let Some(Kind::NotLeader(told)) = error {
            match told.leader_addr.strip_prefix("pd:").and_then(|id| id.parse::<u32>().ok()) {
                Some(leader) if (1..=count).contains(&leader) => self.at = leader - 1,
                _ => self.next(count),
            }
        }
    }

    fn next(&mut self, count: u32) {
        self.at = (self.at + 1) % count;
        self.asked = None;
    }
}
