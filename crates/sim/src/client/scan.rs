//! Scans: a [`Cursor`] carried out chunk by chunk.
//!
//! Each chunk is linearizable by itself: it is remembered as a read of every key that it covers,
//! found or not, from the moment it was asked for to the moment it came.

use bytes::Bytes;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::item::region_failure;
use flotilla_client::core::retry::{Action, Attempts, Idempotency};
use flotilla_client::core::router::Destination;
use flotilla_client::core::scan::{Cursor, ScanNext};
use flotilla_store::core::{Answer, Op, ScanOp};
use flotilla_types::keys::key_after;
use flotilla_types::{KeyRange, Millis, RegionError, proto};

use crate::check::model::value_number;
use crate::check::{Verdict, broken};
use crate::event::{ClientWake, Event};
use crate::history::{Kind, Outcome};
use crate::time::MS;

use super::work::{ScanWork, key_of, stored};
use super::{Doing, SimClient, World};

/// A scan under way.
pub struct Scan {
    /// Its number at the client.
    pub number: u64,
    /// The attempt under way.
    pub attempt: Option<u64>,
    cursor: Cursor,
    sent: ScanWork,
    deadline: Millis,
    chunk: Option<Chunk>,
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
    span: KeyRange,
    limit: u64,
    invoked: u64,
}

impl Scan {
    /// Begins a scan.
    pub fn begin(number: u64, sent: ScanWork, now: Millis) -> Scan {
        let deadline = now.plus(sent.timeout_ms);
        let attempts = Attempts::new(Idempotency::ReadOnly, deadline);
        let limit = (sent.limit > 0).then_some(sent.limit);
        let cursor = Cursor::new(sent.range.clone(), limit, sent.is_reverse, attempts);
        Scan { number, attempt: None, cursor, sent, deadline, chunk: None, told: Told::default() }
    }

    /// A scan that is done has told of every key that was asked for, or of as many rows as it was
    /// limited to.
    fn check_done(&self, keys: u16) -> Verdict {
        let Scan { sent, told, .. } = self;
        let is_told = |key: &Bytes| told.covered.iter().any(|part| part.contains(key));
        let mut wanted = (0..keys).map(stored).filter(|key| sent.range.contains(key));
        let missing = wanted.find(|key| !is_told(key));
        match missing {
            Some(key) if sent.limit == 0 || told.rows < sent.limit => {
                let what = format!("{sent:?} was done without a word of key {}", key_of(&key));
                broken("a scan tells of everything that was asked for", what)
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl SimClient {
    /// Opens the next region's part of the scan, or ends it.
    pub(super) fn drive_scan(&mut self, world: &mut World<'_>) -> Verdict {
        let avoid = self.suspects(world.hub);
        let Doing::Scan(scan) = &mut self.doing else { return Ok(()) };
        match scan.cursor.next(&self.router, &avoid) {
            ScanNext::Done => {
                scan.check_done(world.hub.scenario.keys)?;
                let deadline = scan.deadline;
                world.hub.coverage.hit("calls ok");
                self.rest(world, deadline)
            }
            ScanNext::Open { to, span, limit } => self.ask_chunk(world, to, span, limit),
            ScanNext::LookUp(miss) => {
                let (number, left_ms) = (scan.number, scan.deadline.since(world.now()));
                self.look_up(world, &miss, (number, None), left_ms);
                Ok(())
            }
            ScanNext::Stuck(failure) => self.scan_failed(world, failure),
        }
    }

    fn ask_chunk(
        &mut self,
        world: &mut World<'_>,
        to: Destination,
        span: KeyRange,
        limit: u64,
    ) -> Verdict {
        let Doing::Scan(scan) = &self.doing else { return Ok(()) };
        let (deadline, is_reverse) = (scan.deadline, scan.sent.is_reverse);
        // Small, so that a region takes several.
        let bytes_max = world.hub.dice.between(0, 1_500) as usize;
        let (range, keys_only) = (span.clone(), false);
        let op = Op::Scan(ScanOp { range, limit, bytes_max, is_reverse, keys_only });
        let attempt = self.send(world, &to, op, (Idempotency::ReadOnly, deadline));
        let invoked = world.hub.agenda.stamp();
        if let Doing::Scan(scan) = &mut self.doing {
            scan.attempt = Some(attempt);
            scan.chunk = Some(Chunk { to, span, limit, invoked });
        }
        Ok(())
    }

    /// A chunk came, or a refusal.
    pub(super) fn scan_answered(
        &mut self,
        world: &mut World<'_>,
        result: Result<Answer, RegionError>,
    ) -> Verdict {
        let (pairs, is_done) = match result {
            Ok(Answer::Scan { pairs, is_done }) => (pairs, is_done),
            Ok(_) => {
                return broken("an answer fits its question", "a scan was answered otherwise");
            }
            Err(error) => return self.scan_failed(world, region_failure(error.into())),
        };
        let client = self.number;
        let Doing::Scan(scan) = &mut self.doing else { return Ok(()) };
        scan.attempt = None;
        let Some(chunk) = scan.chunk.take() else { return Ok(()) };
        let wired: Vec<proto::Pair> = pairs
            .iter()
            .map(|(key, value)| proto::Pair { key: key.clone(), value: value.clone() })
            .collect();
        if let Err(failure) = scan.cursor.rows(&wired) {
            return broken("scans give rows in order and within their span", failure.to_string());
        }
        let is_reverse = scan.sent.is_reverse;
        // A chunk that ends at its limit says nothing of what comes after its last row.
        let is_full = chunk.limit > 0 && pairs.len() as u64 >= chunk.limit;
        let covered = covered(&chunk.span, &pairs, is_done && !is_full, is_reverse);
        remember(world, client, &chunk, &covered, &pairs);
        scan.told.rows += pairs.len() as u64;
        scan.told.covered.push(covered);
        if let Some(sent) = scan.cursor.sent() {
            scan.cursor.start_wait(scan.deadline);
            if is_done {
                scan.cursor.span_done();
            }
            self.succeeded(&sent);
        }
        if is_done {
            return self.drive_scan(world);
        }
        // The store goes on by itself: no routing in between.
        let span = rest(&chunk.span, &pairs, is_reverse);
        let limit = chunk.limit.saturating_sub(pairs.len() as u64);
        self.ask_chunk(world, chunk.to, span, limit)
    }

    /// The scan's attempt or lookup failed: wait, try again or end.
    pub(super) fn scan_failed(&mut self, world: &mut World<'_>, failure: Failure) -> Verdict {
        let Doing::Scan(scan) = &mut self.doing else { return Ok(()) };
        scan.attempt = None;
        scan.chunk = None;
        let sent = scan.cursor.sent();
        let action = self.judge(world, sent, |doing, shared| match doing {
            Doing::Scan(scan) => scan.cursor.failed(&failure, shared),
            Doing::Call(_) | Doing::Nothing => Action::Fail,
        });
        let Doing::Scan(scan) = &self.doing else { return Ok(()) };
        match action {
            Action::Retry { after_ms, .. } => {
                let wake = ClientWake::Ready { call: scan.number, part: None };
                let client = self.number;
                world.hub.agenda.after(after_ms * MS, Event::Client { client, wake });
                Ok(())
            }
            Action::Fail | Action::DeadlineExceeded | Action::Undetermined => {
                world.hub.coverage.hit("calls failed");
                let deadline = scan.deadline;
                self.rest(world, deadline)
            }
        }
    }
}

/// The part of `span` that a chunk tells all about.
fn covered(
    span: &KeyRange,
    pairs: &[(Bytes, Bytes)],
    is_whole: bool,
    is_reverse: bool,
) -> KeyRange {
    match pairs.last() {
        _ if is_whole => span.clone(),
        None => KeyRange { start: span.start.clone(), end: span.start.clone() },
        Some((last, _)) if is_reverse => KeyRange { start: last.clone(), end: span.end.clone() },
        Some((last, _)) => KeyRange { start: span.start.clone(), end: key_after(last) },
    }
}

/// As the store's server has it.
fn rest(span: &KeyRange, pairs: &[(Bytes, Bytes)], is_reverse: bool) -> KeyRange {
    match pairs.last() {
        None => span.clone(),
        Some((last, _)) if is_reverse => KeyRange { start: span.start.clone(), end: last.clone() },
        Some((last, _)) => KeyRange { start: key_after(last), end: span.end.clone() },
    }
}

fn remember(
    world: &mut World<'_>,
    client: u32,
    chunk: &Chunk,
    covered: &KeyRange,
    pairs: &[(Bytes, Bytes)],
) {
    let returned = world.hub.agenda.stamp();
    let mut record = |key: u16, value: Option<u64>| {
        let at = world.history.begin(client, key, Kind::Read, chunk.invoked);
        world.history.end(at, Outcome::Read(value), returned);
    };
    for (key, value) in pairs {
        record(key_of(key), Some(value_number(value)));
    }
    for key in 0..world.hub.scenario.keys {
        let stored = stored(key);
        let is_found = pairs.iter().any(|(found, _)| *found == stored);
        if covered.contains(&stored) && !is_found {
            record(key, None);
        }
    }
}
