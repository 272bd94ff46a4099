//! A load generator for Flotilla and for etcd, and side-by-side runs of both.
//!
//! * [`workload`]: what the clients ask; [`keys`]: of which keys.
//! * [`target`]: the systems under test, behind one trait.
//! * [`run`]: one run, closed or open loop; [`schedule`]: the open loop's moments; [`recorder`]:
//!   counts and latencies; [`report`]: what comes out.
//! * [`compare`]: three Flotilla stores and three etcd members, in turns, on one machine.
//! * [`bars`]: what Flotilla is to reach, each figure measured on a cluster of its own.
//! * [`process`], [`usage`], [`fsyncs`]: child processes, and what they use.
//!
//! A run, told once: [`run::load`] puts the keys. [`run::run`] starts one task per client; each
//! draws requests from its own seeded [`workload::Stream`], hands them to the one
//! [`target::Target`] and tells the [`recorder::Recorder`] when each was due and when it ended.
//! After the warm-up a window opens; what falls into it becomes the [`report::RunReport`].
//!
//! Architecture invariant: the generator knows no system but through [`target`], so that both are
//! asked the same in the same way; and it never judges a system's figures.

pub mod bars;
pub mod compare;
pub mod error;
pub mod fsyncs;
pub mod keys;
pub mod process;
pub mod recorder;
pub mod report;
pub mod run;
pub mod schedule;
pub mod target;
pub mod usage;
pub mod workload;

pub use error::{BenchError, Result};
