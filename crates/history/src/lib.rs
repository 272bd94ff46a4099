//! What clients asked and what they were told, and two checkers of it that share no code.
//!
//! * [`record`]: the history, one record for each key of each call.
//! * [`verdict`]: what a checker says.
//! * [`linear`]: each key's history is linearizable.
//! * [`second`]: a second opinion on the same, by a checker that others wrote.
//!
//! The simulator judges its clients by them, and so does the program that runs real processes under
//! faults. Not here: what no history of one key shows, such as rows that a scan left out.

pub mod linear;
pub mod record;
pub mod second;
pub mod verdict;

pub use record::{History, Kind, Outcome, Record};
pub use verdict::{Verdict, Violation, broken};
