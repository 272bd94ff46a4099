//! Within a crate, imports between files run one way, as between crates: state types below,
//! features between, the loop on top.
//!
//! A path counts that begins with `crate`, `super` or `self`, in a `use` or where it stands. A
//! `mod.rs`, `lib.rs` or `main.rs` passes names on and is no part of a circle; neither is what a
//! file `x.rs` and the files of its own folder `x/` have of each other, for `x.rs` is what
//! `x/mod.rs` would be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::assert_none;
use crate::source::{Source, Token, line_of, sources, tokens};

/// The names of a module and of those around it, from the crate's root on.
type Module = Vec<String>;

/// For each file, the files that it names and the first line where it does.
type Graph = BTreeMap<String, BTreeMap<String, usize>>;

#[test]
fn imports_of_a_crate_run_one_way() {
    let sources = sources();
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_tests()) {
        let Some((root, _)) = source.path.split_once("/src/") else { continue };
        crates.entry(root).or_default().push(source);
    }
    assert!(crates.len() > 7, "the rule looks at the wrong place");
    let graphs: Vec<Graph> =
        crates.iter().map(|(root, files)| graph(&format!("{root}/src/"), files)).collect();
    let edges: usize = graphs.iter().flat_map(BTreeMap::values).map(BTreeMap::len).sum();
    assert!(edges > 300, "the rule sees {edges} imports only");
    assert_none(graphs.iter().flat_map(circles).collect());
}

/// Which files of a crate name which. `root` is the folder of its sources.
fn graph(root: &str, files: &[&Source]) -> Graph {
    let modules: BTreeMap<Module, &str> =
        files.iter().map(|file| (module(root, &file.path), file.path.as_str())).collect();
    let mut graph = Graph::new();
    for file in files.iter().filter(|file| !is_root(&file.path)) {
        let bare = file.bare();
        let named = graph.entry(file.path.clone()).or_default();
        for (path, at) in paths(&tokens(&bare), &module(root, &file.path)) {
            let Some(other) = resolve(&path, &modules) else { continue };
            if other != file.path && !is_root(other) && !is_family(&file.path, other) {
                named.entry(other.to_string()).or_insert_with(|| line_of(&bare, at));
            }
        }
    }
    graph
}

/// The module that the file at `path` is.
fn module(root: &str, path: &str) -> Module {
    let stem = path.trim_start_matches(root).trim_end_matches(".rs");
    let mut names: Module = stem.split('/').map(str::to_string).collect();
    if is_root(path) {
        names.pop();
    }
    names
}

/// True for a file that passes on what is in its folder.
fn is_root(path: &str) -> bool {
    ["/mod.rs", "/lib.rs", "/main.rs"].iter().any(|name| path.ends_with(name))
}

/// True if one of the files lies in the folder of the other's name.
fn is_family(one: &str, other: &str) -> bool {
    let holds = |outer: &str, inner: &str| {
        inner.strip_prefix(outer.trim_end_matches(".rs")).is_some_and(|rest| rest.starts_with('/'))
    };
    holds(one, other) || holds(other, one)
}

/// The file that holds what `path` names: that of the longest part of `path` that is a module.
fn resolve<'a>(path: &[String], modules: &BTreeMap<Module, &'a str>) -> Option<&'a str> {
    (0..=path.len()).rev().find_map(|length| modules.get(&path[..length]).copied())
}

/// Every path in the code of `module` that names a part of its crate, from the crate's root on,
/// and where it stands.
fn paths(tokens: &[Token], module: &Module) -> Vec<(Module, usize)> {
    let mut found = Vec::new();
    // The modules within the file around the present token, and the depth of each one's braces.
    let mut within: Vec<(String, usize)> = Vec::new();
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate() {
        let text = |distance: usize| tokens.get(index + distance).map_or("", |token| token.text);
        match token.text {
            "mod" if text(2) == "{" => within.push((text(1).to_string(), depth)),
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                within.retain(|(_, outside)| *outside < depth);
            }
            "crate" | "super" | "self" if text(1) == "::" => {
                if index > 0 && tokens[index - 1].text == "::" {
                    continue;
                }
                let mut prefix = module.clone();
                prefix.extend(within.iter().map(|(name, _)| name.clone()));
                let mut paths = Vec::new();
                expand(tokens, index, prefix, &mut paths);
                found.extend(paths.into_iter().map(|path| (path, token.at)));
            }
            _ => {}
        }
    }
    found
}

/// Collects the paths that begin at token `at`, each with `prefix` in front, and returns the first
/// token behind them. Braces hold several paths.
fn expand(tokens: &[Token], at: usize, mut prefix: Module, paths: &mut Vec<Module>) -> usize {
    let Some(token) = tokens.get(at) else { return at };
    match token.text {
        "{" => {
            let mut next = at + 1;
            while let Some(token) = tokens.get(next).filter(|token| token.text != "}") {
                let skip = matches!(token.text, "," | "as" | "_");
                next = if skip { next + 1 } else { expand(tokens, next, prefix.clone(), paths) };
            }
            return next + 1;
        }
        "crate" => prefix.clear(),
        "super" => drop(prefix.pop()),
        "self" => {}
        name => prefix.push(name.to_string()),
    }
    if tokens.get(at + 1).is_some_and(|token| token.text == "::") {
        return expand(tokens, at + 2, prefix, paths);
    }
    paths.push(prefix);
    at + 1
}

/// A fault for each group of files that lead to each other: one shortest circle through the first.
fn circles(graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    let mut told = BTreeSet::new();
    for file in graph.keys() {
        let Some(circle) = circle(graph, file).filter(|_| !told.contains(file)) else { continue };
        let steps: Vec<String> = circle
            .iter()
            .zip(circle.iter().cycle().skip(1))
            .map(|(from, to)| format!("{from}:{} -> {to}", graph[*from][*to]))
            .collect();
        faults.push(format!(
            "{}; move the type that closes the circle down, or what needs both up",
            steps.join(", ")
        ));
        let group: Vec<&String> = graph
            .keys()
            .filter(|other| way(graph, file, other).is_some() && way(graph, other, file).is_some())
            .collect();
        told.extend(group);
    }
    faults
}

/// The files of a shortest circle that begins with `file`.
fn circle<'a>(graph: &'a Graph, file: &'a String) -> Option<Vec<&'a String>> {
    let next = graph.get(file)?.keys();
    next.filter_map(|next| way(graph, next, file)).min_by_key(Vec::len).map(|mut way| {
        way.rotate_right(1);
        way
    })
}

/// The files on a shortest way between two files, with both; a file leads to itself.
fn way<'a>(graph: &'a Graph, from: &'a String, to: &'a String) -> Option<Vec<&'a String>> {
    let mut came_from: BTreeMap<&String, &String> = BTreeMap::new();
    let mut open = VecDeque::from([from]);
    while let Some(file) = open.pop_front() {
        if file == to {
            let mut way = vec![to];
            while way.last() != Some(&from) {
                way.push(came_from[way[way.len() - 1]]);
            }
            way.reverse();
            return Some(way);
        }
        for next in graph.get(file).into_iter().flat_map(BTreeMap::keys) {
            if next != from && !came_from.contains_key(next) {
                came_from.insert(next, file);
                open.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod of_the_rule_itself {
    use super::*;

    /// The faults of a crate `a` with these files.
    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let source = |(path, text): &(&str, &str)| Source {
            path: format!("crates/a/src/{path}"),
            text: (*text).to_string(),
        };
        let sources: Vec<Source> = files.iter().map(source).collect();
        circles(&graph("crates/a/src/", &sources.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn a_circle_is_found_with_the_lines_that_close_it() {
        let found = faults(&[
            ("lib.rs", "pub mod b;\npub mod c;"),
            ("b.rs", "\nuse crate::c::C;"),
            ("c.rs", "//! Not `crate::d`.\nfn f() {\n    crate::d::f()\n}"),
            ("d.rs", "use std::fmt;\nuse super::{c::C, b::{self as x, B}};"),
            ("e.rs", "use crate::b::B;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        let circle = "crates/a/src/b.rs:2 -> crates/a/src/c.rs, crates/a/src/c.rs:3 -> \
                      crates/a/src/d.rs, crates/a/src/d.rs:2 -> crates/a/src/b.rs; ";
        assert!(found[0].starts_with(circle), "{found:?}");
    }

    #[test]
    fn each_group_of_files_is_told_once() {
        let found = faults(&[
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::b::B; use crate::d::D;"),
            ("d.rs", "use crate::c::C;"),
            ("e/f.rs", "use super::g::G;"),
            ("e/g.rs", "use self::super::f::F;"),
            ("e/mod.rs", ""),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].starts_with("crates/a/src/e/f.rs:1 -> crates/a/src/e/g.rs"), "{found:?}");
    }

    #[test]
    fn paths_that_run_one_way_are_no_circle() {
        let found = faults(&[
            ("lib.rs", "mod b; mod c; pub use b::B; use crate::c::C;"),
            (
                "b.rs",
                "use crate::{c::C, core::{d::D, A}};\n// use crate::e::E;\nlet a = \"crate::e\";",
            ),
            ("c.rs", "#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}"),
            ("core/mod.rs", "use crate::b::B; pub mod d;"),
            ("core/d.rs", "use super::A; use crate::c::C; mod c { use super::D; use self::e::E; }"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn a_module_within_a_file_has_the_file_above_it() {
        let inner = "mod m { mod n { use super::super::super::c::C; } fn f() {} }";
        let found = faults(&[("b.rs", inner), ("c.rs", "use super::b::m;")]);
        assert_eq!(found.len(), 1, "{found:?}");
        let after = "mod m { fn f() {} }\nuse super::c::C;";
        let found = faults(&[("b.rs", after), ("c.rs", "use super::b::m;")]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_file_and_its_own_folder_are_one_but_not_for_others() {
        let family = [("b.rs", "use self::c::C;"), ("b/c.rs", "use super::B;")];
        assert_eq!(faults(&family), Vec::<String>::new());
        let found =
            faults(&[family[0], ("b/c.rs", "use crate::d::D;"), ("d.rs", "use crate::b::c::C;")]);
        assert_eq!(found.len(), 1, "{found:?}");
        let found = faults(&[("b.rs", "use crate::bc::C;"), ("bc.rs", "use crate::b::B;")]);
        assert_eq!(found.len(), 1, "a name that begins alike is no folder: {found:?}");
    }
}
