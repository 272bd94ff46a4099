//! What arrives at a store, and what it says about it: requests, Raft messages, snapshots.

use flotilla_client::core::failure::Failure;
use flotilla_store::core::route::creates_peer;
use flotilla_store::core::{Event as StoreEvent, Input};
use flotilla_types::proto::{self, Envelope, MessageKind, envelope};
use flotilla_types::{MemberRole, PeerId, Region, RegionId, StoreId};
use prost::Message;

use crate::agenda::{MS, Micros};
use crate::check::{Verdict, show};
use crate::event::{AttemptId, Body, ClientRequest, End, Event, Packet, Rows};
use crate::hub::Hub;

use super::SimStore;
use super::process::Mail;

/// A store that has just started votes for nobody for so long (the groups' election timeout).
const RESTART_SILENCE: Micros = 500 * MS;

/// The connection broke after the request was sent.
pub fn lost(attempt: AttemptId) -> Body {
    let failure = Box::new(Failure::Lost { reason: "the store went away".into() });
    Body::Broken { attempt, failure }
}

/// The connection could not be made: the request never left.
pub fn refused(attempt: AttemptId) -> Body {
    let failure = Box::new(Failure::ConnectFailed { reason: "connection refused".into() });
    Body::Broken { attempt, failure }
}

/// Numbers that stand for a message in the trace.
pub fn numbers(envelope: &Envelope) -> [u64; 6] {
    let region = envelope.region_id;
    match &envelope.body {
        Some(envelope::Body::Message(message)) => [
            region,
            message.kind as u64,
            message.to,
            message.term,
            message.index,
            message.commit + ((message.entries.len() as u64) << 48),
        ],
        Some(envelope::Body::Quiesce(at)) => [region, 98, at.term, at.index, 0, 0],
        Some(envelope::Body::Beat(beat)) => [beat.incarnation, 97, 0, 0, 0, 0],
        Some(envelope::Body::Removed(_)) | None => [region, 99, 0, 0, 0, 0],
    }
}

/// A store's event for people.
pub fn tell(store: StoreId, event: &StoreEvent) -> String {
    let what = match event {
        StoreEvent::BecameLeader { region, term } => format!("leads region {region}, term {term}"),
        StoreEvent::Split { left, right } => format!("split: {} | {}", show(left), show(right)),
        StoreEvent::MembersChanged { region } => format!("members: {}", show(region)),
        StoreEvent::PeerCreated { region, peer } => format!("peer {peer} of {region} created"),
        StoreEvent::PeerDestroyed { region, peer } => format!("peer {peer} of {region} destroyed"),
        StoreEvent::SnapshotInstalled { region, index } => {
            format!("snapshot of region {region} at {index} installed")
        }
    };
    format!("store {store}: {what}")
}

/// A write to the log for people.
pub fn tell_append(
    store: StoreId,
    turn: u64,
    batch: &flotilla_engine::LogBatch,
    sync: bool,
    then: usize,
) -> String {
    use flotilla_engine::LogOp;
    let op = |op: &LogOp| match op {
        LogOp::Append { group, entries } => {
            let index = |entry: Option<&flotilla_engine::LogEntry>| entry.map_or(0, |e| e.index);
            format!("{group}:{}..={}", index(entries.first()), index(entries.last()))
        }
        LogOp::SetState { group, .. } => format!("{group}:state"),
        LogOp::Truncate { group, through } => format!("{group}:truncate {through}"),
        LogOp::Clear { group } => format!("{group}:clear"),
    };
    let ops: Vec<String> = batch.ops.iter().map(op).collect();
    format!("store {store}: turn {turn} writes {} sync {sync} then {then}", ops.join(", "))
}

fn describe(envelope: &Envelope) -> String {
    let region = envelope.region_id;
    let peers = format!("{}->{}", envelope.from_peer, envelope.to_peer);
    match &envelope.body {
        Some(envelope::Body::Message(message)) => format!(
            "region {region} {peers} {:?} term {} log {}/{} commit {} entries {:?} reject {}",
            message.kind(),
            message.term,
            message.index,
            message.log_term,
            message.commit,
            message.entries.iter().map(|entry| entry.index).collect::<Vec<u64>>(),
            message.reject
        ),
        Some(envelope::Body::Removed(_)) => format!("region {region} {peers} removed"),
        Some(envelope::Body::Quiesce(at)) => {
            format!("region {region} {peers} quiescent at {} of term {}", at.index, at.term)
        }
        Some(envelope::Body::Beat(_)) => "beat".into(),
        None => format!("region {region} {peers} nothing"),
    }
}

impl SimStore {
    /// A message arrives.
    pub fn arrive(&mut self, hub: &mut Hub, packet: Packet) -> Verdict {
        match packet.body {
            Body::Envelope(envelope) => self.on_envelope(hub, *envelope),
            Body::Request(request) => return self.on_request(hub, request),
            Body::Snapshot { envelope, rows, life } => {
                self.on_snapshot(hub, packet.from, *envelope, rows, life);
            }
            Body::SnapshotTaken { life, input } => self.report(hub, life, *input),
            Body::PdReply { asker: crate::event::Asker::Heartbeat { life, number, .. }, reply } => {
                self.on_pd_reply(hub, life, number, reply.map(|reply| *reply));
            }
            Body::Reply { .. }
            | Body::Broken { .. }
            | Body::PdRequest { .. }
            | Body::PdReply { .. } => {}
        }
        Ok(())
    }

    /// A report for the worker of this life.
    pub fn report(&mut self, hub: &mut Hub, life: u32, input: Input) {
        if let Some((process, _)) = self.living(life) {
            process.put(hub, Mail::Input(Box::new(input)));
        }
    }

    fn on_envelope(&mut self, hub: &mut Hub, envelope: Envelope) {
        if let Some(process) = &mut self.process {
            hub.say(|| format!("store {} gets {}", self.id, describe(&envelope)));
            if asks_for_vote(&envelope) && hub.now() < process.born + RESTART_SILENCE {
                hub.coverage.hit("votes asked of a store that has just started");
            }
            process.put(hub, Mail::Input(Box::new(Input::Envelope(envelope))));
        }
    }

    fn on_request(&mut self, hub: &mut Hub, request: Box<ClientRequest>) -> Verdict {
        let Some(process) = &mut self.process else {
            // A machine that is gone answers nothing, not even that it is; its clients find out
            // when they connect.
            if hub.net.is_healed() || hub.dice.chance(700) {
                let to = End::Client(request.attempt.client);
                hub.send(End::Store(self.id), to, refused(request.attempt));
            }
            return Ok(());
        };
        let deadline = process.clock.millis(hub.now()).plus(request.timeout_ms);
        if !process.serve_under_permit(hub, &request, deadline)? {
            process.put(hub, Mail::Request(request, deadline));
        }
        Ok(())
    }

    fn on_pd_reply(
        &mut self,
        hub: &mut Hub,
        life: u32,
        number: u64,
        reply: Option<proto::PdReply>,
    ) {
        let reply = match reply.and_then(|reply| reply.result) {
            Some(proto::pd_reply::Result::Heartbeat(reply)) => Some(reply),
            Some(_) | None => None,
        };
        if let Some((process, _)) = self.living(life) {
            process.on_heartbeat_reply(hub, number, reply);
        }
    }

    /// The rows of a snapshot are read from their view and sent.
    pub fn send_snapshot(&mut self, hub: &mut Hub, to: StoreId, envelope: Envelope, number: u64) {
        let from = self.id;
        let Some(process) = &mut self.process else { return };
        let region = snapshot_region(&envelope);
        let rows =
            region.as_ref().and_then(|region| process.jobs.read(region.id, number, &region.range));
        let failed = sent(&envelope, false);
        // A learner begins with a snapshot; a voter gets one only when entries are gone.
        let receiver = envelope.to_peer;
        let lags = region
            .and_then(|region| region.member(PeerId(receiver)).copied())
            .is_some_and(|peer| peer.role != MemberRole::Learner);
        let is_sent = match rows {
            None => false,
            Some(rows) => {
                let body =
                    Body::Snapshot { envelope: Box::new(envelope), rows, life: process.life };
                hub.send(End::Store(from), End::Store(to), body)
            }
        };
        if is_sent {
            hub.snapshots_flying += 1;
            if lags {
                hub.coverage.hit("snapshots to members that lag");
            }
            return;
        }
        let (store, life, input) = (self.id, process.life, Box::new(failed));
        let delay = hub.dice.between(MS, 3_000 * MS);
        hub.agenda.after(delay, Event::Report { store, life, input });
    }

    fn on_snapshot(&mut self, hub: &mut Hub, from: End, envelope: Envelope, rows: Rows, life: u32) {
        // Its rows are many: it takes a while, and now and then the connection breaks.
        let is_taken = self.process.is_some() && !hub.dice.chance(50);
        let is_reported = hub.dice.chance(950);
        let input = Box::new(sent(&envelope, is_taken && is_reported));
        let failed = Box::new(sent(&envelope, false));
        let is_told = hub.send(End::Store(self.id), from, Body::SnapshotTaken { life, input });
        if let (End::Store(store), false) = (from, is_told) {
            // The sender finds out when its connection is found dead.
            let delay = hub.dice.between(1_000 * MS, 30_000 * MS);
            hub.agenda.after(delay, Event::Report { store, life, input: failed });
        }
        let Some(process) = self.process.as_mut().filter(|_| is_taken) else {
            hub.snapshots_flying = hub.snapshots_flying.saturating_sub(1);
            return;
        };
        hub.say(|| format!("store {} gets {}", process.id, describe(&envelope)));
        let staged = process.jobs.stage(rows);
        process.put(hub, Mail::Input(Box::new(Input::SnapshotStaged { staged, envelope })));
    }
}

/// True if somebody stands for election, or asks whether to.
pub fn asks_for_vote(envelope: &Envelope) -> bool {
    let Some(envelope::Body::Message(message)) = &envelope.body else { return false };
    let kind = message.kind();
    matches!(kind, MessageKind::MsgRequestVote | MessageKind::MsgRequestPreVote)
}

/// True for a message at which a store creates the peer that it is for, if it may.
pub fn creates(envelope: &Envelope) -> bool {
    match &envelope.body {
        Some(envelope::Body::Message(message)) => creates_peer(message.kind()),
        _ => false,
    }
}

fn sent(envelope: &Envelope, is_ok: bool) -> Input {
    let region = RegionId(envelope.region_id);
    let peer = PeerId(envelope.to_peer);
    Input::SnapshotSent { region, peer, is_ok }
}

fn snapshot_region(envelope: &Envelope) -> Option<Region> {
    let Some(envelope::Body::Message(message)) = &envelope.body else { return None };
    let data = message.snapshot.as_ref()?.data.clone();
    Region::try_from(proto::Region::decode(data).ok()?).ok()
}
