//! The commands of `flotilla-sim`, one file each, and what they share. A command parses arguments,
//! runs seeds or scripts of the library, and prints; it decides nothing about the world.

pub mod mutants;
pub mod seeds;
pub mod shrink;
pub mod sweep;

use clap::ValueEnum;

/// The exit status for a request that cannot be carried out: bad arguments, a file that cannot be
/// read or written.
pub const BAD_USAGE: u8 = 2;

/// The format of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// JSON for scripts.
    Json,
}
