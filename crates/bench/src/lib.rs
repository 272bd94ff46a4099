//! A load generator for Flotilla and for etcd, and side-by-side runs of both.
//!
//! * [`workload`]: the clients' requests; [`keys`]: the choice of their keys.
//! * [`target`]: the systems under test, behind one trait.
//! * [`run`]: one run, closed or open loop, by the settings of [`config`]; [`schedule`]: the open
//!   loop's moments; [`recorder`]: counts and latencies; [`report`]: the figures of a run.
//! * [`compare`]: three Flotilla stores and three etcd members, in turns, on one machine.
//! * [`bars`]: the figures that Flotilla is to reach, each measured on a cluster of its own.
//! * [`process`], [`usage`], [`fsyncs`]: child processes, and the resources that they use.
//!
//! A run: [`run::load`] puts the keys. [`run::run`] starts one task per client. Each task draws
//! requests from its own seeded [`workload::Stream`], sends them to the one [`target::Target`], and
//! records in the [`recorder::Recorder`] when each request was due and when it ended. The
//! [`report::RunReport`] covers the window after the warm-up.
//!
//! Architecture invariant: the generator reaches a system only through [`target`], so that both
//! systems get the same requests in the same way. It reports figures and never judges them.

pub mod bars;
pub mod compare;
pub mod config;
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
