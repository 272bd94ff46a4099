//! What a process counts about itself, and how it is told to Prometheus.
//!
//! * [`series`]: one number or distribution: relaxed atomics, cheap enough for a hot path.
//! * [`registry`]: all series of a process by name and labels, and their text.
//! * [`process`]: what every process has: memory, descriptors, processor time.
//!
//! A driver asks the [`Registry`] for a series once, when it starts, and keeps the handle. Several
//! servers of one process (a playground) share a registry; a label tells them apart.
//!
//! Rules: a name begins with `flotilla_` and the role (or with `process_`) and ends with its unit,
//! `_seconds` or `_bytes`, if it has one; a counter's ends with `_total`. A label's values are few
//! and known: never a key, a region or an address. Deterministic cores do not come here: they give
//! out events and counts as values, which their drivers count.

pub mod process;
pub mod registry;
pub mod series;

pub use registry::{Labels, Registry};
pub use series::{Counter, Gauge, Histogram, Observed};
