//! Linearizability once more, by a checker that others wrote: `porcupine-rs`. It and
//! [`super::linear`] must come to the same verdict on every history that both are shown.
//!
//! What the two share is the reading of a record, told here anew: a call of unknown outcome takes
//! effect at any time after it was asked, where the end of time is as good as never; a swap of
//! unknown outcome compares when it takes effect; a write that was repeated is a certain one and
//! one of unknown outcome for each other request. This checker has no notion of "never", so a call
//! of unknown outcome costs it a lot; those whose value nobody saw are left out, for they may
//! always come last.
//!
//! It is given one key at a time, for it would start a thread for each.

use std::collections::BTreeSet;

use porcupine_rs::{Model, Operation, check_operations};

use super::{Verdict, broken};
use crate::history::{Kind, Outcome, Record};

/// Calls of unknown outcome in a history at most: the search may try every subset of them.
const UNKNOWN_MAX: usize = 12;

/// A register that begins absent.
#[derive(Clone, Debug)]
struct Register;

/// A call with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Read(Option<u64>),
    Write(Option<u64>),
    /// The comparison, and what was answered: whether it held and what was there. None: nothing.
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
            Told::Write(value) => (true, value),
            Told::Swap(expected, new, told) => {
                let swapped = expected == *state;
                let is_true = told.is_none_or(|told| told == (swapped, *state));
                (is_true, if swapped { new } else { *state })
            }
        }
    }
}

/// Checks the history of one key, and compares with the other checker's verdict. A history with
/// too much that is not known passes.
pub fn agrees(key: u16, records: &[Record], other: &Verdict) -> Verdict {
    let Some(is_linearizable) = is_linearizable(records) else { return Ok(()) };
    if is_linearizable == other.is_ok() {
        return Ok(());
    }
    let (mine, history) = (is_linearizable, super::linear::describe(key, records));
    let what = format!("linearizable: {mine}; the other checker says {other:?}\n{history}");
    broken("both checkers of linearizability agree", what)
}

/// None if the history has too much that is not known.
pub fn is_linearizable(records: &[Record]) -> Option<bool> {
    let seen: BTreeSet<u64> = records.iter().filter_map(value_seen).collect();
    let mut operations = vec![];
    let mut unknown = 0;
    for record in records {
        let Some((told, is_certain)) = told(record) else { continue };
        if is_certain {
            operations.push(operation(record, told, record.returned));
        }
        let is_write = !matches!(told, Told::Read(_)) && !is_refused_swap(record);
        let (Told::Read(value) | Told::Write(value) | Told::Swap(_, value, _)) = told;
        if !is_write || value.is_some_and(|value| !seen.contains(&value)) {
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

/// What a call was told, and whether it is known to have taken place.
fn told(record: &Record) -> Option<(Told, bool)> {
    let told = match (record.kind, record.outcome) {
        (_, Outcome::Failed) => return None,
        (Kind::Read, Outcome::Read(value)) => (Told::Read(value), true),
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

fn value_seen(record: &Record) -> Option<u64> {
    match record.outcome {
        Outcome::Read(value) | Outcome::Swapped { previous: value, .. } => value,
        Outcome::Open | Outcome::Failed | Outcome::Undetermined | Outcome::Written => None,
    }
}

#[cfg(test)]
#[path = "second_tests.rs"]
mod tests;
