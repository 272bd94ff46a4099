//! Every path that the README and the pages beside it name exists.
//!
//! A path stands in backticks. In any text, what begins with a folder of the workspace is one. In
//! the README's map, under "Where things are", so is what ends with `/` or like a file: it lies at
//! the workspace's root, or beside the path in front of it in its row.

use std::fs;
use std::path::Path;

use flotilla_tests::binary::workspace;

use crate::assert_none;

/// Where the workspace's paths begin.
const ROOTS: &[&str] = &["crates/", "tests/", "proto/", "docs/", "deploy/", ".ci/"];

/// How files end that a row of the map may name without a folder.
const ENDS: &[&str] = &[".rs", ".md", ".proto", ".toml"];

/// The heading of the README's map.
const MAP_HEADING: &str = "## Where things are";

#[test]
fn every_row_of_the_map_leads_somewhere() {
    let rows = map(&readme());
    assert!(rows.len() > 30, "the rule looks at the wrong place");
    assert_none(lost_rows(&rows, exists));
}

#[test]
fn pages_name_paths_that_exist() {
    let pages = pages();
    assert!(pages.len() > 2, "the rule looks at the wrong place: {pages:?}");
    let mut faults = Vec::new();
    for page in pages {
        let text = fs::read_to_string(workspace().join(&page)).expect("a page can be read");
        faults.extend(lost_paths(&page, &text, exists));
    }
    assert_none(faults);
}

/// A row of the map: the paths that it names, from the workspace's root.
pub(crate) struct Row {
    line: usize,
    pub(crate) paths: Vec<String>,
}

/// The README's text.
pub(crate) fn readme() -> String {
    fs::read_to_string(workspace().join("README.md")).expect("the README can be read")
}

/// The rows of the map in a README.
pub(crate) fn map(readme: &str) -> Vec<Row> {
    let numbered = readme.lines().enumerate().map(|(index, line)| (index + 1, line));
    let section = numbered
        .skip_while(|(_, line)| *line != MAP_HEADING)
        .skip(1)
        .take_while(|(_, line)| !line.starts_with("## "));
    // The first two lines of a table name its columns.
    let table = section.filter(|(_, line)| line.starts_with('|')).skip(2);
    table.map(|(line, row)| Row { line, paths: paths_of_row(row) }).collect()
}

/// The paths in a row, each from the workspace's root.
fn paths_of_row(row: &str) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for quoted in quoted(row).filter(|quoted| is_path(quoted)) {
        let folder = paths.last().and_then(|last| last.rsplit_once('/')).map(|(folder, _)| folder);
        let path = match folder {
            Some(folder) if !is_rooted(quoted) => format!("{folder}/{quoted}"),
            _ => quoted.to_string(),
        };
        paths.push(path);
    }
    paths
}

fn is_path(quoted: &str) -> bool {
    let is_file = ENDS.iter().any(|end| quoted.ends_with(end));
    !quoted.contains(' ') && (is_rooted(quoted) || quoted.ends_with('/') || is_file)
}

fn is_rooted(quoted: &str) -> bool {
    ROOTS.iter().any(|root| quoted.starts_with(root))
}

/// What stands in backticks on a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A fault for each row that names no path or one that is gone.
fn lost_rows(rows: &[Row], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for row in rows {
        let line = row.line;
        if row.paths.is_empty() {
            faults.push(format!("README.md:{line}: a row of the map without a path; name one"));
        }
        for path in row.paths.iter().filter(|path| !exists(path)) {
            faults.push(format!("README.md:{line}: {path} is gone; name where it went"));
        }
    }
    faults
}

/// A fault for each path in `text` that is gone.
fn lost_paths(page: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for path in quoted(line).filter(|quoted| is_rooted(quoted) && is_path(quoted)) {
            if !exists(path) {
                faults.push(format!("{page}:{}: {path} is gone; name where it went", index + 1));
            }
        }
    }
    faults
}

/// True for a file or a folder of the workspace. A `*` in the last part stands for anything.
fn exists(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some((begin, end)) = name.split_once('*') else {
        return workspace().join(path).exists();
    };
    names_in(&workspace().join(folder))
        .iter()
        .any(|name| name.starts_with(begin) && name.ends_with(end))
}

/// The names in a folder; none if there is no such folder.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}

/// The README, those of the crates, and the pages in `docs/`.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_string()];
    for name in names_in(&workspace().join("docs")) {
        pages.push(format!("docs/{name}"));
    }
    for name in names_in(&workspace().join("crates")) {
        pages.push(format!("crates/{name}/README.md"));
    }
    pages.retain(|page| page.ends_with(".md") && workspace().join(page).exists());
    pages.sort();
    pages
}

#[cfg(test)]
mod of_the_rules_themselves {
    use super::*;

    const README: &str = "# A\n| `not/a.rs` | `b.rs` |\n\n## Where things are\n\nText.\n\n\
                          | Question | Answer |\n|---|---|\n\
                          | One | `crates/a/src/b.rs` (the contract of `f`), `c.rs`, `d/` |\n\
                          | Two | `proto/`: `meta`, `a b.rs`; `tests/*.rs` |\n\
                          | None | nowhere |\n\n## Next\n\n| Three | `crates/e.rs` |\n";

    #[test]
    fn a_row_names_paths_from_the_root_and_beside_each_other() {
        let rows = map(README);
        let paths: Vec<&[String]> = rows.iter().map(|row| row.paths.as_slice()).collect();
        let empty: [&str; 0] = [];
        assert_eq!(paths[0], ["crates/a/src/b.rs", "crates/a/src/c.rs", "crates/a/src/d/"]);
        assert_eq!(paths[1], ["proto/", "tests/*.rs"]);
        assert_eq!(paths[2], empty);
        assert_eq!((paths.len(), rows[0].line), (3, 10));
    }

    #[test]
    fn a_row_that_leads_nowhere_is_found_and_others_are_not() {
        let faults = lost_rows(&map(README), |path| path != "crates/a/src/c.rs");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("README.md:10: crates/a/src/c.rs is gone"), "{faults:?}");
        assert!(faults[1].starts_with("README.md:12: a row of the map without"), "{faults:?}");
        assert_eq!(lost_rows(&map(README)[..2], |_| true), Vec::<String>::new());
    }

    #[test]
    fn a_path_in_a_text_that_is_gone_is_found_and_words_are_not() {
        let text = "See `crates/a/`.\n`src/b.rs`, `--dir data/x`, `tests/a -b` and `docs/c.md`";
        let faults = lost_paths("docs/d.md", text, |path| path == "crates/a/");
        assert_eq!(faults, ["docs/d.md:2: docs/c.md is gone; name where it went"]);
        assert_eq!(lost_paths("docs/d.md", text, |_| true), Vec::<String>::new());
    }

    #[test]
    fn a_star_stands_for_anything() {
        for path in ["tests/*.rs", "tests/tidy/m*n.rs", "crates/", "README.md"] {
            assert!(exists(path), "{path}");
        }
        for path in ["tests/*.py", "nowhere/*.rs", "crates/nothing/"] {
            assert!(!exists(path), "{path}");
        }
    }
}
