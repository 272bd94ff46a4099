//! Answers to questions about PD's own reasons. Nothing is changed.

use flotilla_types::explain::{Explanation, Question};
use flotilla_types::placement::PdReply;

use crate::core::context::Outcome;
use crate::core::errors::{no_store, not_found};
use crate::core::forecast::forecast;
use crate::core::place::ClusterView;
use crate::core::reads::ReadContext;
use crate::core::records::StoreMode;
use crate::core::state::Refusal;
use crate::core::verdicts;

/// The answer to `question`.
pub(crate) fn answer(context: &ReadContext<'_>, question: Question) -> Outcome {
    let ReadContext { state, leader, now, .. } = context;
    let view = || ClusterView::new(state, &leader.reports, &leader.operators, *now);
    Ok(PdReply::Explained(match question {
        Question::Region(id) => {
            let known = state.regions().region(id);
            let known = known.ok_or_else(|| not_found(format!("region {id}")))?;
            Explanation::Region(verdicts::explain(&view(), known))
        }
        Question::Drain(store) => {
            let record = state.store(store).ok_or_else(|| no_store(store))?;
            if record.mode == StoreMode::Removed {
                return Err(Refusal::RemovedStore(store).into());
            }
            Explanation::Drain(forecast(&mut view().leaving(store), store))
        }
        Question::EndedOperators => Explanation::EndedOperators(leader.history.list(*now)),
        Question::Schedulers => Explanation::Schedulers(leader.schedulers.statuses(*now)),
    }))
}
