//! The rules of the house that the compiler does not know. Each failure names the file and line
//! and says what to do instead.
//!
//! * [`crates`]: which crate may depend on which, and where planted bugs may be compiled.
//! * [`words`]: what a text must not hold, and what it must begin with.
//! * [`shape`]: the size of files, functions and structs.
//! * [`imports`]: within a crate, imports between files run one way.
//! * [`cores`]: the lints and the table of contents of a deterministic core.
//! * [`map`]: every path that the README and `docs/` name exists.
//! * [`source`]: the workspace's files, and the code in them.
//!
//! Rules about text look at code only: a comment does not count. Tests within a file (from
//! `#[cfg(test)] mod x {` on) and files of tests may use what the rest may not.
//!
//! A rule is a function from texts to faults with two tests: one over the workspace, and one of
//! the rule itself over small texts, because a rule that finds nothing may be a rule that looks at
//! nothing.

mod cores;
mod crates;
mod imports;
mod map;
mod shape;
mod source;
mod words;

/// Fails with one line for each fault.
fn assert_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
