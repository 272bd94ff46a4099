//! What the placement driver answers is not stale: an answer is given from a state that has all
//! entries that any member had applied when the question arrived.
//!
//! Why that is sound: what a member has applied is committed, and a leader that is confirmed after
//! a question arrived has all that was committed before. A member that was deposed and does not
//! know it lacks the entries of the one that leads now.
//!
//! Errors are no answers. What this checker cannot see: an answer that is stale although its state
//! is not, such as one from reports ([`super::admin`]).

use std::collections::BTreeMap;

use flotilla_pd::core::{Input, Output, RequestId};

use super::{Verdict, broken};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Fresh {
    /// The last entry that any member has applied.
    applied: u64,
    /// What that was when each question arrived, by member.
    asked: BTreeMap<(u64, RequestId), u64>,
}

impl Fresh {
    /// A member has applied all entries up to `applied`.
    pub fn observe(&mut self, applied: u64) {
        self.applied = self.applied.max(applied);
    }

    /// A member takes an input.
    pub fn takes(&mut self, member: u64, input: &Input) {
        if let Input::Request { id, .. } = input {
            self.asked.insert((member, *id), self.applied);
        }
    }

    /// A member that has applied all entries up to `applied` puts this out.
    pub fn put_out(&mut self, member: u64, applied: u64, outputs: &[Output]) -> Verdict {
        for output in outputs {
            let Output::Reply { id, reply } = output else { continue };
            let Some(asked) = self.asked.remove(&(member, *id)) else { continue };
            if reply.is_ok() && applied < asked {
                let what =
                    format!("member {member} at {applied}, and {asked} was applied: {reply:?}");
                return broken("what the placement driver answers is not stale", what);
            }
        }
        Ok(())
    }

    /// A member's process has ended: its questions are lost.
    pub fn process_ended(&mut self, member: u64) {
        self.asked.retain(|(of, _), _| *of != member);
    }

    /// The placement driver was put back from an older copy.
    pub fn put_back(&mut self) {
        *self = Fresh::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::placement::{PdError, PdOp, PdReply, PdRequest};

    fn asked(id: u64) -> Input {
        let request = PdRequest { cluster_id: 0, op: PdOp::Stores };
        Input::Request { id: RequestId(id), request }
    }

    fn answer(id: u64) -> Output {
        Output::Reply { id: RequestId(id), reply: Ok(PdReply::Stores(vec![])) }
    }

    #[test]
    fn an_answer_of_a_member_that_lacks_an_entry_is_found() {
        let mut fresh = Fresh::default();
        fresh.observe(7);
        fresh.takes(1, &asked(1));
        fresh.takes(1, &asked(2));
        fresh.takes(2, &asked(1));
        fresh.observe(9);
        assert_eq!(fresh.put_out(1, 7, &[answer(1)]), Ok(()), "later entries need not be known");
        fresh.takes(1, &asked(3));
        assert!(fresh.put_out(1, 8, &[answer(3)]).is_err());
        let refused =
            Output::Reply { id: RequestId(2), reply: Err(PdError::Busy { reason: String::new() }) };
        assert_eq!(fresh.put_out(1, 6, &[refused]), Ok(()));
        fresh.process_ended(2);
        assert_eq!(fresh.put_out(2, 0, &[answer(1)]), Ok(()), "nobody waits");
    }
}
