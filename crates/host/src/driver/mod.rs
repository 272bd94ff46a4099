//! Threads, sockets, directories and the clock.
//!
//! * [`clock`]: a process's clock, which counts suspended time.
//! * [`inbox`]: the bounded way into a core's thread.
//! * [`thread`]: that thread: drains the inbox, ticks, ends turns.
//! * [`disk`]: the disk thread: checkpoints and other bulk work, log purges.

pub mod clock;
pub mod disk;
pub mod inbox;
pub mod thread;
