//! The workspace's Rust files, and the code in them without comments, texts and tests.

use std::fs;
use std::path::{Path, PathBuf};

use flotilla_tests::binary::workspace;

/// One source file of the workspace.
pub(crate) struct Source {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Line numbers and code of the lines that are not tests, without comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_tests() { 0 } else { self.first_test_line() };
        self.text.lines().take(end).enumerate().map(|(index, line)| {
            let code = line.split_once("//").map_or(line, |(code, _)| code);
            (index + 1, code)
        })
    }

    /// The text in front of the module of tests, with a space in place of each character of a
    /// comment or a literal. Lines and columns are those of the file.
    pub(crate) fn bare(&self) -> String {
        let lines: Vec<&str> = self.text.lines().take(self.first_test_line()).collect();
        blank(&lines.join("\n"))
    }

    /// Number of lines in front of the module of tests.
    pub(crate) fn first_test_line(&self) -> usize {
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
    pub(crate) fn is_tests(&self) -> bool {
        let stem = self.path.trim_end_matches(".rs");
        stem.ends_with("/tests")
            || stem.ends_with("_tests")
            || stem.contains("/tests/")
            || stem.starts_with("tests/")
    }

    /// True for a file below the `src/core/` of a crate.
    pub(crate) fn is_core(&self) -> bool {
        self.path.starts_with("crates/") && self.path.contains("/src/core/")
    }

    /// True for code that a simulator must be able to replay from a seed.
    pub(crate) fn is_deterministic(&self) -> bool {
        let pure_crate =
            ["crates/types/src/", "crates/group/src/"].iter().any(|dir| self.path.starts_with(dir));
        pure_crate || self.is_core()
    }
}

/// Every Rust file of the workspace.
pub(crate) fn sources() -> Vec<Source> {
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

/// The 1-based line of a byte of `text`.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// A word or a single other character of bare code, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

/// The tokens of bare code. `::` and `->` are one token each, for both mean something of their
/// own here; all other punctuation comes a character at a time.
pub(crate) fn tokens(bare: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = bare;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|letter: char| !is_word(letter)).unwrap_or(rest.len());
        let length = match first {
            _ if word > 0 => word,
            _ if rest.starts_with("::") || rest.starts_with("->") => 2,
            _ => first.len_utf8(),
        };
        let (text, after) = rest.split_at(length);
        if !first.is_whitespace() {
            found.push(Token { text, at: bare.len() - rest.len() });
        }
        rest = after;
    }
    found
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// `text` with a space for each character of its comments and literals.
pub(crate) fn blank(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut bare = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let follows_word = at > 0 && is_word(letters[at - 1]);
        let end = end_of_blank(&letters[at..], follows_word).map_or(at, |length| at + length);
        if end == at {
            bare.push(letters[at]);
            at += 1;
        }
        while at < end {
            bare.push(if letters[at] == '\n' { '\n' } else { ' ' });
            at += 1;
        }
    }
    bare
}

/// How many characters the comment or literal has with which `rest` begins, if it begins with one.
fn end_of_blank(rest: &[char], follows_word: bool) -> Option<usize> {
    let begins = |with: &str| with.chars().eq(rest.iter().copied().take(with.len()));
    if begins("//") {
        return Some(rest.iter().position(|letter| *letter == '\n').unwrap_or(rest.len()));
    }
    if begins("/*") {
        return Some(end_of_block(rest));
    }
    if begins("\"") {
        return Some(end_of_text(rest));
    }
    if begins("r") && !follows_word {
        let hashes = rest[1..].iter().take_while(|letter| **letter == '#').count();
        return (rest.get(1 + hashes) == Some(&'"')).then(|| end_of_raw(rest, hashes));
    }
    if begins("'") {
        // A lifetime has no second quote where a character has it.
        let escaped = rest.get(1) == Some(&'\\');
        let close =
            if escaped { rest[3..].iter().position(|letter| *letter == '\'') } else { None };
        let plain = (rest.get(2) == Some(&'\'')).then_some(3);
        return close.map(|close| close + 4).or(plain);
    }
    None
}

/// The length of a block comment, with those within it.
fn end_of_block(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < rest.len() {
        match (rest[at], rest[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a text in quotes.
fn end_of_text(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a raw text with that many hashes.
fn end_of_raw(rest: &[char], hashes: usize) -> usize {
    let mut close = vec!['"'];
    close.resize(1 + hashes, '#');
    let begin = hashes + 2;
    let found = rest[begin..].windows(close.len()).position(|window| window == close);
    found.map_or(rest.len(), |at| begin + at + close.len())
}

#[cfg(test)]
mod of_source_itself {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays_where_it_was() {
        let kept = |text: &str| {
            let bare = blank(text);
            assert_eq!(bare.chars().count(), text.chars().count(), "{text}");
            bare.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(kept("a // {\nb /* { /* } */ { */ c"), "a b c");
        assert_eq!(kept(r#"f("{ \" {", b"{", 'x', '{', '\'', '\u{7f}') }"#), "f( , b , , , , ) }");
        assert_eq!(kept("r#\"{ \" {\"# + r\"\\\" + var\"{\""), "+ + var");
        assert_eq!(
            kept("fn f<'a>(x: &'a str) -> &'static str {"),
            "fn f<'a>(x: &'a str) -> &'static str {"
        );
        assert_eq!(blank("a\n// b\nc").lines().count(), 3);
    }

    #[test]
    fn a_token_is_a_word_or_a_sign() {
        let texts: Vec<&str> =
            tokens("fn f(a: b::C) -> D").iter().map(|token| token.text).collect();
        assert_eq!(texts, ["fn", "f", "(", "a", ":", "b", "::", "C", ")", "->", "D"]);
        assert_eq!(tokens(" é = 1")[1], Token { text: "=", at: 4 });
        assert_eq!(line_of("a\nb\nc", 4), 3);
    }

    #[test]
    fn files_of_tests_are_known_by_their_names() {
        let source = |path: &str| Source { path: path.into(), text: String::new() };
        for path in ["crates/a/src/tests.rs", "crates/a/src/retry_tests.rs", "tests/cluster.rs"] {
            assert!(source(path).is_tests(), "{path}");
        }
        assert!(!source("crates/a/src/contests.rs").is_tests());
    }

    #[test]
    fn a_module_of_tests_ends_the_code_of_a_file() {
        let text = "fn f() {} // g\n#[cfg(test)]\nmod tests {\n fn h() {}\n}\n";
        let source = Source { path: "crates/a/src/b.rs".into(), text: text.into() };
        assert_eq!(source.bare().trim_end(), "fn f() {}");
        assert_eq!(source.code().collect::<Vec<_>>(), [(1, "fn f() {} ")]);
        let declared = "#[cfg(test)]\nmod tests;\nfn f() {}\n";
        let source = Source { path: "crates/a/src/b.rs".into(), text: declared.into() };
        assert_eq!(source.first_test_line(), 3);
    }
}
