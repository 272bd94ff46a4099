//! What a placement driver counts.
//!
//! Events are counted as they come. What the leader alone knows (stores, regions, members) it is
//! asked for when it is to be told; the other members tell only that they do not lead.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_host::core::mailbox::Lane;
use flotilla_metrics::{Counter, Gauge, Histogram, Registry};
use flotilla_types::placement::{
    ClusterStatus, HealthKind, PdError, PdOp, PdReply, PdRequest, StoreState, StoreStatus,
};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::core::Event;
use crate::driver::inbox::{Inbox, Mail};

/// How long the member's thread is waited for: a leader that has lost its quorum does not answer.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);

/// What a question counts for in the inbox.
const QUESTION_BYTES: usize = 64;

/// The states of a store, and their names.
const STORE_STATES: [(StoreState, &str); 7] = [
    (StoreState::Up, "up"),
    (StoreState::Disconnected, "disconnected"),
    (StoreState::Down, "down"),
    (StoreState::Draining, "draining"),
    (StoreState::Removed, "removed"),
    (StoreState::Unknown, "unknown"),
    (StoreState::Stopped, "stopped"),
];

/// What regions can lack, and its name.
const HEALTH_KINDS: [(HealthKind, &str); 5] = [
    (HealthKind::Unavailable, "unavailable"),
    (HealthKind::Unknown, "unknown"),
    (HealthKind::UnderReplicated, "under_replicated"),
    (HealthKind::Changing, "changing"),
    (HealthKind::Lagging, "lagging"),
];

/// The series of one member.
pub(crate) struct PdMetrics {
    registry: Registry,
    member: String,
    /// The names of the operators under way, by id.
    operators: BTreeMap<u64, String>,
    leader_changes: Counter,
    is_leader: Gauge,
    requests: Histogram,
}

impl PdMetrics {
    /// The series of the member `id` in `registry`.
    pub(crate) fn new(registry: &Registry, id: u64) -> PdMetrics {
        let member = id.to_string();
        let labels = [("member", member.as_str())];
        let is_leader =
            registry.gauge("flotilla_pd_is_leader", "1 if this member leads, else 0", &labels);
        is_leader.set(0.0);
        let metrics = PdMetrics {
            leader_changes: registry.counter(
                "flotilla_pd_leader_changes_total",
                "How often this member began to lead",
                &labels,
            ),
            is_leader,
            requests: registry.histogram(
                "flotilla_pd_request_seconds",
                "Time from a request in the worker's hands to its answer",
                &labels,
            ),
            registry: registry.clone(),
            operators: BTreeMap::new(),
            member,
        };
        // There from the start, so that the first one is a rise from zero.
        for what in ["started", "done", "given_up"] {
            metrics.operator("repair move-peer", what);
        }
        metrics.ignored("heartbeat_overtaken");
        metrics.ignored("report_ignored");
        metrics
    }

    /// Something happened.
    pub(crate) fn note(&mut self, event: &Event) {
        match event {
            Event::LeadershipBegan { .. } => {
                self.leader_changes.inc();
                self.is_leader.set(1.0);
            }
            Event::LeadershipEnded { .. } => {
                self.is_leader.set(0.0);
                self.operators.clear();
            }
            Event::OperatorStarted { id, name, .. } => {
                self.operator(name, "started").inc();
                self.operators.insert(*id, name.clone());
            }
            Event::OperatorEnded { id, outcome, .. } => {
                if let Some(name) = self.operators.remove(id) {
                    let ended = if *outcome == "done" { "done" } else { "given_up" };
                    self.operator(&name, ended).inc();
                }
            }
            Event::HeartbeatOvertaken { .. } => self.ignored("heartbeat_overtaken").inc(),
            Event::ReportIgnored { .. } => self.ignored("report_ignored").inc(),
            Event::StoreRegistered { .. }
            | Event::OtherCluster { .. }
            | Event::Awaits { .. }
            | Event::FirstRegion { .. }
            | Event::Decides { .. } => {}
        }
    }

    /// A request was answered after so long.
    pub(crate) fn answered(&self, took: Duration, op: &'static str, reply: &Reply) {
        self.requests.observe(took);
        let result = match reply {
            Ok(_) => "ok",
            Err(PdError::NotLeader { .. }) => "not_leader",
            Err(PdError::ClusterMismatch { .. }) => "cluster_mismatch",
            Err(PdError::Refused { .. }) => "refused",
            Err(PdError::NotFound { .. }) => "not_found",
            Err(PdError::Busy { .. }) => "busy",
            Err(PdError::Unsupported { .. }) => "unsupported",
        };
        let labels = [("member", self.member.as_str()), ("op", op), ("result", result)];
        let help = "Requests to the placement driver, by kind and result";
        self.registry.counter("flotilla_pd_requests_total", help, &labels).inc();
    }

    /// `name` is its origin and its kind.
    fn operator(&self, name: &str, what: &str) -> Counter {
        let (origin, kind) = name.split_once(' ').unwrap_or(("", name));
        let labels =
            [("member", self.member.as_str()), ("origin", origin), ("kind", kind), ("what", what)];
        let help = "Operators by origin, kind and what became of them: started, done, given_up";
        self.registry.counter("flotilla_pd_operators_total", help, &labels)
    }

    fn ignored(&self, what: &str) -> Counter {
        let labels = [("member", self.member.as_str()), ("what", what)];
        let help = "What stores reported and the placement driver had newer news of";
        self.registry.counter("flotilla_pd_ignored_total", help, &labels)
    }
}

type Reply = Result<PdReply, PdError>;

/// The name of what is asked for.
pub(crate) fn op_name(op: &PdOp) -> &'static str {
    match op {
        PdOp::ClusterStatus => "cluster_status",
        PdOp::RegisterStore(_) => "register_store",
        PdOp::Heartbeat(_) => "heartbeat",
        PdOp::AllocateIds { .. } => "allocate_ids",
        PdOp::Regions { .. } => "regions",
        PdOp::Stores => "stores",
        PdOp::SetStoreState { .. } => "set_store_state",
        PdOp::AddOperator { .. } => "add_operator",
        PdOp::Operators => "operators",
        PdOp::CancelOperator { .. } => "cancel_operator",
        PdOp::Members => "members",
        PdOp::ChangeMembers(_) => "change_members",
        PdOp::Explain(_) => "explain",
    }
}

/// Lets the member's thread be asked before its series are told.
pub(crate) fn ask_thread(registry: &Registry, id: u64, inbox: &Inbox) {
    let levels = Levels { registry: registry.clone(), member: id.to_string() };
    levels.register_inbox(inbox);
    let (inbox, levels) = (inbox.clone(), std::sync::Arc::new(levels));
    registry.before_scrape(move || {
        let (inbox, levels) = (inbox.clone(), levels.clone());
        async move {
            // At once, so that a thread that stands still is waited for one time.
            let (status, stores, operators) = tokio::join!(
                ask(&inbox, PdOp::ClusterStatus),
                ask(&inbox, PdOp::Stores),
                ask(&inbox, PdOp::Operators),
            );
            match status {
                Some(PdReply::ClusterStatus(status)) => levels.set_status(Some(&status)),
                _ => levels.set_status(None),
            }
            match stores {
                Some(PdReply::Stores(stores)) => levels.set_stores(Some(&stores)),
                _ => levels.set_stores(None),
            }
            match operators {
                Some(PdReply::Operators(running)) => levels.set_operators(Some(running.len())),
                _ => levels.set_operators(None),
            }
        }
    });
}

async fn ask(inbox: &Inbox, op: PdOp) -> Option<PdReply> {
    let (reply, answer) = oneshot::channel();
    let request = Box::new(PdRequest { cluster_id: 0, op });
    inbox.offer(Lane::Requests, Mail::Call { request, reply }, QUESTION_BYTES).ok()?;
    timeout(ANSWER_TIME_MAX, answer).await.ok()?.ok()?.ok()
}

/// What the leader knows at one moment.
struct Levels {
    registry: Registry,
    member: String,
}

impl Levels {
    fn register_inbox(&self, inbox: &Inbox) {
        for (lane, name) in [(Lane::Consensus, "consensus"), (Lane::Requests, "requests")] {
            let loads = inbox.loads();
            self.registry.computed(
                "flotilla_pd_inbox_messages",
                "What waits for the placement driver's thread, by lane",
                &[("member", &self.member), ("lane", name)],
                move || loads.of(lane).0 as f64,
            );
        }
    }

    fn set_status(&self, status: Option<&ClusterStatus>) {
        let count = |of: fn(&ClusterStatus) -> u64| status.map(|status| of(status) as f64);
        self.set("flotilla_pd_regions", "Regions of the cluster", count(|s| s.region_count));
        let help = "Regions that lack something; a region that lacks two things counts once";
        self.set("flotilla_pd_unhealthy_regions", help, count(|s| s.unhealthy_region_count));
        let is_voter = |s: &ClusterStatus| s.members.iter().filter(|m| !m.is_learner).count();
        let help = "Voting members of the placement driver";
        self.set("flotilla_pd_members", help, status.map(|s| is_voter(s) as f64));
        let silent = |s: &ClusterStatus| s.members.iter().filter(|m| m.is_silent).count();
        let help = "Members of the placement driver that the leader does not hear";
        self.set("flotilla_pd_silent_members", help, status.map(|s| silent(s) as f64));
        for (kind, name) in HEALTH_KINDS {
            let of_kind = |status: &ClusterStatus| {
                let reasons = status.reasons.iter().filter(|reason| reason.kind == kind);
                reasons.map(|reason| reason.region_count).sum::<u64>() as f64
            };
            let help = "Regions by what they lack, as the leader judges from the stores' reports";
            self.gauge("flotilla_pd_regions_by_health", help, ("health", name))
                .assign(status.map(of_kind));
        }
    }

    fn set_stores(&self, stores: Option<&[StoreStatus]>) {
        for (state, name) in STORE_STATES {
            let of_state = |stores: &[StoreStatus]| {
                stores.iter().filter(|store| store.state == state).count() as f64
            };
            self.gauge("flotilla_pd_stores", "Stores by state", ("state", name))
                .assign(stores.map(of_state));
        }
        let sum = |of: fn(&StoreStatus) -> u64| {
            stores.map(|stores| stores.iter().map(of).sum::<u64>() as f64)
        };
        let help = "Bytes that all stores have for data";
        self.set("flotilla_pd_capacity_bytes", help, sum(|store| store.capacity_bytes));
        let help = "Bytes that all stores use";
        self.set("flotilla_pd_used_bytes", help, sum(|store| store.used_bytes));
        let leaders = |pick: fn(u64, u64) -> u64| {
            let serving = stores?.iter().filter(|store| store.state == StoreState::Up);
            serving.map(|store| store.leader_count).reduce(pick).map(|count| count as f64)
        };
        let help = "Regions led by the store that leads most, of those that are up";
        self.set("flotilla_pd_store_leaders_max", help, leaders(u64::max));
        let help = "Regions led by the store that leads fewest, of those that are up";
        self.set("flotilla_pd_store_leaders_min", help, leaders(u64::min));
    }

    fn set_operators(&self, count: Option<usize>) {
        let help = "Operators under way";
        self.set("flotilla_pd_running_operators", help, count.map(|count| count as f64));
    }

    fn set(&self, name: &'static str, help: &'static str, value: Option<f64>) {
        self.registry.gauge(name, help, &[("member", &self.member)]).assign(value);
    }

    fn gauge(&self, name: &'static str, help: &'static str, by: (&'static str, &str)) -> Gauge {
        self.registry.gauge(name, help, &[("member", &self.member), by])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::RegionId;

    #[tokio::test]
    async fn operators_are_counted_by_origin_and_kind() {
        let registry = Registry::default();
        let mut metrics = PdMetrics::new(&registry, 1);
        let region = RegionId(5);
        for id in [7, 8] {
            let name = "repair add-peer".to_string();
            metrics.note(&Event::OperatorStarted { id, region, name });
        }
        metrics.note(&Event::OperatorEnded { id: 7, region, outcome: "done" });
        metrics.note(&Event::OperatorEnded { id: 8, region, outcome: "timed out" });
        let text = registry.scrape().await;
        for (what, count) in [("started", 2), ("done", 1), ("given_up", 1)] {
            let line = format!("kind=\"add-peer\",what=\"{what}\"}} {count}\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}
