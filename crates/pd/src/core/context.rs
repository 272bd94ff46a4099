//! What a request is decided on, and what a decision may be.
//!
//! A handler of a request is a function that takes a [`LeaderContext`] and returns an [`Action`];
//! [`crate::core::pd::Pd`] carries the action out. So handlers neither propose nor answer by
//! themselves, and none of them has to ask whether this member leads.

use flotilla_types::placement::{PdError, PdReply};
use flotilla_types::{Millis, RegionId};

use crate::core::command::PdCommand;
use crate::core::config::PdTiming;
use crate::core::errors::{busy, refused};
use crate::core::io::{Event, Output};
use crate::core::leader_state::LeaderState;
use crate::core::limits::PdLimits;
use crate::core::operator::{Operator, OperatorPlan};
use crate::core::state::State;
use crate::core::waiting::{Waiter, Waiting};

/// A request's outcome: the reply, or why there is none.
pub(crate) type Outcome = Result<PdReply, PdError>;

/// What a request leads to.
pub(crate) enum Action {
    /// It is answered at once.
    Answer(Outcome),
    /// The command is proposed; the waiter is answered when the command is applied.
    Propose(PdCommand, Waiter),
    /// It waits for what was done already.
    Waits,
}

impl From<Result<Action, PdError>> for Action {
    fn from(result: Result<Action, PdError>) -> Action {
        result.unwrap_or_else(|error| Action::Answer(Err(error)))
    }
}

/// What a leading member knows while it handles one input.
pub(crate) struct LeaderContext<'a> {
    /// The moment of the input.
    pub now: Millis,
    /// How the member keeps time.
    pub timing: &'a PdTiming,
    /// What is committed and applied.
    pub state: &'a State,
    /// Requests that are not answered yet.
    pub waiting: &'a Waiting,
    /// What the leader knows and plans.
    pub leader: &'a mut LeaderState,
    /// Takes the events.
    pub out: &'a mut Vec<Output>,
}

impl LeaderContext<'_> {
    /// The member's bounds.
    pub(crate) fn limits(&self) -> &PdLimits {
        self.leader.operators.limits()
    }

    /// True if ids from the watermark on are known to be unused.
    pub(crate) fn may_lease_ids(&self) -> bool {
        self.leader.may_lease_ids(self.state, self.now)
    }

    pub(crate) fn emit(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    /// Starts a plan on a region that has `from_version` now, and returns the operator's id.
    ///
    /// # Errors
    /// Busy while the leader has no ids; refused if the region has an operator that goes before.
    pub(crate) fn start_operator(
        &mut self,
        plan: OperatorPlan,
        from_version: u64,
    ) -> Result<u64, PdError> {
        let ids = self.leader.ids.take(self.state.next_id());
        let ids = ids.ok_or_else(|| busy("no ids are at hand yet"))?;
        let operator = Operator::start(plan, ids, from_version, self.now);
        let (id, region, name) = (operator.id, operator.region, operator.name());
        if let Some(replaced) = self.leader.operators.start(operator).map_err(refused)? {
            self.note_end(&replaced, "replaced by an administrator's");
        }
        self.emit(Event::OperatorStarted { id, region, name });
        Ok(id)
    }

    /// Ends the region's operator. The region is planned for anew at the next tick.
    pub(crate) fn end_operator(&mut self, region: RegionId, outcome: &'static str) {
        if let Some(operator) = self.leader.operators.finish(region) {
            self.leader.plan_at = None;
            self.note_end(&operator, outcome);
        }
    }

    pub(crate) fn note_end(&mut self, operator: &Operator, outcome: &'static str) {
        let (id, region) = (operator.id, operator.region);
        self.leader.history.note(operator, outcome, self.now);
        self.emit(Event::OperatorEnded { id, region, outcome });
    }
}
