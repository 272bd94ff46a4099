//! A deterministic core forbids what hides a case, and tells of each of its modules.

use std::collections::BTreeSet;

use crate::assert_none;
use crate::map::{map, readme};
use crate::source::{Source, blank, sources};

/// The lints that each `core/mod.rs` denies, for itself and all below it.
const LINTS: &[&str] = &["clippy::wildcard_enum_match_arm", "clippy::indexing_slicing"];

/// How a file denies lints for the whole of it. Tests may index: a panic there is a failed test.
const DENIALS: &[&str] = &["#![deny(", "#![cfg_attr(not(test),deny("];

#[test]
fn a_core_denies_wildcards_and_indexing() {
    let sources = sources();
    let roots: Vec<&Source> = sources.iter().filter(|source| is_root(source)).collect();
    assert!(roots.len() > 3, "the rule looks at the wrong place");
    assert_none(roots.iter().flat_map(|root| missing_lints(root)).collect());
}

#[test]
fn every_module_of_a_core_is_told_of() {
    let sources = sources();
    let rows: BTreeSet<String> = map(&readme()).into_iter().flat_map(|row| row.paths).collect();
    assert_none(untold(&sources, &rows));
}

/// True for the `mod.rs` of a core itself, not of a folder in it.
fn is_root(source: &Source) -> bool {
    source.path.ends_with("/src/core/mod.rs")
}

/// A fault for each of [`LINTS`] that `root` does not deny.
fn missing_lints(root: &Source) -> Vec<String> {
    let denied = denied(&root.text);
    let missing = LINTS.iter().filter(|lint| !denied.contains(**lint));
    missing.map(|lint| format!("{}:1: deny {lint}: #![deny({lint})]", root.path)).collect()
}

/// What the attributes of a file deny for the whole of it, in every build or in all but tests.
fn denied(text: &str) -> BTreeSet<String> {
    let code: String = blank(text).split_whitespace().collect();
    let lists = DENIALS.iter().flat_map(|denial| code.split(denial).skip(1));
    lists
        .filter_map(|rest| rest.split_once(')'))
        .flat_map(|(list, _)| list.split(','))
        .map(str::to_string)
        .collect()
}

/// A fault for each file of a core that no row of the README and no bullet names. A bullet is one
/// of the core's `mod.rs`, or of the `mod.rs` in the file's own folder.
fn untold(sources: &[Source], rows: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let files = sources.iter().filter(|source| source.is_core() && !source.is_tests());
    for file in files.filter(|file| !is_root(file) && !rows.contains(&file.path)) {
        let Some((outside, inside)) = file.path.split_once("/src/core/") else { continue };
        let root = format!("{outside}/src/core/mod.rs");
        let name = inside.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        let mut places = vec![(root.clone(), name)];
        if let Some((folder, name)) = name.rsplit_once('/') {
            places.push((format!("{outside}/src/core/{folder}/mod.rs"), name));
        }
        let is_told = |(path, name): &(String, &str)| {
            let place = sources.iter().find(|source| source.path == *path);
            place.is_some_and(|place| bullets(&place.text).any(|bullet| tells_of(&bullet, name)))
        };
        if !places.iter().any(is_told) {
            faults.push(format!(
                "{}:1: a module that nothing leads to; give it a row in the README's map or a \
                 bullet in {root}",
                file.path
            ));
        }
    }
    faults
}

/// The bullets in the header of a file, each with its further lines.
fn bullets(text: &str) -> impl Iterator<Item = String> {
    let header = text.lines().map_while(|line| line.strip_prefix("//!"));
    let mut bullets: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in header {
        let begins = line.starts_with(" * ") || line.starts_with(" - ");
        is_open = begins || (is_open && line.starts_with("   "));
        match bullets.last_mut() {
            _ if begins => bullets.push(line.to_string()),
            Some(bullet) if is_open => bullet.push_str(line),
            _ => {}
        }
    }
    bullets.into_iter()
}

/// True if a bullet names the module, as `name`, [`name`] or [`name::Type`].
fn tells_of(bullet: &str, name: &str) -> bool {
    let quoted = bullet.split('`').skip(1).step_by(2);
    let path = name.replace('/', "::");
    quoted.into_iter().any(|quoted| {
        let rest = quoted.strip_prefix(name).or_else(|| quoted.strip_prefix(&path));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    })
}

#[cfg(test)]
mod of_the_rules_themselves {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: format!("crates/a/src/core/{path}"), text: text.into() }
    }

    #[test]
    fn a_lint_that_is_missing_is_found_and_every_way_to_deny_it_is_known() {
        let none =
            source("mod.rs", "//! #![deny(clippy::indexing_slicing)]\n#![warn(missing_docs)]");
        assert_eq!(missing_lints(&none).len(), 2);
        let tests_only = source("mod.rs", "#![cfg_attr(test, deny(clippy::indexing_slicing))]");
        assert_eq!(missing_lints(&tests_only).len(), 2);
        let one = source("mod.rs", "//! A.\n#![deny(clippy::indexing_slicing)]\nmod b;");
        let faults = missing_lints(&one);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("deny clippy::wildcard_enum_match_arm"), "{faults:?}");
        for both in [
            "#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]",
            "#![deny(\n    clippy::indexing_slicing,\n    clippy::wildcard_enum_match_arm,\n)]",
            "#![deny(clippy::indexing_slicing)]\n#![deny(clippy::wildcard_enum_match_arm)]",
            "#![cfg_attr(\n    not(test),\n    deny(clippy::indexing_slicing, \
             clippy::wildcard_enum_match_arm)\n)]",
        ] {
            assert_eq!(missing_lints(&source("mod.rs", both)), Vec::<String>::new(), "{both}");
        }
    }

    #[test]
    fn a_module_without_row_or_bullet_is_found_and_others_are_not() {
        let sources = [
            source(
                "mod.rs",
                "//! Has `b` and `c`.\n//!\n//! * [`d`]: d,\n//!   and `e::E`.\n\n//! * `b`\n",
            ),
            source("b.rs", ""),
            source("d.rs", ""),
            source("e.rs", ""),
            source("b_tests.rs", ""),
            source("f/mod.rs", "//! * `h`: h."),
            source("f/h.rs", ""),
        ];
        let faults = untold(&sources, &BTreeSet::new());
        let begins: Vec<&str> = faults.iter().map(|fault| &fault[..26]).collect();
        assert_eq!(begins, ["crates/a/src/core/b.rs:1: ", "crates/a/src/core/f/mod.rs"]);
        let rows = ["b.rs", "f/mod.rs"].map(|name| format!("crates/a/src/core/{name}"));
        assert_eq!(untold(&sources, &BTreeSet::from(rows)), Vec::<String>::new());
    }

    #[test]
    fn a_bullet_in_the_root_may_name_a_folder_and_a_file_in_it() {
        let root = "//! * [`f`]: a folder. [`f::h`]: its file.\n//! * `f/i`: another.\n";
        let sources = [
            source("mod.rs", root),
            source("f/mod.rs", ""),
            source("f/h.rs", ""),
            source("f/i.rs", ""),
            source("f/j.rs", ""),
        ];
        let faults = untold(&sources, &BTreeSet::new());
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("crates/a/src/core/f/j.rs:1: "), "{faults:?}");
    }
}
