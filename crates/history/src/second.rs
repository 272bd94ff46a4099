//! A second opinion on linearizability, by a checker that others wrote: `porcupine-rs`. It and
//! [`crate::linear`] must come to the same verdict on every history that both are shown.
//!
//! The two share the reading of a record, and no code:
//!
//! * A call of unknown outcome takes effect at any time after it began; the end of time stands for
//!   never.
//! * A swap of unknown outcome compares when it takes effect.
//! * A repeated write is one write of known outcome, and one of unknown outcome for each other
//!   request.
//!
//! `porcupine-rs` has no notion of "never", so a call of unknown outcome is costly. Those whose
//! value nobody saw are left out, for they may always come last, unless a read found the key and
//! did not ask for the value.
//!
//! The checker is given one key at a time, because it starts a thread for each key.

use std::collections::BTreeSet;

use porcupine_rs::{Model, Operation, check_operations};

use crate::record::{Kind, Outcome, Record};
use crate::verdict::{Verdict, Violation};

/// The greatest number of calls of unknown outcome in a history: the search may try every subset of
/// them.
const UNKNOWN_MAX: usize = 12;

/// A register that begins absent.
#[derive(Clone, Debug)]
struct Register;

/// A call with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Read(Option<u64>),
    /// The key had some value.
    Found,
    Write(Option<u64>),
    /// The value expected, the value wanted, and the answer (whether the swap took place, and the
    /// value before); None for no answer.
    Swap(Option<u64>, Option<u64>, Option<(bool, Option<u64>)>),
}

impl Model for Register {
    type State = Option<u64>;
    type Op = Told;
    type Metadata = ();

    fn init() -> Option<u64> {
        None
    }

    fn step(state: &Option<u64>, op: &Told) -> (bool, Option<u64>) {
        match *op {
            Told::Read(value) => (value == *state, *state),
            Told::Found => (state.is_some(), *state),
            Told::Write(value) => (true, value),
            Told::Swap(expected, new, told) => {
                let swapped = expected == *state;
                let is_true = told.is_none_or(|told| told == (swapped, *state));
                (is_true, if swapped { new } else { *state })
            }
        }
    }
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Both came to the same verdict.
    Agreed,
    /// The history has too many calls of unknown outcome.
    Skipped,
}

/// Checks the history of one key, and compares with the other checker's verdict. A history with too
/// many calls of unknown outcome is skipped.
pub fn agrees(key: u16, records: &[Record], other: &Verdict) -> Result<Compared, Violation> {
    let Some(is_linearizable) = is_linearizable(records) else { return Ok(Compared::Skipped) };
    if is_linearizable == other.is_ok() {
        return Ok(Compared::Agreed);
    }
    let (mine, history) = (is_linearizable, crate::linear::describe(key, records));
    let what = format!("linearizable: {mine}; the other checker says {other:?}\n{history}");
    Err(Violation { invariant: "both checkers of linearizability agree", what })
}

/// True if the history is linearizable; None if it has too many calls of unknown outcome.
pub fn is_linearizable(records: &[Record]) -> Option<bool> {
    let seen: BTreeSet<u64> = records.iter().flat_map(values_seen).flatten().collect();
    let is_found = records.iter().any(|record| record.outcome == Outcome::Found);
    let mut operations = vec![];
    let mut unknown = 0;
    for record in records {
        let Some((told, is_certain)) = told(record) else { continue };
        if is_certain {
            operations.push(operation(record, told, record.returned));
        }
        let value = match told {
            Told::Write(value) | Told::Swap(_, value, _) if !is_refused_swap(record) => value,
            Told::Read(_) | Told::Found | Told::Write(_) | Told::Swap(..) => continue,
        };
        if !is_found && value.is_some_and(|value| !seen.contains(&value)) {
            continue;
        }
        for _ in u32::from(is_certain)..record.attempts {
            operations.push(operation(record, told, u64::MAX));
            unknown += 1;
        }
    }
    (unknown <= UNKNOWN_MAX).then(|| check_operations(&operations))
}

fn operation(record: &Record, op: Told, returned: u64) -> Operation<Register> {
    let time = |stamp: u64| i64::try_from(stamp).unwrap_or(i64::MAX);
    Operation {
        client_id: Some(record.client),
        call_time: time(record.invoked),
        return_time: time(returned),
        op,
        metadata: None,
    }
}

/// The answer to a call, and whether the call is known to have taken effect.
fn told(record: &Record) -> Option<(Told, bool)> {
    let told = match (record.kind, record.outcome) {
        (_, Outcome::Failed) => return None,
        (Kind::Read, Outcome::Read(value)) => (Told::Read(value), true),
        (Kind::Read, Outcome::Found) => (Told::Found, true),
        (Kind::Read, _) => return None,
        (Kind::Write(value), Outcome::Written) => (Told::Write(value), true),
        (Kind::Write(value), _) => (Told::Write(value), false),
        (Kind::Swap { expected, new }, Outcome::Swapped { swapped, previous }) => {
            (Told::Swap(expected, new, Some((swapped, previous))), true)
        }
        (Kind::Swap { expected, new }, _) => (Told::Swap(expected, new, None), false),
    };
    Some(told)
}

fn is_refused_swap(record: &Record) -> bool {
    matches!(record.outcome, Outcome::Swapped { swapped: false, .. })
}

/// The value that a call was told, and the one that a swap expects.
fn values_seen(record: &Record) -> impl Iterator<Item = Option<u64>> {
    let told = match record.outcome {
        Outcome::Read(value) | Outcome::Swapped { previous: value, .. } => value,
        Outcome::Open
        | Outcome::Failed
        | Outcome::Undetermined
        | Outcome::Found
        | Outcome::Written => None,
    };
    let expected = match record.kind {
        Kind::Swap { expected, .. } => expected,
        Kind::Read | Kind::Write(_) => None,
    };
    [told, expected].into_iter()
}

#[cfg(test)]
#[path = "second_tests.rs"]
mod tests;
