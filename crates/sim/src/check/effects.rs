//! What was acknowledged is committed, what failed for certain never is, and nothing that a client
//! asked for once happens twice.
//!
//! Every value of this world is written by one call only, so a value names its call.

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
        let Some(value) = value(record) else { continue };
        let times = model.times_written(value);
        let did_nothing =
            matches!(record.outcome, Outcome::Failed | Outcome::Swapped { swapped: false, .. });
        if did_nothing && times > 0 {
            return broken("what failed has no effect", format!("{record:?}"));
        }
        if times > 1 {
            return broken("no effect happens twice", format!("{times} times: {record:?}"));
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
