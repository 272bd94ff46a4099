//! Clients that stick to a store, also called probes. While an [`Event::Duel`] goes on, one probe
//! reads again and again at the store that led a region when the duel began, whichever store leads
//! the region now; other probes write and read the same key at every store whose peer believes that
//! it leads. The answers go into the history like any call's.
//!
//! Probes are simpler than the clients of [`crate::client`]: an attempt is a call, a probe never
//! routes, and the nemesis never cuts a probe off. A stale answer is possible for a fraction of a
//! second only, so probes ask every few milliseconds.
//!
//! What probes wait for is in [`crate::probes`].

use flotilla_client::core::failure::Failure;
use flotilla_store::core::{Answer, Op};
use flotilla_types::{Mutation, RegionError, RegionId, StoreId, WriteOp};

use crate::check::{Verdict, effects};
use crate::client::work::{stored, value};
use crate::event::{AttemptId, Body, ClientRequest, Duel, End, Event, Packet};
use crate::history::{Kind, Outcome};
use crate::probes::{Open, PROBE};
use crate::time::{MS, Micros};
use crate::world::World;

/// The greatest time between two requests in a duel.
const INTERVAL_MAX: Micros = 25 * MS;

/// The number of keys that get most of the other clients' calls (see [`crate::client::work`]).
const HOT_KEYS: u16 = 4;

/// How long a store may take to answer, in milliseconds.
const TIMEOUT_MS: u64 = 1_500;

impl World {
    /// Sends the requests of one moment of a duel, and plans the next.
    pub(crate) fn on_duel(&mut self, duel: Duel) {
        if self.hub.now() >= duel.until || self.nemesis.is_over {
            return;
        }
        let Some(key) = self.key_of(duel.region) else { return };
        self.probe(duel.region, duel.old, key, false);
        for leader in self.leaders_of(duel.region) {
            if leader != duel.old {
                if self.hub.dice.clients.chance(300) {
                    self.hub.coverage.hit("writes while an old leader is asked");
                    self.probe(duel.region, leader, key, true);
                }
                self.probe(duel.region, leader, key, false);
            }
        }
        let delay = self.hub.dice.clients.between(MS, INTERVAL_MAX);
        self.hub.agenda.after(delay, Event::Duel(duel));
    }

    /// The least key of the region, hot keys first. Always the same key while the region keeps its
    /// range, so that the probes' writes and reads meet.
    pub(crate) fn key_of(&self, region: RegionId) -> Option<u16> {
        let region = self.hub.checks.tiling.region(region)?;
        let keys = [0..HOT_KEYS, HOT_KEYS..self.hub.scenario.clients.keys];
        keys.into_iter().flatten().find(|key| region.range.contains(&stored(*key)))
    }

    /// The stores whose peer of the region believes that it leads.
    pub(crate) fn leaders_of(&self, region: RegionId) -> Vec<StoreId> {
        let processes = self.stores.values().filter_map(|store| store.process.as_ref());
        processes.filter(|process| process.leads(region)).map(|process| process.id).collect()
    }

    /// Asks a store for a read or a write of one key of the region, unless a probe already does.
    pub(crate) fn probe(&mut self, region: RegionId, to: StoreId, key: u16, is_write: bool) {
        let asked = self.hub.now();
        if self.probes.is_waiting((region, to), is_write, asked) {
            return;
        }
        let process = self.stores.get(&to).and_then(|store| store.process.as_ref());
        let Some(peer) = process.and_then(|process| process.worker.peer(region)) else {
            return;
        };
        let epoch = peer.region.epoch;
        self.probes.attempts += 1;
        let number = self.probes.attempts;
        let (op, kind) = if is_write {
            let written = (u64::from(PROBE) << 32) + number;
            let bytes = value(written, self.hub.scenario.clients.value_bytes);
            let put = Mutation::Put { key: stored(key), value: bytes };
            (Op::Write(WriteOp::Mutate(vec![put])), Kind::Write(Some(written)))
        } else {
            (Op::Get(vec![stored(key)]), Kind::Read)
        };
        let stamp = self.hub.agenda.stamp();
        let record = self.history.begin(PROBE, key, kind, stamp);
        if is_write {
            self.history.attempted(record);
        }
        self.probes.open.insert(number, Open { record, region, to, is_write, asked });
        let attempt = AttemptId { client: PROBE, number };
        let request = ClientRequest { attempt, region, epoch, timeout_ms: TIMEOUT_MS, op };
        let body = Body::Request(Box::new(request));
        self.hub.send(End::Client(PROBE), End::Store(to), body);
    }

    /// Records the answer to a probe, or the failure of its connection.
    pub(crate) fn on_probe_answer(&mut self, packet: Packet) -> Verdict {
        let (attempt, outcome) = match packet.body {
            Body::Reply { attempt, result } => {
                self.hub.say(|| format!("a probe is answered {result:?}"));
                (attempt, answered(*result))
            }
            Body::Broken { attempt, failure } => (attempt, failed(&failure)),
            _ => return Ok(()),
        };
        let Some(open) = self.probes.open.remove(&attempt.number) else { return Ok(()) };
        let at = open.record;
        let stamp = self.hub.agenda.stamp();
        self.history.end(at, outcome, stamp);
        if outcome == Outcome::Failed {
            self.history.refused(at);
        }
        match self.history.records.get(at) {
            Some(record) => {
                if matches!(outcome, Outcome::Read(_)) {
                    self.hub.coverage.hit("reads by clients that stick to a store");
                }
                effects::acknowledged(&self.hub.checks.model, record)
            }
            None => Ok(()),
        }
    }
}

fn answered(result: Result<Answer, RegionError>) -> Outcome {
    match result {
        Ok(Answer::Get(values)) => {
            let value = values.into_iter().next().flatten();
            Outcome::Read(value.as_deref().map(crate::check::model::value_number))
        }
        Ok(Answer::Written) => Outcome::Written,
        Ok(Answer::Scan { .. } | Answer::Swapped { .. }) => Outcome::Undetermined,
        Err(error) => failed(&Failure::from(error)),
    }
}

fn failed(failure: &Failure) -> Outcome {
    if failure.may_have_effect() { Outcome::Undetermined } else { Outcome::Failed }
}
