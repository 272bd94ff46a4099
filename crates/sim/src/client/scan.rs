//! Scans: a [`Cursor`] carried out chunk by chunk. Within a region, the store's server goes on from
//! chunk to chunk by a [`ScanCursor`]; the simulated client does that in its place.
//!
//! Each chunk is linearizable by itself: it is remembered as a read of every key that it covers,
//! found or not, from the moment it was asked for to the moment it came.

use bytes::Bytes;
use flotilla_client::Error;
use flotilla_client::core::attempt::AttemptTimeout;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::retry::Idempotency;
use flotilla_client::core::router::Destination;
use flotilla_client::core::scan::{Cursor, ScanStep};
use flotilla_store::core::scan::ScanCursor;
use flotilla_types::keys::key_after;
use flotilla_types::{Answer, KeyRange, Millis, Op, RegionError, ScanOp};

use crate::check::attempts::Retry;
use crate::check::model::value_number;
use crate::check::{Verdict, broken};
use crate::event::ClientWake;
use crate::history::{Kind, Outcome};

use super::work::{ScanWork, key_of, stored};
use super::{Doing, SimClient, World};

/// The bytes of a chunk as a store's server asks for them, roughly.
const CHUNK_BYTES: usize = 1 << 20;

/// A scan under way.
pub struct Scan {
    cursor: Cursor,
    asked: ScanWork,
    deadline: Millis,
    chunk: Option<Chunk>,
    /// The failure after which the scan waits.
    failure: Option<Failure>,
    told: Told,
}

/// What the chunks have told so far.
#[derive(Default)]
struct Told {
    rows: u64,
    covered: Vec<KeyRange>,
}

/// The chunk that was asked for.
#[derive(Clone)]
struct Chunk {
    to: Destination,
    /// The region's part of the scan, from this chunk on.
    rest: ScanCursor,
    span: KeyRange,
    limit: u64,
    invoked: u64,
}

impl Scan {
    /// Begins a scan.
    pub fn begin(asked: ScanWork, now: Millis) -> Scan {
        let deadline = now.plus(asked.timeout_ms);
        let limit = (asked.limit > 0).then_some(asked.limit);
        let cursor = Cursor::new(asked.range.clone(), limit, asked.is_reverse, deadline);
        Scan { cursor, asked, deadline, chunk: None, failure: None, told: Told::default() }
    }

    /// A scan that is done has told of every key that was asked for, or of as many rows as it was
    /// limited to.
    fn check_done(&self, keys: u16) -> Verdict {
        let Scan { asked, told, .. } = self;
        let is_told = |key: &Bytes| told.covered.iter().any(|part| part.contains(key));
        let mut wanted = (0..keys).map(stored).filter(|key| asked.range.contains(key));
        let missing = wanted.find(|key| !is_told(key));
        match missing {
            Some(key) if asked.limit == 0 || told.rows < asked.limit => {
                let what = format!("{asked:?} was done without a word of key {}", key_of(&key));
                broken("a scan tells of everything that was asked for", what)
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl SimClient {
    /// Does what the cursor says: opens the next region's part of the scan, waits, or ends.
    pub(super) fn drive_scan(&mut self, world: &mut World<'_>, number: u64) -> Verdict {
        let avoid = self.suspects(world.hub);
        let now = self.now(world);
        let Some(Doing::Scan(scan)) = self.doing.get_mut(&number) else { return Ok(()) };
        let step = scan.cursor.next(&mut self.state.context(now, &avoid));
        let (deadline, failure) = (scan.cursor.deadline(), scan.failure.take());
        let ScanWork { is_reverse, keys_only, .. } = scan.asked;
        self.ask_refreshes(world)?;
        match step {
            Err(error) => self.scan_ended(world, number, &error),
            Ok(ScanStep::Done) => self.scan_done(world, number),
            Ok(ScanStep::Open { to, span, limit }) => {
                let op = ScanOp { range: span, limit, bytes_max: 0, is_reverse, keys_only };
                self.check_route(world, &to)?;
                self.ask_chunk(world, number, to, ScanCursor::new(op))
            }
            Ok(ScanStep::LookUp(miss)) => {
                self.look_up(world, (number, None), miss, deadline);
                Ok(())
            }
            Ok(ScanStep::Wait { until }) => {
                let wake = ClientWake::Ready { call: number, part: None };
                self.clock.set(world.hub, self.number, until, wake);
                let Some(failure) = failure else { return Ok(()) };
                let tokens_max = world.hub.bounds.client.budget_tokens_max;
                let retry = Retry { now, until, tokens_max };
                world.hub.checks.attempts.retried(self.number, &failure, retry)
            }
        }
    }

    fn scan_done(&mut self, world: &mut World<'_>, number: u64) -> Verdict {
        let Some(Doing::Scan(scan)) = self.doing.get(&number) else { return Ok(()) };
        scan.check_done(world.hub.scenario.clients.keys)?;
        let deadline = scan.deadline;
        world.hub.coverage.hit("calls ok");
        self.rest(world, number, deadline)
    }

    fn ask_chunk(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        to: Destination,
        rest: ScanCursor,
    ) -> Verdict {
        let Some(Doing::Scan(scan)) = self.doing.get(&number) else { return Ok(()) };
        let deadline = scan.deadline;
        let Some(op) = rest.next() else {
            let what = format!("client {} call {number} has nothing to ask for", self.number);
            return broken("a chunk that does not end a scan says where the scan goes on", what);
        };
        // Small in most chunks, so that a region takes several.
        let bytes_max = match self.dice.chance(850) {
            true => self.dice.between(0, 1_500) as usize,
            false => CHUNK_BYTES,
        };
        let (span, limit) = (op.range.clone(), op.limit);
        let op = Op::Scan(ScanOp { bytes_max, ..op });
        let timeout = AttemptTimeout::new(Idempotency::ReadOnly, self.now(world), deadline);
        self.send(world, (number, deadline), (&to, op), timeout)?;
        let invoked = world.hub.agenda.stamp();
        if let Some(Doing::Scan(scan)) = self.doing.get_mut(&number) {
            scan.chunk = Some(Chunk { to, rest, span, limit, invoked });
        }
        Ok(())
    }

    /// A chunk came, or a refusal.
    pub(super) fn scan_answered(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        result: Result<Answer, RegionError>,
    ) -> Verdict {
        let (pairs, is_done, walked_to) = match result {
            Ok(Answer::Scan { pairs, is_done, walked_to }) => (pairs, is_done, walked_to),
            Ok(_) => {
                return broken("an answer fits its question", "a scan was answered otherwise");
            }
            Err(error) => return self.scan_failed(world, number, error.into()),
        };
        let (client, now) = (self.number, self.now(world));
        let Some(Doing::Scan(scan)) = self.doing.get_mut(&number) else { return Ok(()) };
        let Some(mut chunk) = scan.chunk.take() else { return Ok(()) };
        chunk.rest.read(&pairs, is_done, walked_to.as_ref());
        let keys = pairs.iter().map(|(key, _)| key);
        let mut context = self.state.context(now, &[]);
        // A store keeps chunks to itself that say nothing.
        let is_sent = is_done || !pairs.is_empty();
        if is_sent && let Err(failure) = scan.cursor.chunk(&mut context, keys, is_done) {
            return broken("scans give rows in order and within their span", failure.to_string());
        }
        let ScanWork { is_reverse, keys_only, .. } = scan.asked;
        // A chunk that ends at its limit says nothing of what comes after its last row.
        let is_full = chunk.limit > 0 && pairs.len() as u64 >= chunk.limit;
        if walked_to.is_some() {
            world.hub.coverage.hit("scan chunks that ended among deleted rows");
        }
        let last = walked_to.as_ref().or(pairs.last().map(|(key, _)| key));
        let is_whole = is_done && !is_full;
        let covered =
            if is_whole { chunk.span.clone() } else { covered(&chunk.span, last, is_reverse) };
        let rows = Rows { covered: &covered, pairs: &pairs, keys_only };
        remember(world, client, chunk.invoked, &rows);
        scan.told.rows += pairs.len() as u64;
        scan.told.covered.push(covered);
        if is_done {
            return self.drive_scan(world, number);
        }
        if let Err(failure) = scan.cursor.give_up_at(now) {
            return self.scan_failed(world, number, failure);
        }
        // The store goes on by itself: no routing in between.
        self.ask_chunk(world, number, chunk.to, chunk.rest)
    }

    /// The scan's attempt failed: wait and go on, or end.
    pub(super) fn scan_failed(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        failure: Failure,
    ) -> Verdict {
        let now = self.now(world);
        let Some(Doing::Scan(scan)) = self.doing.get_mut(&number) else { return Ok(()) };
        scan.chunk = None;
        scan.failure = Some(failure.clone());
        let judged = scan.cursor.failed(&mut self.state.context(now, &[]), failure);
        self.scan_goes_on(world, number, judged)
    }

    /// The scan's lookup has ended.
    pub(super) fn scan_looked_up(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        result: Result<(), Error>,
    ) -> Verdict {
        let now = self.now(world);
        let Some(Doing::Scan(scan)) = self.doing.get_mut(&number) else { return Ok(()) };
        let judged = scan.cursor.looked_up(&mut self.state.context(now, &[]), result);
        self.scan_goes_on(world, number, judged)
    }

    fn scan_goes_on(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        judged: Result<(), Error>,
    ) -> Verdict {
        self.ask_refreshes(world)?;
        match judged {
            Ok(()) => self.drive_scan(world, number),
            Err(error) => self.scan_ended(world, number, &error),
        }
    }

    fn scan_ended(&mut self, world: &mut World<'_>, number: u64, error: &Error) -> Verdict {
        let Some(Doing::Scan(scan)) = self.doing.get(&number) else { return Ok(()) };
        let deadline = scan.deadline;
        world.hub.say(|| format!("client {} call {number}: {error}", self.number));
        world.hub.coverage.hit("calls failed");
        self.rest(world, number, deadline)
    }
}

/// The part of `span` that a chunk tells all about, if `last` is the last key that was read.
fn covered(span: &KeyRange, last: Option<&Bytes>, is_reverse: bool) -> KeyRange {
    match last {
        None => KeyRange { start: span.start.clone(), end: span.start.clone() },
        Some(last) if is_reverse => KeyRange { start: last.clone(), end: span.end.clone() },
        Some(last) => KeyRange { start: span.start.clone(), end: key_after(last) },
    }
}

/// What a chunk tells.
struct Rows<'a> {
    covered: &'a KeyRange,
    pairs: &'a [(Bytes, Bytes)],
    keys_only: bool,
}

fn remember(world: &mut World<'_>, client: u32, invoked: u64, rows: &Rows<'_>) {
    let Rows { covered, pairs, keys_only } = *rows;
    let returned = world.hub.agenda.stamp();
    let mut record = |key: u16, outcome: Outcome| {
        let at = world.history.begin(client, key, Kind::Read, invoked);
        world.history.end(at, outcome, returned);
    };
    for (key, value) in pairs {
        let outcome = match keys_only {
            true => Outcome::Found,
            false => Outcome::Read(Some(value_number(value))),
        };
        record(key_of(key), outcome);
    }
    for key in 0..world.hub.scenario.clients.keys {
        let stored = stored(key);
        let is_found = pairs.iter().any(|(found, _)| *found == stored);
        if covered.contains(&stored) && !is_found {
            record(key, Outcome::Read(None));
        }
    }
}
