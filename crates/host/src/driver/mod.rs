//! Threads, sockets, directories and the clock.
//!
//! * [`clock`]: a process's clock, which counts suspended time.
//! * [`dir`]: a process's data directory: lock, owner, log and state.
//! * [`label`]: what a data directory says about itself.
//! * [`inbox`]: the bounded way into a core's thread.
//! * [`thread`]: that thread: drains the inbox, ticks, ends turns.
//! * [`disk`]: the disk thread: checkpoints and other bulk work, log purges.

pub mod clock;
pub mod dir;
pub mod disk;
pub mod inbox;
pub mod label;
pub mod thread;
