//! What a store counts.
//!
//! Counters and histograms are relaxed atomics that threads of the store change as they go. What
//! only the worker's thread knows at one moment, such as the states of the regions, it is asked for
//! when it is to be told ([`StoreMetrics::ask`]).

use std::sync::{Arc, Weak};

use flotilla_engine::StateStore;
use flotilla_host::core::mailbox::Lane;
use flotilla_metrics::{Counter, Gauge, Histogram, Registry};
use flotilla_types::{RegionError, StoreId};

use super::account::{Account, KINDS};
use super::inbox::Inbox;
use crate::core::Event;
use crate::core::census::{Census, Counts};

/// The series of one store.
#[derive(Clone)]
pub struct StoreMetrics {
    /// Writes by stage.
    pub writes: WriteStages,
    /// Reads by how they were confirmed.
    pub reads: ReadKinds,
    counts: CountSeries,
    refusals: [Counter; RegionError::KINDS.len()],
    events: Events,
    regions: RegionGauges,
    held: [HeldGauges; KINDS.len()],
}

/// What is held of one kind, and the bound.
#[derive(Clone)]
struct HeldGauges {
    bytes: Gauge,
    bytes_max: Gauge,
}

/// Where the time of a write goes. A write that was refused is in none of them.
#[derive(Clone)]
pub struct WriteStages {
    /// In the inbox of the worker's thread.
    pub inbox: Histogram,
    /// From there until this store's log was synced.
    pub log: Histogram,
    /// From there until it was known that a quorum has it.
    pub quorum: Histogram,
    /// From there until the answer left, applied.
    pub apply: Histogram,
    /// All of it.
    pub whole: Histogram,
}

/// Reads, from their arrival to their answer.
#[derive(Clone)]
pub struct ReadKinds {
    /// Under a permit, without the worker.
    pub permit: Histogram,
    /// By the worker, under the lease.
    pub lease: Histogram,
    /// After a round of confirmation.
    pub read_index: Histogram,
}

#[derive(Clone)]
struct CountSeries {
    proposals: Counter,
    commits: Counter,
    applies: Counter,
}

#[derive(Clone)]
struct Events {
    elections_won: Counter,
    splits: Counter,
    member_changes: Counter,
    peers_created: Counter,
    peers_destroyed: Counter,
    held_back: Counter,
    refused: Counter,
}

#[derive(Clone)]
struct RegionGauges {
    leaders: Gauge,
    followers: Gauge,
    candidates: Gauge,
    learners: Gauge,
    without_state: Gauge,
    quiescent: Gauge,
    waiting_reads: Gauge,
}

/// Makes series of one store.
struct Maker<'a> {
    registry: &'a Registry,
    store: String,
}

impl Maker<'_> {
    fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.registry.counter(name, help, &[("store", &self.store)])
    }

    fn counter_of(&self, name: &'static str, help: &'static str, by: Label<'_>) -> Counter {
        self.registry.counter(name, help, &[("store", &self.store), by])
    }

    fn gauge_of(&self, name: &'static str, help: &'static str, by: Label<'_>) -> Gauge {
        self.registry.gauge(name, help, &[("store", &self.store), by])
    }

    fn histogram_of(&self, name: &'static str, help: &'static str, by: Label<'_>) -> Histogram {
        self.registry.histogram(name, help, &[("store", &self.store), by])
    }
}

type Label<'a> = (&'static str, &'a str);

impl StoreMetrics {
    /// The series of `store` in `registry`.
    pub fn new(registry: &Registry, store: StoreId) -> StoreMetrics {
        let maker = Maker { registry, store: store.to_string() };
        let refusal = |kind| {
            let help = "Requests that the store refused or could not decide, by cause";
            maker.counter_of("flotilla_store_refusals_total", help, ("cause", kind))
        };
        StoreMetrics {
            writes: WriteStages::new(&maker),
            reads: ReadKinds::new(&maker),
            counts: CountSeries::new(&maker),
            refusals: RegionError::KINDS.map(refusal),
            events: Events::new(&maker),
            regions: RegionGauges::new(&maker),
            held: KINDS.map(|kind| HeldGauges::new(&maker, kind)),
        }
    }

    /// A request was not carried out, or its outcome is not known.
    pub fn refused(&self, error: &RegionError) {
        let kind = error.kind();
        if let Some(at) = RegionError::KINDS.iter().position(|known| *known == kind) {
            self.refusals[at].inc();
        }
    }

    /// What the worker has done by now.
    pub fn take_over(&self, counts: Counts) {
        self.counts.proposals.set(counts.proposals);
        self.counts.commits.set(counts.commits);
        self.counts.applies.set(counts.applies);
    }

    /// Something happened to a region.
    pub fn note(&self, event: &Event) {
        let counter = match event {
            Event::BecameLeader { .. } => &self.events.elections_won,
            Event::Split { .. } => &self.events.splits,
            Event::MembersChanged { .. } => &self.events.member_changes,
            Event::PeerCreated { .. } | Event::FirstRegion { .. } => &self.events.peers_created,
            Event::PeerDestroyed { .. } => &self.events.peers_destroyed,
            Event::EntriesHeldBack { .. } => &self.events.held_back,
            Event::EntriesRefused { .. } => &self.events.refused,
            // The host counts snapshots.
            Event::SnapshotInstalled { .. } => return,
        };
        counter.inc();
    }

    /// Lets the worker be asked for the states of its regions, and the account be read, before
    /// they are told.
    pub fn ask(&self, registry: &Registry, account: Account) {
        let regions = self.regions.clone();
        let held = self.held.clone();
        registry.before_scrape(move || {
            let (regions, held, account) = (regions.clone(), held.clone(), account.clone());
            async move {
                let census = account.census().await;
                regions.assign(census.as_ref());
                for (gauges, read) in held.iter().zip(account.read(census.as_ref())) {
                    gauges.bytes.assign(read.bytes.map(|bytes| bytes as f64));
                    gauges.bytes_max.assign(Some(read.bytes_max as f64));
                }
            }
        });
    }
}

impl WriteStages {
    fn new(maker: &Maker<'_>) -> WriteStages {
        let stage = |stage| {
            let help = "Time of writes that were carried out, by stage: inbox (waits for the \
                        worker), log (until this store has it synced), quorum, apply, whole";
            maker.histogram_of("flotilla_store_write_stage_seconds", help, ("stage", stage))
        };
        WriteStages {
            inbox: stage("inbox"),
            log: stage("log"),
            quorum: stage("quorum"),
            apply: stage("apply"),
            whole: stage("whole"),
        }
    }
}

impl ReadKinds {
    fn new(maker: &Maker<'_>) -> ReadKinds {
        let kind = |kind| {
            let help = "Time of reads that were answered, by kind: permit (off the worker), lease, \
                        read_index (confirmed by a quorum)";
            maker.histogram_of("flotilla_store_read_seconds", help, ("kind", kind))
        };
        ReadKinds { permit: kind("permit"), lease: kind("lease"), read_index: kind("read_index") }
    }
}

impl CountSeries {
    fn new(maker: &Maker<'_>) -> CountSeries {
        CountSeries {
            proposals: maker.counter(
                "flotilla_store_proposals_total",
                "Log entries that this store proposed for writes of clients",
            ),
            commits: maker.counter(
                "flotilla_store_commits_total",
                "Log entries that became committed, of all regions of this store",
            ),
            applies: maker.counter(
                "flotilla_store_applies_total",
                "Log entries that were applied, of all regions of this store",
            ),
        }
    }
}

impl Events {
    fn new(maker: &Maker<'_>) -> Events {
        let event = |event| {
            let help = "What happened to regions of this store";
            maker.counter_of("flotilla_store_region_events_total", help, ("event", event))
        };
        Events {
            elections_won: maker.counter(
                "flotilla_store_elections_won_total",
                "Elections by which a peer of this store became leader",
            ),
            splits: event("split"),
            member_changes: event("members_changed"),
            peers_created: event("peer_created"),
            peers_destroyed: event("peer_destroyed"),
            held_back: event("entries_held_back"),
            refused: event("entries_refused"),
        }
    }
}

impl HeldGauges {
    fn new(maker: &Maker<'_>, kind: &'static str) -> HeldGauges {
        HeldGauges {
            bytes: maker.gauge_of(
                "flotilla_store_memory_bytes",
                "What the store holds in memory, by part",
                ("part", kind),
            ),
            bytes_max: maker.gauge_of(
                "flotilla_store_memory_max_bytes",
                "What the store may hold in memory of each part; 0 for no bound of its own",
                ("part", kind),
            ),
        }
    }
}

impl RegionGauges {
    fn new(maker: &Maker<'_>) -> RegionGauges {
        let state = |state| {
            let help = "Regions of this store by the Raft state of their peers; candidate: knows \
                        no leader";
            maker.gauge_of("flotilla_store_regions", help, ("state", state))
        };
        let labels: [Label<'_>; 1] = [("store", &maker.store)];
        RegionGauges {
            leaders: state("leader"),
            followers: state("follower"),
            candidates: state("candidate"),
            learners: state("learner"),
            without_state: state("without_state"),
            quiescent: maker.registry.gauge(
                "flotilla_store_quiescent_regions",
                "Regions of this store, of any state, that exchange no messages",
                &labels,
            ),
            waiting_reads: maker.registry.gauge(
                "flotilla_store_waiting_reads",
                "Reads that wait for a round of confirmation",
                &labels,
            ),
        }
    }

    /// What the worker said, or nothing if it has not answered.
    fn assign(&self, census: Option<&Census>) {
        let of = |pick: fn(&Census) -> u64| census.map(|census| pick(census) as f64);
        self.leaders.assign(of(|census| census.leaders));
        self.followers.assign(of(|census| census.followers));
        self.candidates.assign(of(|census| census.candidates));
        self.learners.assign(of(|census| census.learners));
        self.without_state.assign(of(|census| census.without_state));
        self.quiescent.assign(of(|census| census.quiescent));
        self.waiting_reads.assign(of(|census| census.waiting_reads));
    }
}

/// Registers what is asked for when it is told: the inbox, the write buffer, the disk. Nothing of
/// the store is kept alive by it.
pub fn register_levels(
    registry: &Registry,
    store: StoreId,
    inbox: &Inbox,
    (state, checkpoint_bytes): (&Arc<StateStore>, usize),
) {
    let store = store.to_string();
    for (lane, name) in [(Lane::Consensus, "consensus"), (Lane::Requests, "requests")] {
        let labels = [("store", store.as_str()), ("lane", name)];
        let loads = inbox.loads();
        registry.computed(
            "flotilla_store_inbox_messages",
            "What waits for the worker, by lane",
            &labels,
            move || loads.of(lane).0 as f64,
        );
        let loads = inbox.loads();
        registry.computed(
            "flotilla_store_inbox_bytes",
            "Bytes of what waits for the worker, by lane",
            &labels,
            move || loads.of(lane).1 as f64,
        );
    }
    let labels = [("store", store.as_str())];
    let of_state = |ask: fn(&StateStore) -> f64| {
        let state: Weak<StateStore> = Arc::downgrade(state);
        move || state.upgrade().map_or(f64::NAN, |state| ask(&state))
    };
    registry.computed(
        "flotilla_store_write_buffer_bytes",
        "Applied writes in memory that no checkpoint has made durable; the log has them",
        &labels,
        of_state(|state| state.unflushed_bytes() as f64),
    );
    registry.computed(
        "flotilla_store_write_buffer_target_bytes",
        "Applied writes at which a checkpoint begins; at four times as many writes are refused",
        &labels,
        move || checkpoint_bytes as f64,
    );
    registry.computed(
        "flotilla_store_state_file_bytes",
        "Bytes that the applied state takes on disk",
        &labels,
        of_state(|state| state.disk_bytes() as f64),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::RegionId;

    #[test]
    fn every_refusal_is_counted_under_its_cause() {
        let metrics = StoreMetrics::new(&Registry::default(), StoreId(1));
        let region_id = RegionId(1);
        metrics.refused(&RegionError::Undetermined { region_id });
        metrics.refused(&RegionError::NotLeader { region_id, leader: None });
        metrics.refused(&RegionError::DeadlineExceeded { region_id });
        assert_eq!(metrics.refusals.iter().map(Counter::value).sum::<u64>(), 3);
        assert_eq!(metrics.refusals[9].value(), 1);
    }
}
