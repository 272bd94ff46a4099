//! The commands of `flotilla-sim`, one file each, and what they share. A command parses arguments,
//! runs seeds or scripts of the library, and prints; it decides nothing about the world.

pub mod figures;
pub mod mutants;
pub mod seeds;
pub mod shrink;
pub mod sweep;
pub mod target;

use std::process::ExitCode;

use clap::ValueEnum;

/// The exit status for a request that cannot be carried out: bad arguments, a file that cannot be
/// read or written.
pub const BAD_USAGE: u8 = 2;

/// The directory of the scenarios that once failed, from the workspace's root.
pub const REGRESSIONS: &str = "crates/sim/regressions";

/// Prints why a request cannot be carried out, and answers the exit status for that.
pub fn bad_usage(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(BAD_USAGE)
}

/// The format of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// JSON for scripts.
    Json,
}
