//! What a process needs to host Raft groups, whatever they replicate.
//!
//! * [`core`]: deterministic: what a turn gathers, who waits for an entry, and the loop that
//!   carries out what a core hands out.
//! * [`driver`]: threads, sockets, directories and the clock.

pub mod core;
pub mod driver;
