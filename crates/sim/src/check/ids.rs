//! The placement driver hands each id out once: no id is in two blocks, or in a block and in use
//! for an operator and its new peer. A block leaves only once the watermark above it is committed,
//! and the watermark never goes back. All of that holds across restarts of the placement driver.
//!
//! Why that is sound: the watermark is replicated state, and a member leads only once it has
//! applied all that was committed before. So a leader's watermark that is seen below an id that was
//! handed out means that the id can be handed out again. A member that does not lead has not
//! applied all yet, and is not looked at; nor does one that was deposed and does not know it, but
//! what it hands out is looked at.
//!
//! A placement driver that is put back from an older copy of its directory has that copy's
//! watermark. It cannot know what became of ids above it that no store names: an operator's, or
//! those of an answer that was lost. So these count as not handed out; what is used of them is for
//! [`super::model`], which knows two regions of one id.
//!
//! Not here: ids of stores, which have a numbering of their own. What stores make of the ids of
//! their blocks is for [`super::tombstone`] and [`super::disjoint`].

use std::collections::{BTreeMap, BTreeSet};

use flotilla_pd::core::{Event, Output};
use flotilla_types::heartbeat::IdBlock;
use flotilla_types::placement::PdReply;

use super::{Verdict, broken};

const ONCE: &str = "the placement driver hands each id out once";
const COMMITTED: &str = "ids leave once their watermark is committed, and it never goes back";

/// All ids that were ever handed out.
#[derive(Debug, Default)]
pub struct Ids {
    /// Blocks, by their first id: the id after their last.
    blocks: BTreeMap<u64, u64>,
    operators: BTreeSet<u64>,
    /// The greatest term in which a member led, and the greatest watermark so far.
    last: (u64, u64),
}

impl Ids {
    /// Checks what a member that leads in a term puts out in a step. The watermark is the least id
    /// that its committed state has not handed out, after the step.
    pub fn put_out(&mut self, (term, watermark): (u64, u64), outputs: &[Output]) -> Verdict {
        for output in outputs {
            match output {
                Output::Reply { reply: Ok(reply), .. } => self.replied(watermark, reply)?,
                Output::Event(Event::OperatorStarted { id, .. }) => {
                    self.operator(watermark, *id)?;
                }
                _ => {}
            }
        }
        self.seen(term, watermark)
    }

    /// The placement driver was put back from a copy that has this watermark.
    pub fn put_back(&mut self, watermark: u64) {
        self.last = (0, watermark);
        self.blocks.retain(|_, end| *end <= watermark);
        self.operators.retain(|id| *id < watermark);
    }

    fn seen(&mut self, term: u64, watermark: u64) -> Verdict {
        let (last_term, before) = self.last;
        if term < last_term {
            return Ok(());
        }
        self.last = (term, watermark);
        if watermark >= before {
            return Ok(());
        }
        broken(COMMITTED, format!("the watermark goes from {before} to {watermark}"))
    }

    fn replied(&mut self, watermark: u64, reply: &PdReply) -> Verdict {
        match reply {
            PdReply::Ids(block) => self.block(watermark, *block),
            PdReply::RegisterStore(registration) => self.block(watermark, registration.ids),
            PdReply::Heartbeat(reply) => match reply.ids {
                Some(block) => self.block(watermark, block),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn block(&mut self, watermark: u64, block: IdBlock) -> Verdict {
        let (start, end) = (block.start, block.start + block.count);
        if end > watermark {
            return broken(COMMITTED, format!("ids {start}..{end} at the watermark {watermark}"));
        }
        let earlier = self.blocks.range(..end).next_back().filter(|(_, other)| **other > start);
        if let Some((first, last)) = earlier {
            return broken(ONCE, format!("ids {start}..{end}, and {first}..{last} before"));
        }
        if let Some(used) = self.operators.range(start..end).next() {
            return broken(ONCE, format!("ids {start}..{end}; an operator has taken {used}"));
        }
        self.blocks.insert(start, end);
        Ok(())
    }

    /// An operator takes two ids: its own, and the next one for its new peer.
    fn operator(&mut self, watermark: u64, id: u64) -> Verdict {
        if id + 2 > watermark {
            return broken(COMMITTED, format!("operator {id} at the watermark {watermark}"));
        }
        let is_new = self.operators.insert(id) && self.operators.insert(id + 1);
        if !is_new || self.is_in_block(id) || self.is_in_block(id + 1) {
            return broken(ONCE, format!("operator {id} has an id that is in use"));
        }
        Ok(())
    }

    fn is_in_block(&self, id: u64) -> bool {
        self.blocks.range(..=id).next_back().is_some_and(|(_, end)| *end > id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_pd::core::RequestId;
    use flotilla_types::RegionId;

    fn block(start: u64, count: u64) -> Output {
        let reply = Ok(PdReply::Ids(IdBlock { start, count }));
        Output::Reply { id: RequestId(1), reply }
    }

    fn operator(id: u64) -> Output {
        let event = Event::OperatorStarted { id, region: RegionId(1), name: String::new() };
        Output::Event(event)
    }

    #[test]
    fn an_id_in_two_blocks_is_found() {
        let mut ids = Ids::default();
        assert_eq!(ids.put_out((1, 200), &[block(100, 10), block(110, 10)]), Ok(()));
        for (start, count) in [(109, 1), (90, 11), (90, 100), (115, 50)] {
            assert!(ids.put_out((1, 200), &[block(start, count)]).is_err(), "{start} {count}");
        }
        assert_eq!(ids.put_out((1, 200), &[block(90, 10), block(120, 1)]), Ok(()));
    }

    #[test]
    fn an_id_of_a_block_and_of_an_operator_is_found() {
        let mut ids = Ids::default();
        assert_eq!(ids.put_out((1, 200), &[block(100, 10), operator(110)]), Ok(()));
        assert!(ids.put_out((1, 200), &[operator(109)]).is_err());
        assert!(ids.put_out((1, 200), &[operator(99)]).is_err(), "its new peer's is in the block");
        assert!(ids.put_out((1, 200), &[operator(110)]).is_err());
        assert!(ids.put_out((1, 200), &[block(111, 1)]).is_err(), "the operator's new peer has it");
    }

    #[test]
    fn what_an_older_copy_has_handed_out_is_not_handed_out_again() {
        let mut ids = Ids::default();
        assert_eq!(ids.put_out((1, 110), &[block(100, 10)]), Ok(()));
        assert_eq!(ids.put_out((1, 120), &[block(110, 10)]), Ok(()));
        ids.put_back(110);
        assert!(ids.put_out((1, 109), &[]).is_err());
        assert_eq!(ids.put_out((1, 120), &[block(110, 10)]), Ok(()));
        assert!(ids.put_out((1, 120), &[block(105, 10)]).is_err());
    }

    #[test]
    fn ids_above_the_watermark_and_a_watermark_that_goes_back_are_found() {
        let mut ids = Ids::default();
        assert!(ids.put_out((1, 100), &[block(95, 6)]).is_err());
        assert_eq!(ids.put_out((1, 101), &[block(95, 6)]), Ok(()));
        assert!(ids.put_out((1, 101), &[operator(101)]).is_err());
        assert!(ids.put_out((1, 100), &[]).is_err());
    }
}
