//! The process of one member: what a crash takes away.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flotilla_engine::StateStore;
use flotilla_pd::core::carry_out::Outputs;
use flotilla_pd::core::{Input, Pd, RequestId};

use crate::clock::Clock;
use crate::event::{Asker, End};

/// The process of a member.
pub struct Process {
    /// Its core.
    pub pd: Pd,
    /// Its state.
    pub store: Arc<StateStore>,
    /// Its clock.
    pub clock: Clock,
    /// Who waits for the answers to its requests.
    pub callers: BTreeMap<RequestId, (End, Asker)>,
    /// The number of its next request.
    pub next_request: u64,
    /// What waits for its thread.
    pub inbox: VecDeque<Input>,
    /// True if a tick came since the last turn. Ticks that came while the thread stood still are
    /// one: a late tick is not made up for.
    pub is_tick_due: bool,
    /// What its loop has still to carry out.
    pub outputs: Outputs,
    /// Why it cannot go on.
    pub failed: Option<String>,
}
