//! The deterministic world: a whole cluster in one thread, from one seed, under faults.
//!
//! The cores that ship (`flotilla-store`, `flotilla-pd`, `flotilla-client`) run over a simulated
//! network, simulated clocks and disks in memory. One queue of events, ordered by (time, sequence),
//! and one generator of chance decide everything, so a seed replays exactly. After every step of a
//! store the invariants in [`check`] are checked, and at the end what clients saw.
//!
//! ```text
//!   seed      a seed's life: safety (anything fails), healing, liveness, the last checks
//!   scenario  what the seed decides before: sizes, which kinds of faults there are (swarm)
//!   world     the queue's events, carried to whom they concern
//!   store     disks that survive and a process that does not, run as the store's runtime does
//!   pd        the placement driver's member
//!   client    the real router, plan, cursor and retry table, over messages instead of sockets
//!   sticky    clients that stick to a store whoever leads
//!   net       what arrives when; nemesis: who makes things fail
//!   check     one file for each invariant
//!   mutants   planted bugs, each run until a seed fails; with the feature `mutants` only
//!   sweep     one store on the real engines over a simulated disk, which fails at every point
//! ```
//!
//! Two runs of a seed have the same trace hash (`tests/seeds.rs` asserts it).
//!
//! Not here: a running monotonic clock that goes back (see [`clock`]); what a failed sync left in
//! the page cache and a power loss takes later. The engines' own files are swept apart, in
//! [`sweep`].
//!
//! Architecture invariant: nothing depends on this crate, and it uses cores only, never a driver.
//! No wall clock outside `main.rs`.

pub mod agenda;
pub mod check;
pub mod client;
pub mod clock;
pub mod coverage;
pub mod event;
pub mod history;
pub mod hub;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod nemesis;
pub mod net;
pub mod pd;
pub mod probes;
pub mod regressions;
pub mod scenario;
pub mod seed;
pub mod sticky;
pub mod store;
pub mod sweep;
pub mod time;
pub mod trace;
pub mod world;
