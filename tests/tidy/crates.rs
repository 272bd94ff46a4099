//! Which crate may depend on which, and where planted bugs may be compiled.

use std::fs;

use flotilla_tests::binary::workspace;

use crate::assert_none;

/// Which crates of the workspace a crate may depend on.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("engine", &["types"]),
    ("group", &["engine", "types"]),
    ("metrics", &[]),
    ("net", &["types"]),
    ("host", &["engine", "group", "metrics", "net", "types"]),
    ("store", &["engine", "group", "host", "metrics", "net", "types"]),
    ("pd", &["engine", "group", "host", "metrics", "net", "types"]),
    ("client", &["net", "types"]),
    ("gateway", &["client", "metrics", "net", "types"]),
    ("bench", &["client", "types"]),
    ("proxy", &[]),
    ("history", &[]),
    ("sim", &["client", "engine", "group", "history", "host", "net", "pd", "store", "types"]),
    ("cli", &["bench", "client", "gateway", "metrics", "net", "pd", "proxy", "store", "types"]),
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
    ("prometheus-client", &["metrics"]),
];

#[test]
fn crates_depend_in_one_direction() {
    let mut faults = Vec::new();
    for (name, manifest, text) in manifests() {
        let Some((_, allowed)) = DEPENDENCIES.iter().find(|(known, _)| *known == name) else {
            faults.push(format!(
                "{manifest}:1: a crate that DEPENDENCIES in tests/tidy/crates.rs does not know; \
                 add it there, with what it may depend on"
            ));
            continue;
        };
        for dependency in dependencies(&text) {
            let Some(ours) = dependency.name.strip_prefix("flotilla-") else { continue };
            if !allowed.contains(&ours) {
                let line = dependency.line;
                faults.push(format!(
                    "{manifest}:{line}: {name} must not depend on {ours}; move what both need \
                     down, or let them meet in proto/"
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

#[cfg(test)]
mod of_the_rules_themselves {
    use super::*;

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
