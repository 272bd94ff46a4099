//! What was acknowledged is committed, what certainly failed is never committed, and nothing
//! happens more often than it was requested.
//!
//! Every value of this world is written by one call only, so a value names its call. A call sends
//! one request, unless the call may repeat a request of unknown outcome; then each request that may
//! have had an effect counts. Deletes have no value: they are for [`super::deletes`].

use super::model::Model;
use super::{Verdict, broken};
use crate::history::{Kind, Outcome, Record};

/// Checks a call that has just been acknowledged.
pub fn acknowledged(model: &Model, record: &Record) -> Verdict {
    let is_swap = matches!(record.outcome, Outcome::Swapped { swapped: true, .. });
    if !is_swap && record.outcome != Outcome::Written {
        return Ok(());
    }
    match value(record) {
        Some(value) if model.times_written(value) == 0 => {
            broken("what is acknowledged is committed", format!("{record:?}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks all calls at the end.
pub fn check(model: &Model, records: &[Record]) -> Verdict {
    for record in records {
        if record.outcome == Outcome::Failed && record.attempts > 0 {
            return broken("what may have an effect is not called failed", format!("{record:?}"));
        }
        let Some(value) = value(record) else { continue };
        let times = model.times_written(value);
        let did_nothing =
            matches!(record.outcome, Outcome::Failed | Outcome::Swapped { swapped: false, .. });
        if did_nothing && times > 0 {
            return broken("what failed has no effect", format!("{record:?}"));
        }
        if times > u64::from(record.attempts) {
            let what = format!("{times} times: {record:?}");
            return broken("nothing happens oftener than it was asked for", what);
        }
    }
    Ok(())
}

fn value(record: &Record) -> Option<u64> {
    match record.kind {
        Kind::Read => None,
        Kind::Write(value) | Kind::Swap { new: value, .. } => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN: u64 = 7;

    fn write(value: u64, outcome: Outcome, attempts: u32) -> Record {
        let (kind, invoked, returned) = (Kind::Write(Some(value)), 1, 2);
        Record { key: 1, client: 1, kind, outcome, invoked, returned, attempts }
    }

    fn checked(record: Record) -> Verdict {
        let model = Model::of_written(&[WRITTEN]);
        acknowledged(&model, &record)?;
        check(&model, &[record])
    }

    #[test]
    fn an_acknowledgement_of_what_is_not_committed_is_found() {
        assert!(checked(write(WRITTEN, Outcome::Written, 1)).is_ok());
        assert!(checked(write(8, Outcome::Written, 1)).is_err());
        assert!(checked(write(8, Outcome::Undetermined, 1)).is_ok());
    }

    #[test]
    fn what_failed_and_happened_all_the_same_is_found() {
        assert!(checked(write(8, Outcome::Failed, 0)).is_ok());
        assert!(checked(write(WRITTEN, Outcome::Failed, 0)).is_err());
        assert!(checked(write(8, Outcome::Failed, 1)).is_err(), "it may happen yet");
    }

    #[test]
    fn what_happens_oftener_than_it_was_asked_for_is_found() {
        assert!(checked(write(WRITTEN, Outcome::Undetermined, 1)).is_ok());
        assert!(checked(write(WRITTEN, Outcome::Undetermined, 0)).is_err());
    }

    #[test]
    fn a_swap_that_did_not_match_and_wrote_is_found() {
        let swap = |swapped| {
            let kind = Kind::Swap { expected: None, new: Some(WRITTEN) };
            let outcome = Outcome::Swapped { swapped, previous: None };
            Record { kind, ..write(WRITTEN, outcome, 1) }
        };
        assert!(checked(swap(true)).is_ok());
        assert!(checked(swap(false)).is_err());
    }
}
