//! What arrives at a store, and what it says about it: requests, Raft messages, snapshots.

use flotilla_client::core::failure::Failure;
use flotilla_host::core::message::{Address, Envelope};
use flotilla_store::core::Input;
use flotilla_types::heartbeat::StoreAddr;
use flotilla_types::proto;
use flotilla_types::{MemberRole, PeerId, StoreId};

use crate::check::Verdict;
use crate::event::{AttemptId, Body, ClientRequest, End, Event, Packet, Rows};
use crate::hub::Hub;
use crate::time::MS;

use super::SimStore;
use super::addresses::{Found, address};
use super::envelope::{asks_for_vote, snapshot_region};
use super::permit;
use super::process::Mail;
use super::told::describe;

/// The connection broke after the request was sent.
pub fn lost(attempt: AttemptId) -> Body {
    let failure = Box::new(Failure::ConnectionLost { reason: "the store went away".into() });
    Body::Broken { attempt, failure }
}

/// The connection could not be made: the request never left.
pub fn refused(attempt: AttemptId) -> Body {
    let failure = Box::new(Failure::ConnectFailed { reason: "connection refused".into() });
    Body::Broken { attempt, failure }
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
            Body::RoutesRequest { question, key, limit } => {
                // Its thread answers in passing, from memory.
                if let Some(process) = &self.process {
                    let held = Box::new(process.worker.routes(&key, limit));
                    let body = Body::RoutesReply { question, held };
                    hub.send(End::Store(self.id), End::Client(question.client), body);
                }
            }
            Body::Reply { .. }
            | Body::RoutesReply { .. }
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
            // A store says beside its messages where it listens.
            if let Address::Store(store_id) = envelope.from.address
                && !process.addresses.has(store_id)
            {
                let told = vec![StoreAddr { store_id, addr: address(store_id) }];
                process.put(hub, Mail::Input(Box::new(Input::StoreAddrs(told))));
            }
            if asks_for_vote(&envelope) && hub.now() < process.born + hub.scenario.timing.election()
            {
                hub.coverage.hit("votes asked of a store that has just started");
            }
            process.put(hub, Mail::Input(Box::new(Input::Envelope(envelope))));
        }
    }

    fn on_request(&mut self, hub: &mut Hub, request: Box<ClientRequest>) -> Verdict {
        let Some(process) = &mut self.process else {
            // A machine that is gone answers nothing, not even that it is; its clients find out
            // when they connect.
            if hub.net.is_healed() || hub.dice.processes.chance(700) {
                let to = End::Client(request.attempt.client);
                hub.send(End::Store(self.id), to, refused(request.attempt));
            }
            return Ok(());
        };
        let deadline = process.clock.millis(hub.now()).plus(request.timeout_ms);
        if !permit::begin(process, hub, &request, deadline)? {
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
        let receiver = envelope.to.member;
        let lags = region
            .and_then(|region| region.member(PeerId(receiver)).copied())
            .is_some_and(|peer| peer.role != MemberRole::Learner);
        let is_sent = match rows {
            None => false,
            Some(_) if process.addresses.look_up(to, hub.now()) != Found::Known => false,
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
        let delay = hub.dice.processes.between(MS, 3_000 * MS);
        hub.agenda.after(delay, Event::Report { store, life, input });
    }

    fn on_snapshot(&mut self, hub: &mut Hub, from: End, envelope: Envelope, rows: Rows, life: u32) {
        // Its rows are many: it takes a while, and now and then the connection breaks.
        let is_behind = self.process.as_ref().is_some_and(|p| p.worker.pressure().is_high());
        if is_behind {
            hub.coverage.hit("snapshots refused under pressure");
        }
        let is_taken = self.process.is_some() && !is_behind && !hub.dice.processes.chance(50);
        let is_reported = hub.dice.processes.chance(1_000 - hub.scenario.net.snapshots_unreported);
        let input = Box::new(sent(&envelope, is_taken && is_reported));
        let failed = Box::new(sent(&envelope, false));
        let is_told = hub.send(End::Store(self.id), from, Body::SnapshotTaken { life, input });
        if let (End::Store(store), false) = (from, is_told) {
            // The sender finds out when its connection is found dead.
            let delay = hub.dice.processes.between(1_000 * MS, 30_000 * MS);
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

fn sent(envelope: &Envelope, is_ok: bool) -> Input {
    let region = envelope.region_id;
    let peer = PeerId(envelope.to.member);
    Input::SnapshotSent { region, peer, is_ok }
}
