//! Linearizability of one key's history (Herlihy and Wing 1990): there is an order of the calls, in
//! agreement with real time, in which a plain register would have given the same answers.
//!
//! The search is Wing and Gong's with Lowe's memory of visited states. Each value is written by one
//! call only, which prunes the search:
//!
//! * A call of unknown outcome whose value nobody saw is left out. Where a read found the key and
//!   did not ask for the value, such a call stays, and all such calls set the same value: which of
//!   them the read found makes no difference.
//! * A read that fits is taken at once, because a read changes nothing.
//! * Calls of unknown outcome that do the same are used in the order in which they began: where a
//!   later call fits, the earliest fits in its place, and the later one can take the earliest's
//!   place.
//! * A call of unknown outcome that would change nothing is not used, and neither is one that would
//!   set a value that nobody saw where there is a value already.
//! * A value stays while calls of known outcome that are left have to find it and none that is left
//!   would set it again.
//!
//! A write that its client repeated counts as one write between begin and end, and as one write of
//! unknown outcome for each other request that may have had an effect. Such a write may take effect
//! at any time after the call began, even after the answer, or never. (A client that allows repeats
//! has declared that nobody else writes the key; in this world others do, so that more can go
//! wrong.)

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{Kind, Outcome, Record};
use crate::verdict::{Verdict, broken};

/// The number of states after which the search gives up. Histories here need a few thousand.
const STATES_MAX: usize = 2_000_000;

/// The value of all calls of unknown outcome whose value nobody saw.
const UNSEEN: u64 = u64::MAX;

/// A call as the search sees it.
#[derive(Clone, Copy, Debug)]
struct Call {
    invoked: u64,
    returned: u64,
    is_certain: bool,
    step: Step,
}

/// The effect of a call on the register, given the call's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The register has this value.
    See(Option<u64>),
    /// The register has some value.
    Find,
    /// Sets the register to this value.
    Set(Option<u64>),
    /// The register has the first value, and is set to the second.
    Replace(Option<u64>, Option<u64>),
}

impl Step {
    fn from(record: &Record) -> Option<Step> {
        match (record.kind, record.outcome) {
            (_, Outcome::Failed) | (Kind::Read, Outcome::Open | Outcome::Undetermined) => None,
            (Kind::Read, Outcome::Read(value)) => Some(Step::See(value)),
            (Kind::Read, Outcome::Found) => Some(Step::Find),
            (Kind::Write(value), _) => Some(Step::Set(value)),
            (Kind::Swap { .. }, Outcome::Swapped { swapped: false, previous }) => {
                Some(Step::See(previous))
            }
            (Kind::Swap { expected, new }, _) => Some(Step::Replace(expected, new)),
            (Kind::Read, Outcome::Written | Outcome::Swapped { .. }) => None,
        }
    }

    fn apply(self, value: Option<u64>) -> Option<Option<u64>> {
        match self {
            Step::See(seen) => (seen == value).then_some(value),
            Step::Find => value.is_some().then_some(value),
            Step::Set(new) => Some(new),
            Step::Replace(expected, new) => (expected == value).then_some(new),
        }
    }
}

/// A state of the search: which calls are done (a bit each), and the register's value.
type State = (Vec<u64>, Option<u64>);

/// Checks the history of one key, which begins absent.
pub fn check(key: u16, records: &[Record]) -> Verdict {
    contradictions(key, records)?;
    let calls = calls(records);
    match search(&calls) {
        Some(true) => Ok(()),
        Some(false) => broken("linearizable history", describe(key, records)),
        None => broken("the search for an order ends", format!("key {key}: too many states")),
    }
}

/// A swap's answer must fit what it asked for.
fn contradictions(key: u16, records: &[Record]) -> Verdict {
    for record in records {
        if let (Kind::Swap { expected, .. }, Outcome::Swapped { swapped, previous }) =
            (record.kind, record.outcome)
            && swapped != (expected == previous)
        {
            return broken("linearizable history", format!("key {key}: {record:?}"));
        }
    }
    Ok(())
}

fn calls(records: &[Record]) -> Vec<Call> {
    let seen: BTreeSet<u64> = records.iter().flat_map(values_seen).flatten().collect();
    let is_found = records.iter().any(|record| record.outcome == Outcome::Found);
    let mut calls: Vec<Call> = vec![];
    for record in records {
        let Some(step) = Step::from(record) else { continue };
        let is_certain = !matches!(record.outcome, Outcome::Open | Outcome::Undetermined);
        let (invoked, returned) = (record.invoked, record.returned);
        if is_certain {
            calls.push(Call { invoked, returned, is_certain, step });
        }
        let is_unseen = |value: u64| !seen.contains(&value);
        let (step, is_of_use) = match step {
            Step::Set(Some(value)) if is_unseen(value) => (Step::Set(Some(UNSEEN)), is_found),
            Step::Replace(from, Some(value)) if is_unseen(value) => {
                (Step::Replace(from, Some(UNSEEN)), is_found)
            }
            Step::Set(_) | Step::Replace(..) => (step, true),
            Step::See(_) | Step::Find => (step, false),
        };
        let maybe = Call { invoked, returned: u64::MAX, is_certain: false, step };
        let requests = record.attempts.saturating_sub(u32::from(is_certain));
        calls.extend((0..requests).filter(|_| is_of_use).map(|_| maybe));
    }
    calls.sort_by_key(|call| call.invoked);
    calls
}

/// The value that a call was told, and the one that a swap needs to take effect.
fn values_seen(record: &Record) -> [Option<u64>; 2] {
    let told = match record.outcome {
        Outcome::Read(value) => value,
        Outcome::Swapped { previous, .. } => previous,
        Outcome::Open
        | Outcome::Failed
        | Outcome::Undetermined
        | Outcome::Found
        | Outcome::Written => None,
    };
    let needed = match record.kind {
        Kind::Swap { expected, .. } => expected,
        Kind::Read | Kind::Write(_) => None,
    };
    [told, needed]
}

/// Who finds and who sets one value, as places among the calls.
#[derive(Debug, Default)]
struct Uses {
    /// Calls of known outcome that find the value.
    found_by: Vec<usize>,
    /// Calls that set the value.
    set_by: Vec<usize>,
}

/// The uses of each value.
fn uses(calls: &[Call]) -> BTreeMap<Option<u64>, Uses> {
    let mut all: BTreeMap<Option<u64>, Uses> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let (found, set) = match call.step {
            Step::See(value) => (Some(value), None),
            Step::Find => (None, None),
            Step::Set(value) => (None, Some(value)),
            Step::Replace(expected, new) => (Some(expected), Some(new)),
        };
        if let Some(value) = found.filter(|_| call.is_certain) {
            all.entry(value).or_default().found_by.push(at);
        }
        if let Some(value) = set {
            all.entry(value).or_default().set_by.push(at);
        }
    }
    all
}

impl Uses {
    /// True if the call at `by` must not take the value away: another call that is left has to find
    /// the value, and none that is left sets it.
    fn hold(&self, done: &[u64], by: usize) -> bool {
        let is_left = |at: &usize| *at != by && !is_done(done, *at);
        self.found_by.iter().any(is_left) && !self.set_by.iter().any(is_left)
    }
}

/// True if an order exists; None if the search gives up.
fn search(calls: &[Call]) -> Option<bool> {
    let uses = uses(calls);
    let words = calls.len().div_ceil(64);
    let mut visited: BTreeSet<State> = BTreeSet::new();
    let mut open: Vec<State> = vec![(vec![0; words], None)];
    while let Some(mut state) = open.pop() {
        take_sights(calls, &mut state);
        if !visited.insert(state.clone()) {
            continue;
        }
        if visited.len() > STATES_MAX {
            return None;
        }
        let (done, value) = &state;
        let candidates = candidates(calls, done);
        // The call of known outcome that ends first, if any is left, may come next.
        if candidates.iter().all(|(_, call)| !call.is_certain) {
            return Some(true);
        }
        // Calls of known outcome are pushed last, so that they are tried first.
        let mut next: Vec<(bool, State)> = vec![];
        let mut used: Vec<Step> = vec![];
        for (at, call) in candidates {
            if !call.is_certain {
                if used.contains(&call.step) {
                    continue;
                }
                used.push(call.step);
            }
            let after = call.step.apply(*value);
            let is_of_use = |after: &Option<u64>| call.is_certain || is_of_use(*value, *after);
            let is_held = uses.get(value).is_some_and(|uses| uses.hold(done, at));
            if let Some(after) =
                after.filter(|after| is_of_use(after) && !(is_held && after != value))
            {
                let mut done = done.clone();
                done[at / 64] |= 1 << (at % 64);
                next.push((call.is_certain, (done, after)));
            }
        }
        next.sort_by_key(|(is_certain, _)| *is_certain);
        open.extend(next.into_iter().map(|(_, state)| state));
    }
    Some(false)
}

/// True if a call of unknown outcome that takes the register from one value to another may make a
/// difference. Whatever fits a value that nobody saw fits any other value as well.
fn is_of_use(before: Option<u64>, after: Option<u64>) -> bool {
    before != after && (after != Some(UNSEEN) || before.is_none())
}

/// Takes every read that may come next and fits the register.
fn take_sights(calls: &[Call], (done, value): &mut State) {
    loop {
        let fits = candidates(calls, done).into_iter().find(|(_, call)| match call.step {
            Step::See(seen) => seen == *value,
            Step::Find => value.is_some(),
            Step::Set(_) | Step::Replace(..) => false,
        });
        let Some((at, _)) = fits else { return };
        done[at / 64] |= 1 << (at % 64);
    }
}

fn is_done(done: &[u64], at: usize) -> bool {
    done[at / 64] & (1 << (at % 64)) != 0
}

/// Calls that may come next: each began before the end of every call that is not done. Calls are in
/// the order of their begins, so those after the first that began too late did so, too.
fn candidates<'a>(calls: &'a [Call], done: &[u64]) -> Vec<(usize, &'a Call)> {
    let mut left = vec![];
    let mut bound = u64::MAX;
    let first = 64 * done.iter().position(|word| *word != u64::MAX).unwrap_or(done.len());
    for (at, call) in calls.iter().enumerate().skip(first) {
        if call.invoked >= bound {
            break;
        }
        if !is_done(done, at) {
            bound = bound.min(call.returned);
            left.push((at, call));
        }
    }
    left.retain(|(_, call)| call.invoked < bound);
    left
}

/// The history, a line for each call.
pub fn describe(key: u16, records: &[Record]) -> String {
    let mut lines = vec![format!("key {key}:")];
    for record in records {
        let Record { client, kind, outcome, invoked, returned, .. } = record;
        let returned = if *returned == u64::MAX { "-".into() } else { returned.to_string() };
        lines.push(format!("  [{invoked}, {returned}] client {client}: {kind:?} {outcome:?}"));
    }
    lines.join("\n")
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
