//! Conversions between [`crate::explain`] and the generated messages of [`crate::proto`].
//!
//! Into the wire always works. An answer that cannot be read is a [`WireError`].

use crate::explain::{
    BlockedRegion, DrainForecast, EndedOperator, Explanation, Question, RegionExplanation,
    SchedulerDecision, SchedulerState, SchedulerStatus, StoreVerdict,
};
use crate::id::{RegionId, StoreId};
use crate::proto::{
    self, explain_request::Question as WireQuestion, explanation::Answer as WireAnswer,
};
use crate::wire::WireError;

impl From<Question> for proto::ExplainRequest {
    fn from(question: Question) -> proto::ExplainRequest {
        let question = match question {
            Question::Region(region) => WireQuestion::RegionId(region.0),
            Question::Drain(store) => WireQuestion::DrainStoreId(store.0),
            Question::EndedOperators => WireQuestion::EndedOperators(proto::ListRequest {}),
            Question::Schedulers => WireQuestion::Schedulers(proto::ListRequest {}),
        };
        proto::ExplainRequest { question: Some(question) }
    }
}

/// None for a question that this version does not know.
pub(crate) fn question(request: proto::ExplainRequest) -> Option<Question> {
    Some(match request.question? {
        WireQuestion::RegionId(region) => Question::Region(RegionId(region)),
        WireQuestion::DrainStoreId(store) => Question::Drain(StoreId(store)),
        WireQuestion::EndedOperators(proto::ListRequest {}) => Question::EndedOperators,
        WireQuestion::Schedulers(proto::ListRequest {}) => Question::Schedulers,
    })
}

impl From<Explanation> for proto::Explanation {
    fn from(explanation: Explanation) -> proto::Explanation {
        let answer = match explanation {
            Explanation::Region(region) => WireAnswer::Region(region.into()),
            Explanation::Drain(forecast) => WireAnswer::Drain(forecast.into()),
            Explanation::EndedOperators(ended) => {
                let operators = ended.into_iter().map(Into::into).collect();
                WireAnswer::EndedOperators(proto::EndedOperators { operators })
            }
            Explanation::Schedulers(schedulers) => {
                let schedulers = schedulers.into_iter().map(Into::into).collect();
                WireAnswer::Schedulers(proto::Schedulers { schedulers })
            }
        };
        proto::Explanation { answer: Some(answer) }
    }
}

impl TryFrom<proto::Explanation> for Explanation {
    type Error = WireError;

    fn try_from(explanation: proto::Explanation) -> Result<Explanation, WireError> {
        let answer = explanation.answer.ok_or(WireError::Missing("explanation.answer"))?;
        Ok(match answer {
            WireAnswer::Region(region) => Explanation::Region(region.into()),
            WireAnswer::Drain(forecast) => Explanation::Drain(forecast.into()),
            WireAnswer::EndedOperators(ended) => {
                let ended = ended.operators.into_iter().map(EndedOperator::try_from);
                Explanation::EndedOperators(ended.collect::<Result<_, _>>()?)
            }
            WireAnswer::Schedulers(all) => {
                Explanation::Schedulers(all.schedulers.into_iter().map(Into::into).collect())
            }
        })
    }
}

impl From<RegionExplanation> for proto::RegionExplanation {
    fn from(region: RegionExplanation) -> proto::RegionExplanation {
        let stores = region.stores.into_iter().map(Into::into).collect();
        proto::RegionExplanation { needs: region.needs, stores }
    }
}

impl From<proto::RegionExplanation> for RegionExplanation {
    fn from(region: proto::RegionExplanation) -> RegionExplanation {
        let stores = region.stores.into_iter().map(Into::into).collect();
        RegionExplanation { needs: region.needs, stores }
    }
}

impl From<StoreVerdict> for proto::StoreVerdict {
    fn from(verdict: StoreVerdict) -> proto::StoreVerdict {
        let StoreVerdict { store_id, is_chosen, why, shared_labels, region_count } = verdict;
        let (store_id, chosen) = (store_id.0, is_chosen);
        proto::StoreVerdict { store_id, chosen, why, shared_labels, region_count }
    }
}

impl From<proto::StoreVerdict> for StoreVerdict {
    fn from(verdict: proto::StoreVerdict) -> StoreVerdict {
        let proto::StoreVerdict { store_id, chosen, why, shared_labels, region_count } = verdict;
        let (store_id, is_chosen) = (StoreId(store_id), chosen);
        StoreVerdict { store_id, is_chosen, why, shared_labels, region_count }
    }
}

impl From<DrainForecast> for proto::DrainForecast {
    fn from(forecast: DrainForecast) -> proto::DrainForecast {
        let DrainForecast { region_count, bytes, blocked_count, blocked } = forecast;
        let region = |region: BlockedRegion| {
            let BlockedRegion { region_id, why } = region;
            proto::BlockedRegion { region_id: region_id.0, why }
        };
        let blocked = blocked.into_iter().map(region).collect();
        proto::DrainForecast { region_count, bytes, blocked_count, blocked }
    }
}

impl From<proto::DrainForecast> for DrainForecast {
    fn from(forecast: proto::DrainForecast) -> DrainForecast {
        let proto::DrainForecast { region_count, bytes, blocked_count, blocked } = forecast;
        let region = |region: proto::BlockedRegion| {
            let proto::BlockedRegion { region_id, why } = region;
            BlockedRegion { region_id: RegionId(region_id), why }
        };
        let blocked = blocked.into_iter().map(region).collect();
        DrainForecast { region_count, bytes, blocked_count, blocked }
    }
}

impl From<EndedOperator> for proto::EndedOperator {
    fn from(ended: EndedOperator) -> proto::EndedOperator {
        let EndedOperator { operator, outcome, ended_ms } = ended;
        proto::EndedOperator { operator: Some(operator.into()), outcome, ended_ms }
    }
}

impl TryFrom<proto::EndedOperator> for EndedOperator {
    type Error = WireError;

    fn try_from(ended: proto::EndedOperator) -> Result<EndedOperator, WireError> {
        let proto::EndedOperator { operator, outcome, ended_ms } = ended;
        let operator = operator.ok_or(WireError::Missing("ended_operator.operator"))?.into();
        Ok(EndedOperator { operator, outcome, ended_ms })
    }
}

impl From<SchedulerStatus> for proto::SchedulerStatus {
    fn from(status: SchedulerStatus) -> proto::SchedulerStatus {
        let state = match status.state {
            SchedulerState::Idle => proto::SchedulerState::Idle,
            SchedulerState::Working => proto::SchedulerState::Working,
            SchedulerState::Stalled => proto::SchedulerState::Stalled,
        };
        let SchedulerStatus { name, since_ms, why, decisions, .. } = status;
        let decision = |decision: SchedulerDecision| {
            let SchedulerDecision { age_ms, is_rejected, what } = decision;
            proto::SchedulerDecision { age_ms, rejected: is_rejected, what }
        };
        let decisions = decisions.into_iter().map(decision).collect();
        proto::SchedulerStatus { name, state: state.into(), since_ms, why, decisions }
    }
}

impl From<proto::SchedulerStatus> for SchedulerStatus {
    fn from(status: proto::SchedulerStatus) -> SchedulerStatus {
        let state = match status.state() {
            proto::SchedulerState::Idle => SchedulerState::Idle,
            proto::SchedulerState::Working => SchedulerState::Working,
            proto::SchedulerState::Stalled => SchedulerState::Stalled,
        };
        let proto::SchedulerStatus { name, since_ms, why, decisions, .. } = status;
        let decision = |decision: proto::SchedulerDecision| {
            let proto::SchedulerDecision { age_ms, rejected, what } = decision;
            SchedulerDecision { age_ms, is_rejected: rejected, what }
        };
        let decisions = decisions.into_iter().map(decision).collect();
        SchedulerStatus { name, state, since_ms, why, decisions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::OperatorStatus;

    #[test]
    fn every_explanation_survives_the_round_trip() {
        let (region_id, store_id) = (RegionId(7), StoreId(4));
        let why = String::from("it is down");
        let verdict =
            StoreVerdict { store_id, why: why.clone(), region_count: 5, ..Default::default() };
        let chosen = StoreVerdict { is_chosen: true, shared_labels: 1, ..verdict.clone() };
        let region = RegionExplanation { needs: "a voter".into(), stores: vec![verdict, chosen] };
        let blocked = vec![BlockedRegion { region_id, why: why.clone() }];
        let drain = DrainForecast { region_count: 3, bytes: 9, blocked_count: 1, blocked };
        let operator = OperatorStatus { id: 1, region_id, ..OperatorStatus::default() };
        let ended = EndedOperator { operator, outcome: "done".into(), ended_ms: 6 };
        let decisions = vec![SchedulerDecision { age_ms: 2, is_rejected: true, what: "a".into() }];
        let scheduler = |state| SchedulerStatus {
            name: "repair".into(),
            state,
            since_ms: 8,
            why: why.clone(),
            decisions: decisions.clone(),
        };
        let states = [SchedulerState::Idle, SchedulerState::Working, SchedulerState::Stalled];
        for explanation in [
            Explanation::Region(region),
            Explanation::Drain(drain),
            Explanation::EndedOperators(vec![ended]),
            Explanation::Schedulers(states.map(scheduler).to_vec()),
        ] {
            let wire = proto::Explanation::from(explanation.clone());
            assert_eq!(Explanation::try_from(wire), Ok(explanation));
        }
        assert_eq!(question(proto::ExplainRequest { question: None }), None);
    }
}
