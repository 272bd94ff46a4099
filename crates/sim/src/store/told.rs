//! Lines of the trace for people: a store's events, its log writes, the messages that it gets.

use flotilla_engine::{LogBatch, LogEntry, LogOp};
use flotilla_host::core::message::{Body, Envelope};
use flotilla_store::core::Event as StoreEvent;
use flotilla_types::StoreId;

use crate::check::show;

/// A store's event for people.
pub fn tell_event(store: StoreId, event: &StoreEvent) -> String {
    let what = match event {
        StoreEvent::BecameLeader { region, term } => format!("leads region {region}, term {term}"),
        StoreEvent::FirstRegion { region } => format!("begins {}", show(region)),
        StoreEvent::Split { left, right } => format!("split: {} | {}", show(left), show(right)),
        StoreEvent::MembersChanged { region } => format!("members: {}", show(region)),
        StoreEvent::PeerCreated { region, peer } => format!("peer {peer} of {region} created"),
        StoreEvent::PeerDestroyed { region, peer } => format!("peer {peer} of {region} destroyed"),
        StoreEvent::SnapshotInstalled { region, index } => {
            format!("snapshot of region {region} at {index} installed")
        }
        StoreEvent::EntriesHeldBack { region } => format!("region {region} holds entries back"),
        StoreEvent::EntriesRefused { region } => format!("region {region} refuses entries"),
    };
    format!("store {store}: {what}")
}

/// A write to the log for people.
pub fn tell_append(store: StoreId, turn: u64, batch: &LogBatch, sync: bool) -> String {
    let op = |op: &LogOp| match op {
        LogOp::Append { group, entries } => {
            let index = |entry: Option<&LogEntry>| entry.map_or(0, |e| e.index);
            format!("region {group} {}..={}", index(entries.first()), index(entries.last()))
        }
        LogOp::SetState { group, .. } => format!("region {group} state"),
        LogOp::Truncate { group, through } => format!("region {group} truncate {through}"),
        LogOp::Clear { group } => format!("region {group} clear"),
    };
    let ops: Vec<String> = batch.ops.iter().map(op).collect();
    format!("store {store}: turn {turn} writes {} sync {sync}", ops.join(", "))
}

/// A message for people.
pub fn describe(envelope: &Envelope) -> String {
    let region = envelope.region_id;
    let peers = format!("{}->{}", envelope.from.member, envelope.to.member);
    match &envelope.body {
        Body::Message(message) => format!(
            "region {region} {peers} {:?} term {} log {}/{} commit {} entries {:?} reject {}",
            message.kind(),
            message.term,
            message.index,
            message.log_term,
            message.commit,
            message.entries.iter().map(|entry| entry.index).collect::<Vec<u64>>(),
            message.reject
        ),
        Body::Removed => format!("region {region} {peers} removed"),
        Body::Quiesce { term, index } => {
            format!("region {region} {peers} quiescent at {index} of term {term}")
        }
        Body::Beat(_) => "beat".into(),
        Body::Introduction(said) => format!("{said:?}"),
    }
}
