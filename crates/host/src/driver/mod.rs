//! Threads, sockets, directories and the clock.
//!
//! * [`clock`]: a process's clock, which counts suspended time.

pub mod clock;
