//! What every process that hosts Raft groups counts: its log, its checkpoints, and what it
//! exchanges with the other members.

use std::time::Duration;

use flotilla_metrics::{Counter, Histogram, Labels, Registry};

/// The series of one server.
#[derive(Clone, Debug, Default)]
pub struct HostMetrics {
    /// Writes of the log that were synced.
    pub log_sync: Histogram,
    /// Checkpoints, with the installs of snapshots among them.
    pub checkpoint: Histogram,
    /// What the checkpoints wrote.
    pub checkpoint_bytes: Counter,
    /// Messages to other members.
    pub messages: MessageCounts,
    /// Snapshots to other members.
    pub snapshots_sent: SnapshotCounts,
    /// Snapshots of other members.
    pub snapshots_received: SnapshotCounts,
}

/// Messages between members.
#[derive(Clone, Debug, Default)]
pub struct MessageCounts {
    /// Given to the network.
    pub sent: Counter,
    /// Dropped, for their receiver does not take them in time or at all.
    pub dropped: Counter,
    /// Taken from the network.
    pub received: Counter,
}

/// Snapshots in one direction.
#[derive(Clone, Debug, Default)]
pub struct SnapshotCounts {
    /// Taken whole.
    pub done: Counter,
    /// Broken off or refused.
    pub failed: Counter,
    /// Keys and values of both.
    pub bytes: Counter,
}

impl SnapshotCounts {
    /// Notes how one ended.
    pub fn note(&self, is_ok: bool) {
        if is_ok { self.done.inc() } else { self.failed.inc() }
    }
}

impl HostMetrics {
    /// The series of the server `id` in its role, `store` or `pd`.
    pub fn new(registry: &Registry, role: &str, id: u64) -> HostMetrics {
        let id = id.to_string();
        let labels = [("role", role), ("id", id.as_str())];
        HostMetrics {
            log_sync: registry.histogram(
                "flotilla_raft_log_sync_seconds",
                "Time to write and sync one batch of the Raft log",
                &labels,
            ),
            checkpoint: registry.histogram(
                "flotilla_checkpoint_seconds",
                "Time to make one checkpoint of the applied state durable",
                &labels,
            ),
            checkpoint_bytes: registry.counter(
                "flotilla_checkpoint_bytes_total",
                "Applied writes that checkpoints made durable, as they took memory",
                &labels,
            ),
            messages: MessageCounts::new(registry, &labels),
            snapshots_sent: SnapshotCounts::new(registry, &labels, "sent"),
            snapshots_received: SnapshotCounts::new(registry, &labels, "received"),
        }
    }

    /// A checkpoint of so many bytes of applied writes is durable.
    pub fn note_checkpoint(&self, took: Duration, bytes: usize) {
        self.checkpoint.observe(took);
        self.checkpoint_bytes.add(bytes as u64);
    }
}

impl MessageCounts {
    fn new(registry: &Registry, labels: Labels<'_>) -> MessageCounts {
        let counter = |what| {
            let labels = [labels, &[("what", what)]].concat();
            let help = "Raft messages by what became of them: sent, dropped, received";
            registry.counter("flotilla_raft_messages_total", help, &labels)
        };
        MessageCounts {
            sent: counter("sent"),
            dropped: counter("dropped"),
            received: counter("received"),
        }
    }
}

impl SnapshotCounts {
    fn new(registry: &Registry, labels: Labels<'_>, direction: &str) -> SnapshotCounts {
        let labels = [labels, &[("direction", direction)]].concat();
        let ended = |result| {
            let labels = [&labels[..], &[("result", result)]].concat();
            let help = "Snapshots of regions or of the placement driver, by how they ended";
            registry.counter("flotilla_raft_snapshots_total", help, &labels)
        };
        SnapshotCounts {
            done: ended("done"),
            failed: ended("failed"),
            bytes: registry.counter(
                "flotilla_raft_snapshot_bytes_total",
                "Keys and values of snapshots",
                &labels,
            ),
        }
    }
}
