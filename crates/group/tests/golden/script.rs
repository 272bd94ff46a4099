//! Golden scripts: text files that hold commands and what they print.
//!
//! A line that begins with `> ` is a command, one that begins with `#` is a comment; both, and
//! empty lines, are the script. Every other line is the output of the command above it. A script
//! passes if running its commands prints its output again, byte for byte. With `UPDATE_GOLDEN=1`
//! in the environment the file is rewritten instead; the diff is then to be reviewed.
//!
//! Not here: what the commands mean. That is the [`Runner`]'s.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Carries commands out.
pub trait Runner {
    /// Carries one command out, and checks what must hold after each. Lines printed go to `out`.
    fn run(&mut self, command: &Command, out: &mut Vec<String>);
}

/// A command: its name, then words and `name=value` pairs.
pub struct Command {
    /// The first word.
    pub name: String,
    /// The words after it that are no pairs.
    pub words: Vec<String>,
    pairs: BTreeMap<String, String>,
}

impl Command {
    /// The command of a line.
    pub fn parse(line: &str) -> Command {
        let mut all = line.split_whitespace().map(str::to_string);
        let name = all.next().unwrap_or_default();
        let (mut words, mut pairs) = (vec![], BTreeMap::new());
        for word in all {
            match word.split_once('=') {
                Some((key, value)) => drop(pairs.insert(key.to_string(), value.to_string())),
                None => words.push(word),
            }
        }
        Command { name, words, pairs }
    }

    /// The word at `at`, counted from 0.
    pub fn word(&self, at: usize) -> &str {
        let word = self.words.get(at);
        word.unwrap_or_else(|| panic!("{} wants a word {at}", self.name))
    }

    /// The word at `at` as a number.
    pub fn number(&self, at: usize) -> u64 {
        number(self.word(at))
    }

    /// The value of the pair `key`.
    pub fn pair(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(String::as_str)
    }

    /// The value of the pair `key` as numbers between commas; none without the pair.
    pub fn numbers(&self, key: &str) -> Vec<u64> {
        self.pair(key).map_or(vec![], |list| list.split(',').map(number).collect())
    }
}

/// The number that `word` is, after a letter if there is one: `s2` is 2.
pub fn number(word: &str) -> u64 {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    digits.parse().unwrap_or_else(|_| panic!("{word:?} is not a number"))
}

/// Runs the script `name` of the directory `dir` and compares, or rewrites it.
pub fn check(dir: &str, name: &str, runner: &mut dyn Runner) {
    let path = Path::new(dir).join(format!("{name}.txt"));
    let golden = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let printed = play(&golden, runner);
    if golden == printed {
        return;
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, printed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let (line, expected, found) = first_difference(&golden, &printed);
    panic!(
        "{}:{line} differs\n  expected: {expected}\n  printed:  {found}\n\
         if the new output is right, rewrite it with UPDATE_GOLDEN=1 and review the diff",
        path.display()
    );
}

/// Fails unless `names` are exactly the scripts in `dir`: a script that nobody runs is none.
pub fn check_names(dir: &str, names: &[&str]) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{dir}: {e}"));
    let mut files: Vec<String> = entries
        .map(|entry| entry.expect("a readable directory").file_name())
        .map(|file| file.to_string_lossy().trim_end_matches(".txt").to_string())
        .collect();
    files.sort_unstable();
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
    names.sort_unstable();
    assert_eq!(files, names, "the scripts in {dir}, and those that are run");
}

fn play(golden: &str, runner: &mut dyn Runner) -> String {
    let mut printed = String::new();
    for line in golden.lines() {
        let command = line.strip_prefix("> ");
        if command.is_none() && !line.is_empty() && !line.starts_with('#') {
            continue;
        }
        printed.push_str(line);
        printed.push('\n');
        let Some(command) = command else { continue };
        let mut out = vec![];
        runner.run(&Command::parse(command), &mut out);
        for line in out {
            printed.push_str(&line);
            printed.push('\n');
        }
    }
    printed
}

fn first_difference(golden: &str, printed: &str) -> (usize, String, String) {
    let (mut expected, mut found) = (golden.lines(), printed.lines());
    for line in 1.. {
        let (e, f) = (expected.next(), found.next());
        if e != f || e.is_none() {
            let shown = |line: Option<&str>| line.unwrap_or("(the end)").to_string();
            return (line, shown(e), shown(f));
        }
    }
    unreachable!("both have an end");
}
