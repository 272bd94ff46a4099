//! The simulator: a whole cluster in one thread, from one seed, under faults.
//!
//! The cores that ship (`flotilla-store`, `flotilla-pd`, `flotilla-client`) and the loop that ships
//! (`flotilla-host`) run over a simulated network, simulated clocks and disks in memory. One queue
//! of events, ordered by (time, sequence), and the seed's streams of dice decide everything, so a
//! seed replays exactly. The invariants in [`check`] are checked after every step of a store, and
//! at the end over what clients saw.
//!
//! ```text
//!   seed      a seed's phases: safety (anything may fail), healing, liveness, the last checks
//!   scenario  what the seed decides before the world begins: sizes, timings, the list of faults
//!   limits    the bounds of the cores, drawn down in a third of the seeds
//!   chance    streams of dice: one for each part of the world
//!   world     carries the queue's events to the processes that they name
//!   store     disks that survive a crash, and a process that does not, run by the store's loop
//!   pd        the placement driver's process, run by the same loop
//!   client    the real router, plan, cursor and retry table, over messages instead of sockets
//!   sticky    clients that read at one store whichever store leads
//!   net       whether and when messages arrive
//!   looks     which quorums work, every 100 ms, and probes where they are needed
//!   healed    from healing to rest: recovery, and the quiet window
//!   nemesis   the source of faults
//!   rumour    which messages of a region are lost while a voter is to learn of a later term
//!   check     one file for each invariant
//!   shrink    a scenario that fails, made smaller; regressions: files of such scenarios
//!   mutants   planted bugs, each run until a seed fails; only with the feature `mutants`
//!   sweep     one store on the real engines over a simulated disk, which fails at every point
//! ```
//!
//! Two runs of a seed have the same trace hash (`tests/seeds.rs` asserts it). The README beside
//! this crate has a glossary of the simulator's own words.
//!
//! Not here: a monotonic clock that goes back while its process runs (see [`clock`]); the pages
//! that a failed sync left in the page cache and that a power loss takes later. The engines' own
//! files are swept apart, in [`sweep`].
//!
//! Architecture invariant: no crate depends on this one, and this crate uses cores only, never a
//! driver. Only `main.rs` and its commands read the wall clock.

pub mod admin;
pub mod agenda;
pub mod chance;
pub mod check;
pub mod client;
pub mod clock;
pub mod coverage;
pub mod event;
pub mod healed;
pub mod hub;
pub mod limits;
pub mod looks;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod nemesis;
pub mod net;
pub mod pd;
pub mod probes;
pub mod regressions;
pub mod rumour;
pub mod scenario;
pub mod seed;
pub mod shrink;
pub mod sticky;
pub mod store;
pub mod sweep;
pub mod time;
pub mod trace;
pub mod world;

pub use flotilla_history as history;
