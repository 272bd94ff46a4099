//! The rules of the house that the compiler does not know. Each failure names the file and line
//! and says what to do instead.
//!
//! Rules about text look at code only: what follows `//` on a line does not count. Tests within a
//! file (from `#[cfg(test)] mod x {` on) and files of tests may use what the rest may not.

use std::fs;
use std::path::{Path, PathBuf};

use flotilla_tests::binary::workspace;

/// Which crates of the workspace a crate may depend on.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("engine", &["types"]),
    ("group", &["engine", "types"]),
    ("net", &["types"]),
    ("host", &["engine", "group", "net", "types"]),
    ("store", &["engine", "group", "host", "net", "types"]),
    ("pd", &["engine", "group", "host", "net", "types"]),
    ("client", &["net", "types"]),
    ("gateway", &["client", "types"]),
    ("bench", &["client", "types"]),
    ("sim", &["client", "engine", "group", "host", "pd", "store", "types"]),
    ("cli", &["bench", "client", "gateway", "pd", "store", "types"]),
];

/// Crates from outside, and the only ones of ours that may use them.
const SHIELDED: &[(&str, &[&str])] = &[
    ("raft", &["group"]),
    ("raft-proto", &["group"]),
    ("redb", &["engine"]),
    ("raft-engine", &["engine"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli", "sim"]),
    ("indicatif", &["cli"]),
];

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
const FILE_LINES_MAX: usize = 800;

/// One source file of the workspace.
struct Source {
    /// From the workspace's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Line numbers and code of the lines that are not tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_tests() { 0 } else { self.first_test_line() };
        self.text.lines().take(end).enumerate().map(|(index, line)| {
            let code = line.split_once("//").map_or(line, |(code, _)| code);
            (index + 1, code)
        })
    }

    /// Number of lines in front of the module of tests.
    fn first_test_line(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins_tests = |index: &usize| {
            let next = lines.get(index + 1).map_or("", |line| line.trim());
            lines[*index].trim() == "#[cfg(test)]"
                && next.starts_with("mod ")
                && next.ends_with('{')
        };
        (0..lines.len()).find(begins_tests).unwrap_or(lines.len())
    }

    /// True for a file that holds tests only.
    fn is_tests(&self) -> bool {
        let stem = self.path.trim_end_matches(".rs");
        stem.ends_with("/tests")
            || stem.ends_with("_tests")
            || stem.contains("/tests/")
            || stem.starts_with("tests/")
    }

    /// True for code that a simulator must be able to replay from a seed.
    fn is_deterministic(&self) -> bool {
        let pure_crate =
            ["crates/types/src/", "crates/group/src/"].iter().any(|dir| self.path.starts_with(dir));
        pure_crate || (self.path.starts_with("crates/") && self.path.contains("/src/core/"))
    }
}

#[test]
fn crates_depend_in_one_direction() {
    let mut faults = Vec::new();
    for (name, manifest, text) in manifests() {
        let Some((_, allowed)) = DEPENDENCIES.iter().find(|(known, _)| *known == name) else {
            faults.push(format!(
                "{manifest}:1: a crate that DEPENDENCIES in tests/tidy.rs does not \
                                 know; add it there, with what it may depend on"
            ));
            continue;
        };
        for dependency in dependencies(&text) {
            let Some(ours) = dependency.name.strip_prefix("flotilla-") else { continue };
            if !allowed.contains(&ours) {
                let line = dependency.line;
                faults.push(format!(
                    "{manifest}:{line}: {name} must not depend on {ours}; move \
                                     what both need down, or let them meet in proto/"
                ));
            }
        }
    }
    assert_none(faults);
}

#[test]
fn foreign_crates_stay_behind_their_shield() {
    let mut faults = Vec::new();
    for (name, manifest, text) in manifests() {
        for dependency in dependencies(&text).into_iter().filter(|found| !found.for_tests) {
            let shield = SHIELDED.iter().find(|(foreign, _)| *foreign == dependency.name);
            let Some((foreign, owners)) =
                shield.filter(|(_, owners)| !owners.contains(&name.as_str()))
            else {
                continue;
            };
            let line = dependency.line;
            faults.push(format!(
                "{manifest}:{line}: {foreign} is used in {owners:?} only; use what that crate \
                 offers, or your own error enum for anyhow"
            ));
        }
    }
    assert_none(faults);
}

/// The feature that compiles planted bugs in reaches no binary but the simulator's, and that one
/// only by asking.
#[test]
fn planted_bugs_are_the_simulators_alone() {
    let declared = ["mutants = []", "mutants = [\"flotilla-types/mutants\"]"];
    let mut faults = Vec::new();
    let mut declarations = 0;
    for (name, manifest, text) in manifests() {
        for (index, line) in text.lines().enumerate() {
            let code = line.split_once('#').map_or(line, |(code, _)| code).trim();
            let is_declared = match name.as_str() {
                "types" => code == declared[0],
                "sim" => code == declared[1],
                _ => false,
            };
            declarations += usize::from(is_declared);
            if code.contains("mutants") && !is_declared {
                faults.push(format!(
                    "{manifest}:{}: {code}: the feature is declared in types and sim, and \
                     turned on by the command line alone",
                    index + 1
                ));
            }
        }
    }
    assert_eq!(declarations, declared.len(), "the rule looks at the wrong place");
    assert_none(faults);
}

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
                    "{}:{}: {columns} columns; break the line at \
                                     {LINE_COLUMNS_MAX}",
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

#[test]
fn a_file_is_one_idea() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines = source.first_test_line();
        if lines > FILE_LINES_MAX {
            faults.push(format!(
                "{}:{FILE_LINES_MAX}: {lines} lines without the tests; find the \
                                 two ideas in it and give each a file",
                source.path
            ));
        }
    }
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

/// Name, path and text of each crate's manifest.
fn manifests() -> Vec<(String, String, String)> {
    let crates = workspace().join("crates");
    let mut names: Vec<String> = fs::read_dir(&crates)
        .expect("crates/ can be read")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| crates.join(name).join("Cargo.toml").exists())
        .collect();
    names.sort();
    assert!(names.len() >= 7, "crates found: {names:?}");
    let manifest = |name: String| {
        let path = format!("crates/{name}/Cargo.toml");
        let text = fs::read_to_string(workspace().join(&path)).expect("a manifest can be read");
        (name, path, text)
    };
    names.into_iter().map(manifest).collect()
}

/// A line of a manifest that names a dependency.
struct Dependency {
    name: String,
    line: usize,
    for_tests: bool,
}

/// The dependencies of all kinds in a manifest, whether in a table or with a table of their own.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut section = "";
    for (index, line) in manifest.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
        let name = match line.strip_prefix('[') {
            Some(header) => {
                section = header.trim_end_matches(']');
                section.split_once("dependencies.").map(|(_, name)| name)
            }
            None if section.ends_with("dependencies") => line.split(['.', '=', ' ']).next(),
            None => None,
        };
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let for_tests = section.contains("dev-dependencies");
            found.push(Dependency { name: name.to_string(), line: index + 1, for_tests });
        }
    }
    found
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&workspace().join("crates"), &mut paths);
    collect(&workspace().join("tests"), &mut paths);
    paths.sort();
    assert!(paths.len() > 30, "only {} files found", paths.len());
    let source = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a source file can be read"),
        path: path
            .strip_prefix(workspace())
            .expect("found below it")
            .to_string_lossy()
            .replace('\\', "/"),
    };
    paths.into_iter().map(source).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

mod the_rules_themselves {
    //! A rule that finds nothing is worth nothing: these show that each can find its fault.

    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn words_are_found_in_code_and_not_in_comments_or_tests() {
        let text = "use std::collections::HashMap; // not HashSet\n\
                    let operand = operand::new();\n\
                    #[cfg(test)]\nmod tests {\n use std::collections::HashSet;\n}\n";
        let core = source("crates/store/src/core/a.rs", text);
        assert!(core.is_deterministic());
        assert!(!source("crates/store/src/driver/a.rs", text).is_deterministic());
        let faults = find(&[&core], IMPURE);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("crates/store/src/core/a.rs:1: HashMap"), "{faults:?}");
    }

    #[test]
    fn files_of_tests_are_known_by_their_names() {
        for path in ["crates/a/src/tests.rs", "crates/a/src/retry_tests.rs", "tests/cluster.rs"] {
            assert!(source(path, "").is_tests(), "{path}");
        }
        assert!(!source("crates/a/src/contests.rs", "").is_tests());
    }

    #[test]
    fn dependencies_are_found_in_every_form() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n\
                        b = \"1\"\n[target.'cfg(unix)'.dependencies]\nc = \"1\"\n\
                        [dev-dependencies]\nd = { path = \"d\" }\n[dependencies.e]\npath = \"e\"\n";
        let found = dependencies(manifest);
        let names: Vec<&str> = found.iter().map(|dependency| dependency.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
        assert!(found[3].for_tests && !found[4].for_tests);
        assert_eq!(found[4].line, 10);
    }
}
