//! The trace of a run as one number: two runs of one seed must give the same number.
//!
//! A trace can be told in words, too: one line for each thing that happens, with the number of the
//! event in which it happens and the time in milliseconds. The words do not enter the number. A
//! [`Filter`] chooses lines by what they name ("region 5", "store 2").

use std::cell::RefCell;
use std::collections::VecDeque;

use flotilla_types::dice::mix;

use crate::time::Micros;

/// A hash of bytes (FNV-1a, mixed).
pub fn digest(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The number of lines that [`Told::Kept`] keeps: the last ones.
const LINES_KEPT_MAX: usize = 30;

/// Where the words of a trace go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// The words are not made.
    #[default]
    Nowhere,
    /// To standard output.
    Output,
    /// To standard error, because standard output carries JSON for a script.
    Errors,
    /// The last lines are kept in memory.
    Kept,
}

/// Which lines of a trace are told. The default lets every line pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only lines that name this region, and lines that name no region and are of no client.
    pub region: Option<u64>,
    /// Only lines that name this store, and lines that name no store.
    pub store: Option<u64>,
    /// Only lines from this time on.
    pub from: Micros,
    /// Only lines up to this time; None for no end.
    pub to: Option<Micros>,
}

impl Filter {
    fn is_in_time(&self, now: Micros) -> bool {
        self.from <= now && self.to.is_none_or(|to| now <= to)
    }

    fn passes(&self, line: &str) -> bool {
        let by_region = self.region.is_none_or(|region| {
            let names_any = regions(line).next().is_some() || line.starts_with("client ");
            !names_any || regions(line).any(|named| named == region)
        });
        let by_store = self.store.is_none_or(|store| {
            let mut named = stores(line).peekable();
            named.peek().is_none() || named.any(|named| named == store)
        });
        by_region && by_store
    }
}

/// The regions that a line names.
pub fn regions(line: &str) -> impl Iterator<Item = u64> {
    names(line, &["region", "RegionId"])
}

/// The stores that a line names.
fn stores(line: &str) -> impl Iterator<Item = u64> {
    names(line, &["store", "StoreId"])
}

/// The numbers that follow one of the words.
fn names(line: &str, kinds: &'static [&'static str]) -> impl Iterator<Item = u64> {
    let mut words = line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::from_fn(move || {
        loop {
            if kinds.contains(&words.next()?)
                && let Some(id) = words.clone().next().and_then(|id| id.parse().ok())
            {
                return Some(id);
            }
        }
    })
}

/// Where which words of a trace go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Telling {
    /// Where the words go.
    pub told: Told,
    /// Which lines.
    pub filter: Filter,
}

impl From<Told> for Telling {
    fn from(told: Told) -> Telling {
        Telling { told, filter: Filter::default() }
    }
}

/// The trace of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    event: u64,
    telling: Telling,
    kept: RefCell<VecDeque<String>>,
}

impl Trace {
    /// An empty trace whose words go where `telling` says.
    pub fn new(telling: Telling) -> Trace {
        Trace { telling, ..Trace::default() }
    }

    /// Adds numbers that identify what happened.
    pub fn add(&mut self, parts: &[u64]) {
        for part in parts {
            self.hash = mix(self.hash.rotate_left(5) ^ *part);
        }
    }

    /// What is said from now on happens in the event of this number.
    pub fn begin_event(&mut self, number: u64) {
        self.event = number;
    }

    /// Tells a line, if the trace is told in words and the filter lets the line pass.
    pub fn say(&self, now: Micros, line: impl FnOnce() -> String) {
        let Telling { told, filter } = &self.telling;
        if *told == Told::Nowhere || !filter.is_in_time(now) {
            return;
        }
        let line = line();
        if !filter.passes(&line) {
            return;
        }
        let line = format!("#{:<7} {:>7}.{:03} {line}", self.event, now / 1_000, now % 1_000);
        match told {
            Told::Nowhere => {}
            Told::Output => println!("{line}"),
            Told::Errors => eprintln!("{line}"),
            Told::Kept => {
                let mut kept = self.kept.borrow_mut();
                kept.push_back(line);
                if kept.len() > LINES_KEPT_MAX {
                    kept.pop_front();
                }
            }
        }
    }

    /// The lines that were kept.
    pub fn kept(&self) -> Vec<String> {
        self.kept.borrow().iter().cloned().collect()
    }

    /// The hash of all numbers so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(filter: Filter, lines: &[&str]) -> Vec<String> {
        let mut trace = Trace::new(Telling { told: Told::Kept, filter });
        for (number, line) in lines.iter().enumerate() {
            trace.begin_event(number as u64);
            trace.say(number as u64 * 1_000, || (*line).to_string());
        }
        let text = |line: String| line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
        trace.kept().into_iter().map(text).collect()
    }

    #[test]
    fn a_filter_keeps_what_names_its_region_or_store_and_what_names_none() {
        let lines = [
            "store 1: leads region 5, term 2",
            "store 2: leads region 55, term 2",
            "client 3 call 4: get",
            "nemesis: CrashAll",
            "store 2: region 5 1->2 beat",
            "placement driver: Reported { region: RegionId(55) }",
        ];
        let region = Filter { region: Some(5), ..Filter::default() };
        assert_eq!(told(region, &lines), [lines[0], lines[3], lines[4]]);
        let store = Filter { store: Some(2), ..Filter::default() };
        assert_eq!(told(store, &lines), lines[1..].to_vec());
        let both = Filter { region: Some(5), store: Some(2), ..Filter::default() };
        assert_eq!(told(both, &lines), [lines[3], lines[4]]);
        let time = Filter { from: 1_000, to: Some(2_000), ..Filter::default() };
        assert_eq!(told(time, &lines), [lines[1], lines[2]]);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let lines: Vec<String> = (0..LINES_KEPT_MAX + 5).map(|n| format!("line {n}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let kept = told(Filter::default(), &lines);
        assert_eq!(kept.len(), LINES_KEPT_MAX);
        assert_eq!(kept.first().map(String::as_str), Some("line 5"));
    }
}
