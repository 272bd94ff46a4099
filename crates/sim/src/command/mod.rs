//! The commands, one file each; what they share.

pub mod mutants;
pub mod seeds;
pub mod sweep;

use clap::ValueEnum;

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
}
