//! What a text must not hold, and what it must begin with.

use crate::assert_none;
use crate::source::{Source, sources};

/// What deterministic code must not name, and what it does instead.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "take `now: Millis` from the driver"),
    ("SystemTime", "take `now: Millis` from the driver"),
    ("std::thread", "return an output that the driver carries out"),
    ("tokio::", "return an output that the driver carries out"),
    ("rand::", "roll seeded dice that are given at construction"),
    ("HashMap", "use BTreeMap, whose order does not differ from run to run"),
    ("HashSet", "use BTreeSet, whose order does not differ from run to run"),
    ("println!", "return an event that the driver logs"),
    ("eprintln!", "return an event that the driver logs"),
];

/// What no file may hold. Written in two parts so that this one does not.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("to", "do!"), "finish it, or refuse with an error that says what is missing"),
    (concat!("db", "g!"), "remove it, or log with tracing in a driver"),
    (concat!("#[ig", "nore"), "make the test fast and reliable, or delete it"),
];

const LINE_COLUMNS_MAX: usize = 100;

#[test]
fn deterministic_code_names_nothing_impure() {
    let sources = sources();
    let deterministic: Vec<&Source> =
        sources.iter().filter(|source| source.is_deterministic()).collect();
    assert!(deterministic.len() > 10, "the rule looks at the wrong place");
    assert_none(find(&deterministic, IMPURE));
}

#[test]
fn nothing_is_unfinished() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            for (word, instead) in UNFINISHED.iter().filter(|(word, _)| names(line, word)) {
                faults.push(format!("{}:{}: {word}: {instead}", source.path, number + 1));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn lines_fit_the_screen() {
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                faults.push(format!(
                    "{}:{}: {columns} columns; break the line at {LINE_COLUMNS_MAX}",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn every_file_says_what_it_is() {
    let faults = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| format!("{}:1: begin with //! and what the file owns", source.path))
        .collect();
    assert_none(faults);
}

/// A failure for each of `words` in the code of `sources`.
fn find(sources: &[&Source], words: &[(&str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        for (line, code) in source.code() {
            for (word, instead) in words.iter().filter(|(word, _)| names(code, word)) {
                faults.push(format!(
                    "{}:{line}: {word} in deterministic code; {instead}",
                    source.path
                ));
            }
        }
    }
    faults
}

/// True if `code` holds `word` as a word of its own: `operand::` does not hold `rand::`.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

#[cfg(test)]
mod of_the_rules_themselves {
    use super::*;

    #[test]
    fn words_are_found_in_code_and_not_in_comments_or_tests() {
        let text = "use std::collections::HashMap; // not HashSet\n\
                    let operand = operand::new();\n\
                    #[cfg(test)]\nmod tests {\n use std::collections::HashSet;\n}\n";
        let source = |path: &str| Source { path: path.into(), text: text.into() };
        let core = source("crates/store/src/core/a.rs");
        assert!(core.is_deterministic());
        assert!(!source("crates/store/src/driver/a.rs").is_deterministic());
        let faults = find(&[&core], IMPURE);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("crates/store/src/core/a.rs:1: HashMap"), "{faults:?}");
    }
}
