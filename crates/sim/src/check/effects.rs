//! What was acknowledged is committed, what failed for certain never is, and nothing happens
//! oftener than it was asked for.
//!
//! Every value of this world is written by one call only, so a value names its call. A call asks
//! once, unless it may repeat what it does not know the outcome of; then each request that may have
//! had an effect counts. Deletes have no value: see [`super::deletes`].

use super::model::Model;
use super::{Verdict, broken};
use crate::history::{Kind, Outcome, Record};

/// A call has just been acknowledged.
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
