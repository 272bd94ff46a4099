//! The operators that have ended, for people: the last `ENDED_MAX`, with their outcomes.
//!
//! Soft: gone with leadership.

use std::collections::VecDeque;

use flotilla_types::Millis;
use flotilla_types::explain::EndedOperator;
use flotilla_types::placement::OperatorStatus;

use crate::core::operator::Operator;
use crate::core::operator_step::OperatorStep;

/// Operators that are remembered: a list that a person still reads.
const ENDED_MAX: usize = 256;

/// The operators that have ended, the oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History(VecDeque<Ended>);

#[derive(Clone, Debug, PartialEq)]
struct Ended {
    operator: Operator,
    outcome: &'static str,
    at: Millis,
}

impl History {
    /// An operator has ended.
    pub fn note(&mut self, operator: &Operator, outcome: &'static str, at: Millis) {
        if self.0.len() >= ENDED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Ended { operator: operator.clone(), outcome, at });
    }

    /// All, the oldest first.
    pub fn list(&self, now: Millis) -> Vec<EndedOperator> {
        let told = |ended: &Ended| EndedOperator {
            operator: status(&ended.operator, ended.at),
            outcome: ended.outcome.into(),
            ended_ms: now.since(ended.at),
        };
        self.0.iter().map(told).collect()
    }
}

/// An operator as of `now`, for people.
pub fn status(operator: &Operator, now: Millis) -> OperatorStatus {
    OperatorStatus {
        id: operator.id,
        region_id: operator.region,
        kind: operator.name(),
        steps: operator.steps.iter().map(OperatorStep::describe).collect(),
        current_step: operator.done as u64,
        age_ms: now.since(operator.created),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::{PeerId, RegionId};

    use super::*;
    use crate::core::operator::{OperatorIds, OperatorKind, OperatorPlan, Origin};

    #[test]
    fn the_last_ones_are_listed_with_their_outcomes() {
        let mut history = History::default();
        for id in 0..300 {
            let steps = vec![OperatorStep::Promote(PeerId(3))];
            let (kind, origin) = (OperatorKind::Promote, Origin::Repair);
            let plan = OperatorPlan { region: RegionId(7), kind, origin, steps };
            let ids = OperatorIds { operator: id, peer: PeerId(4) };
            let operator = Operator::start(plan, ids, 1, Millis(10));
            history.note(&operator, "done", Millis(10 + id));
        }
        let listed = history.list(Millis(1_000));
        assert_eq!(listed.len(), ENDED_MAX);
        let last = listed.last().expect("one");
        assert_eq!((last.operator.id, last.operator.age_ms, last.ended_ms), (299, 299, 691));
        assert_eq!(
            (last.outcome.as_str(), last.operator.kind.as_str()),
            ("done", "repair promote")
        );
    }
}
