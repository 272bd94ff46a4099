//! What the placement driver (PD) says of its own reasons.
//!
//! A [`Question`] changes nothing; its [`Explanation`] is for people, with the numbers that
//! scripts may want beside the sentences.
//!
//! Not here: the messages on the wire ([`crate::wire_explain`] converts).

use crate::id::{RegionId, StoreId};

/// What PD is asked to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// What this region lacks, and where a new peer of it would go. Answered by
    /// [`Explanation::Region`].
    Region(RegionId),
    /// What draining this store takes. Answered by [`Explanation::Drain`].
    Drain(StoreId),
    /// The operators that have ended. Answered by [`Explanation::EndedOperators`].
    EndedOperators,
    /// What the checker and the schedulers do, and why. Answered by [`Explanation::Schedulers`].
    Schedulers,
}

/// Answers a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// Answers [`Question::Region`].
    Region(RegionExplanation),
    /// Answers [`Question::Drain`].
    Drain(DrainForecast),
    /// Answers [`Question::EndedOperators`]: the last ones, the oldest first.
    EndedOperators(Vec<EndedOperator>),
    /// Answers [`Question::Schedulers`], in the order in which they plan.
    Schedulers(Vec<SchedulerStatus>),
}

/// A region as planning sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegionExplanation {
    /// What is to be done with the region, or why nothing is; for people.
    pub needs: String,
    /// All stores that were not removed, by id.
    pub stores: Vec<StoreVerdict>,
}

/// Whether a store would get a new peer of a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreVerdict {
    /// The store.
    pub store_id: StoreId,
    /// True if the peer would go there.
    pub is_chosen: bool,
    /// For people: which filter refuses the store, or which score of it is worse.
    pub why: String,
    /// Label values that the store shares with those of the peers that stay.
    pub shared_labels: u64,
    /// Regions on the store, with what is under way.
    pub region_count: u64,
}

/// What draining a store takes as things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainForecast {
    /// Regions that have a peer on the store.
    pub region_count: u64,
    /// Bytes of keys and values of these regions, roughly.
    pub bytes: u64,
    /// Regions that could not leave the store: with one, the drain does not end.
    pub blocked_count: u64,
    /// Some of these, in key order.
    pub blocked: Vec<BlockedRegion>,
}

/// A region that could not leave a store that is drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockedRegion {
    /// The region.
    pub region_id: RegionId,
    /// For people.
    pub why: String,
}

/// An operator under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorStatus {
    /// The operator's id.
    pub id: u64,
    /// The region that it changes.
    pub region_id: RegionId,
    /// Who wants what, such as "repair add-peer".
    pub kind: String,
    /// All its steps in order, described for people.
    pub steps: Vec<String>,
    /// The index in `steps` of the step under way.
    pub current_step: u64,
    /// Milliseconds since it was started.
    pub age_ms: u64,
}

/// An operator that is under way no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedOperator {
    /// As it was at its end; its age is how long it took.
    pub operator: OperatorStatus,
    /// `done`, or why it ended.
    pub outcome: String,
    /// Milliseconds since it ended.
    pub ended_ms: u64,
}

/// What the checker or a scheduler does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: SchedulerState,
    /// Milliseconds since it came into this state.
    pub since_ms: u64,
    /// Why it is stalled, or what it last started; empty of one that is idle.
    pub why: String,
    /// Its last decisions, the oldest first.
    pub decisions: Vec<SchedulerDecision>,
}

/// Whether a scheduler has something to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchedulerState {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// What it has started is under way.
    Working,
    /// Something is to be done, and cannot be.
    Stalled,
}

/// What a scheduler has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerDecision {
    /// Milliseconds since then.
    pub age_ms: u64,
    /// True for what was considered and not done.
    pub is_rejected: bool,
    /// For people, with the scores.
    pub what: String,
}
