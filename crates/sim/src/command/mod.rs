//! The commands of `flotilla-sim`, one file each, and what they share. A command parses arguments,
//! runs seeds or scripts of the library, and prints; it decides nothing about the world.

pub mod mutants;
pub mod seeds;
pub mod sweep;

use clap::ValueEnum;

/// The format of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// JSON for scripts.
    Json,
}
