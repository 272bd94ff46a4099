//! Linearizable reads: the whole life of one.
//!
//! A read arrives at the leader. If the leader lease holds, everything that was acknowledged is
//! applied here and no other peer can have acknowledged anything: the read is served at once.
//! Otherwise it waits for a ticket, a round of heartbeats that a quorum answers, and then until the
//! state has reached the index that was committed when the round began. Reads of keys need not even
//! come here while the lease holds: see [`super::permit`]. The `raft` crate drops a round in some
//! states without a word, so an unanswered round is asked again.
//!
//! The epoch is checked when a read arrives and again when it is served: the region may have been
//! cut in between.

use bytes::Bytes;
use flotilla_engine::{Order, StateStore, Walked};
use flotilla_group::{ConfirmedRead, Group, ReadTicket};
use flotilla_types::limits::check;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, PAIR_BYTES, RegionError};

use super::records::{data_key, data_range, decode_value, deleted_row_bytes, stored_key};
use super::{Answer, Fatal, Op, Output, Request, ScanOp};

/// After this long without an answer a round is asked again: two heartbeats.
const ROUND_MS_MAX: u64 = 200;

/// How much of the reads that a round confirmed are served at the end of one turn, in keys: the
/// others come with the next turns. A round may confirm thousands, and a store that served them all
/// at once would neither tick nor answer its members meanwhile. Point reads take some 1 us a key
/// from memory, so this is a few milliseconds.
const TURN_KEYS_MAX: usize = 2 * 1024;

/// What a chunk of a scan counts, in keys: it takes about 1 ms.
const SCAN_KEYS: usize = 128;

/// The reads of one region that wait for confirmation.
pub struct PendingReads {
    waiting_max: usize,
    waiting: Vec<PendingRead>,
}

struct PendingRead {
    request: Request,
    /// The round that the read waits for; None if none could begin.
    ticket: Option<ReadTicket>,
    /// When the round was asked for.
    asked_at: Millis,
    /// The index that was committed when the round began; None until the round is confirmed.
    index: Option<u64>,
}

impl PendingRead {
    fn is_covered_by(&self, confirmed: &ConfirmedRead) -> bool {
        if planted(Mutant::ReadOnEarlierRound) {
            return true;
        }
        self.ticket.is_some_and(|ticket| ticket <= confirmed.ticket)
    }
}

impl PendingReads {
    /// No reads; at most `waiting_max` will wait.
    pub fn new(waiting_max: usize) -> PendingReads {
        PendingReads { waiting_max, waiting: vec![] }
    }

    /// How many reads wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if no read waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Makes a read wait for a round of confirmation.
    pub fn push(
        &mut self,
        group: &mut Group,
        now: Millis,
        request: Request,
        out: &mut Vec<Output>,
    ) {
        let mut waiting = self.waiting.len();
        if planted(Mutant::ReadsOneMore) {
            waiting = waiting.saturating_sub(1);
        }
        if waiting >= self.waiting_max {
            let reason = format!("region {} has too many reads under way", request.region);
            let error = RegionError::ServerBusy { reason, retry_after_ms: ROUND_MS_MAX };
            out.push(Output::Reply { id: request.id, result: Err(error) });
            return;
        }
        let ticket = group.read_index(now);
        self.waiting.push(PendingRead { request, ticket, asked_at: now, index: None });
    }

    /// A round was confirmed; rounds before it are as good.
    pub fn confirm(&mut self, confirmed: ConfirmedRead) {
        for read in &mut self.waiting {
            if read.index.is_none() && read.is_covered_by(&confirmed) {
                read.index = Some(confirmed.index);
            }
        }
    }

    /// Takes the reads that may be served now, as many as one turn has time for.
    pub fn take_ready(&mut self, applied: u64) -> Vec<Request> {
        let mut keys = 0;
        let (mut ready, mut waiting) = (vec![], vec![]);
        for read in std::mem::take(&mut self.waiting) {
            let is_ready = read.index.is_some_and(|index| index <= applied);
            if is_ready && keys < TURN_KEYS_MAX {
                keys += keys_of(&read.request.op);
                ready.push(read.request);
            } else {
                waiting.push(read);
            }
        }
        self.waiting = waiting;
        ready
    }

    /// Asks again where a round was lost, and gives up on reads past their deadline.
    pub fn tick(&mut self, group: &mut Group, now: Millis, out: &mut Vec<Output>) {
        self.waiting.retain(|read| {
            if planted(Mutant::ReadWaitsOn) || now < read.request.deadline {
                return true;
            }
            let error = RegionError::DeadlineExceeded { region_id: read.request.region };
            out.push(Output::Reply { id: read.request.id, result: Err(error) });
            false
        });
        for read in &mut self.waiting {
            let is_lost = read.ticket.is_none() || now.since(read.asked_at) >= ROUND_MS_MAX;
            if read.index.is_none() && is_lost {
                read.ticket = group.read_index(now);
                read.asked_at = now;
            }
        }
    }

    /// Answers every waiting read with `error`.
    pub fn fail(&mut self, error: &RegionError, out: &mut Vec<Output>) {
        for read in self.waiting.drain(..) {
            out.push(Output::Reply { id: read.request.id, result: Err(error.clone()) });
        }
    }
}

/// What serving the read counts, in keys.
fn keys_of(op: &Op) -> usize {
    match op {
        Op::Get(keys) => keys.len().max(1),
        Op::Scan(_) | Op::Write(_) => SCAN_KEYS,
    }
}

/// Reads the applied state. A get of several keys whose values have more than `reply_bytes_max` is
/// refused. The outer error is fatal, the inner one an answer.
pub fn serve(
    state: &StateStore,
    op: &Op,
    reply_bytes_max: usize,
) -> Result<Result<Answer, RegionError>, Fatal> {
    match op {
        Op::Get(keys) => get(state, keys, reply_bytes_max),
        Op::Scan(scan) => scan_chunk(state, scan).map(Ok),
        Op::Write(_) => unreachable!("writes go through the log"),
    }
}

/// As [`serve`] for a get of these keys; None if the disk would have to be asked.
pub fn get_buffered(
    state: &StateStore,
    keys: &[Bytes],
    reply_bytes_max: usize,
) -> Option<Result<Result<Answer, RegionError>, Fatal>> {
    let values = state.buffered(&state_keys(keys))?;
    let bytes = values.iter().flatten().map(Bytes::len).sum();
    Some(match check("reply bytes", get_bytes_max(keys, reply_bytes_max), bytes) {
        Ok(()) => decoded(values).map(Ok),
        Err(error) => Ok(Err(error)),
    })
}

fn state_keys(keys: &[Bytes]) -> Vec<Bytes> {
    keys.iter().map(|key| data_key(key)).collect()
}

/// A single value is read however large it is.
fn get_bytes_max(keys: &[Bytes], reply_bytes_max: usize) -> usize {
    if keys.len() == 1 { usize::MAX } else { reply_bytes_max }
}

fn decoded(values: Vec<Option<Bytes>>) -> Result<Answer, Fatal> {
    let decode = |value: Option<Bytes>| value.map(decode_value).transpose();
    Ok(Answer::Get(values.into_iter().map(decode).collect::<Result<_, _>>()?))
}

fn get(
    state: &StateStore,
    keys: &[Bytes],
    reply_bytes_max: usize,
) -> Result<Result<Answer, RegionError>, Fatal> {
    let bytes_max = get_bytes_max(keys, reply_bytes_max);
    let mut values = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    let mut checked = Ok(());
    state.get_many(&state_keys(keys), &mut |value| {
        bytes += value.as_ref().map_or(0, Bytes::len);
        checked = check("reply bytes", bytes_max, bytes);
        values.push(value);
        checked.is_ok()
    })?;
    if let Err(error) = checked {
        return Ok(Err(error));
    }
    decoded(values).map(Ok)
}

fn scan_chunk(state: &StateStore, scan: &ScanOp) -> Result<Answer, Fatal> {
    let order = if scan.is_reverse { Order::Descending } else { Order::Ascending };
    let rows_max = if scan.limit == 0 { u64::MAX } else { scan.limit };
    let mut rows: Vec<(Bytes, Bytes)> = vec![];
    let mut bytes = 0;
    let mut is_done = true;
    let range = data_range(&scan.range);
    // The last deleted row behind the last row; empty if there is none. One buffer for all of them.
    let mut walked_to: Vec<u8> = vec![];
    let walked = state.walk_aside(&range, order, scan.bytes_max, &mut |key, value| {
        if rows.len() as u64 >= rows_max {
            return false;
        }
        let row_bytes = value.map_or_else(|| hidden_bytes(key), |value| row_bytes(key, value));
        let is_first = rows.is_empty() && walked_to.is_empty();
        let row_ahead = if planted(Mutant::ChunkOutweighs) { 0 } else { row_bytes };
        if bytes + row_ahead > scan.bytes_max && !is_first {
            if planted(Mutant::ChunkDropsRow) {
                return true;
            }
            is_done = false;
            return false;
        }
        bytes += row_bytes;
        walked_to.clear();
        let Some(value) = value else {
            walked_to.extend_from_slice(stored_key(key));
            return true;
        };
        let value = if scan.keys_only { Bytes::new() } else { Bytes::copy_from_slice(value) };
        rows.push((Bytes::copy_from_slice(stored_key(key)), value));
        true
    })?;
    if walked == Walked::Part && (rows.len() as u64) < rows_max {
        is_done = false;
    }
    if planted(Mutant::ScanCutShort) {
        is_done = true;
    }
    let pairs = if scan.keys_only {
        rows
    } else {
        let decode = |(key, value)| decode_value(value).map(|value| (key, value));
        rows.into_iter().map(decode).collect::<Result<_, _>>()?
    };
    let walked_to = (!is_done && !walked_to.is_empty()).then(|| walked_to.into());
    Ok(Answer::Scan { pairs, is_done, walked_to })
}

/// What a row counts: no less than it weighs in the answer.
fn row_bytes(key: &[u8], value: &[u8]) -> usize {
    PAIR_BYTES + key.len() + value.len()
}

/// What a deleted row that the scan walks over counts.
fn hidden_bytes(key: &[u8]) -> usize {
    if planted(Mutant::HiddenRowsFree) {
        return 0;
    }
    deleted_row_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::super::RequestId;
    use super::super::records::encode_value;
    use super::*;
    use flotilla_engine::StateBatch;
    use flotilla_types::{Epoch, KeyRange, RegionId};

    /// Reads that a round has confirmed, one for each number of keys; 0 stands for a scan.
    fn confirmed(sizes: &[usize]) -> PendingReads {
        let read = |(number, keys): (usize, &usize)| {
            let range = KeyRange::new("", "");
            let (limit, bytes_max) = (0, 1);
            let scan = ScanOp { range, limit, bytes_max, is_reverse: false, keys_only: false };
            let get = Op::Get(vec![Bytes::from_static(b"a"); *keys]);
            let request = Request {
                id: RequestId(number as u64),
                region: RegionId(1),
                epoch: Epoch::default(),
                deadline: Millis(u64::MAX),
                op: if *keys == 0 { Op::Scan(scan) } else { get },
            };
            PendingRead { request, ticket: None, asked_at: Millis(0), index: Some(5) }
        };
        let waiting = sizes.iter().enumerate().map(read).collect();
        PendingReads { waiting, waiting_max: sizes.len() }
    }

    #[test]
    fn a_turn_serves_a_bounded_part_of_the_reads_in_their_order() {
        let mut reads = confirmed(&[0; 40]);
        assert!(reads.take_ready(4).is_empty(), "what is not applied waits");
        let mut turns = vec![];
        while !reads.is_empty() {
            turns.push(reads.take_ready(5));
        }
        let sizes: Vec<usize> = turns.iter().map(Vec::len).collect();
        assert_eq!(sizes, [16, 16, 8]);
        let ids = turns.iter().flatten().map(|request| request.id.0);
        assert!(ids.eq(0..40));
        let gets = confirmed(&[1; 2_000]).take_ready(5).len();
        assert_eq!(gets, 2_000, "point reads are cheap");
        assert_eq!(confirmed(&[5_000, 1]).take_ready(5).len(), 1, "one always goes");
    }

    fn state() -> StateStore {
        let state = StateStore::in_memory();
        let mut batch = StateBatch::default();
        for key in ["a", "b", "c", "d"] {
            batch.put(data_key(key.as_bytes()), encode_value(&[b'v'; 10]));
        }
        state.write(batch).expect("in memory");
        state
    }

    fn scan(limit: u64, bytes_max: usize, is_reverse: bool) -> (String, bool) {
        let range = KeyRange::new("b", "");
        let scan = ScanOp { range, limit, bytes_max, is_reverse, keys_only: false };
        let Ok(Answer::Scan { pairs, is_done, walked_to: None }) = scan_chunk(&state(), &scan)
        else {
            panic!("a scan answers rows");
        };
        assert!(pairs.iter().all(|(_, value)| value.len() == 10));
        let keys: Vec<u8> = pairs.iter().flat_map(|(key, _)| key.to_vec()).collect();
        (String::from_utf8(keys).expect("ascii"), is_done)
    }

    #[test]
    fn a_scan_ends_at_the_range_the_limit_or_the_byte_budget() {
        assert_eq!(scan(0, 1000, false), ("bcd".into(), true));
        assert_eq!(scan(2, 1000, false), ("bc".into(), true));
        assert_eq!(scan(3, 1000, false), ("bcd".into(), true));
        assert_eq!(scan(0, 0, false), ("b".into(), false));
        assert_eq!(scan(0, 160, true), ("dc".into(), false));
        assert_eq!(scan(0, 150, true), ("d".into(), false), "the second would exceed it");
        assert_eq!(scan(0, 1000, true), ("dcb".into(), true));
    }

    #[test]
    fn a_chunk_looks_at_a_bounded_part_of_the_latest_writes_and_the_next_goes_on() {
        let (state, mut batch) = (StateStore::in_memory(), StateBatch::default());
        let key = |row: usize| Bytes::from(format!("{row:04}"));
        for row in 0..3_000 {
            batch.put(data_key(&key(row)), encode_value(b"v"));
        }
        (500..2_500).for_each(|row| batch.delete(data_key(&key(row))));
        state.write(batch).expect("in memory");
        for is_reverse in [false, true] {
            let range = KeyRange::new("", "");
            let (limit, bytes_max) = (900, 1 << 20);
            let op = ScanOp { range, limit, bytes_max, is_reverse, keys_only: true };
            let mut cursor = super::super::scan::ScanCursor::new(op);
            let (mut keys, mut chunks) = (vec![], 0);
            while let Some(op) = cursor.next() {
                let Ok(Answer::Scan { pairs, is_done, walked_to }) = scan_chunk(&state, &op) else {
                    panic!("a scan answers rows");
                };
                cursor.read(&pairs, is_done, walked_to.as_ref());
                keys.extend(pairs.into_iter().map(|(key, _)| key));
                chunks += 1;
            }
            let mut expected: Vec<Bytes> = (0..500).chain(2_500..3_000).map(key).collect();
            if is_reverse {
                expected.reverse();
            }
            assert_eq!(keys, expected[..900]);
            assert_eq!(chunks, 3);
        }
    }

    /// The keys of a chunk's rows, where it ended among deleted rows, and whether it is done.
    fn over_deleted(
        deleted: &[&str],
        bytes_max: usize,
        is_reverse: bool,
    ) -> (String, String, bool) {
        let state = state();
        let mut batch = StateBatch::default();
        deleted.iter().for_each(|key| batch.delete(data_key(key.as_bytes())));
        state.write(batch).expect("in memory");
        let range = KeyRange::new("a", "");
        let scan = ScanOp { range, limit: 0, bytes_max, is_reverse, keys_only: true };
        let Ok(Answer::Scan { pairs, is_done, walked_to }) = scan_chunk(&state, &scan) else {
            panic!("a scan answers rows");
        };
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("ascii");
        let keys = pairs.iter().map(|(key, _)| text(key)).collect();
        (keys, walked_to.map_or(String::new(), |key| text(&key)), is_done)
    }

    #[test]
    fn deleted_rows_count_and_a_chunk_that_ends_among_them_says_where() {
        let of = |keys: &str, walked_to: &str, is_done| (keys.into(), walked_to.into(), is_done);
        assert_eq!(over_deleted(&["a", "b", "c"], 0, false), of("", "a", false));
        assert_eq!(over_deleted(&["a", "b", "c"], 36, false), of("", "b", false));
        assert_eq!(over_deleted(&["b", "c"], 100, false), of("a", "b", false));
        assert_eq!(over_deleted(&["c"], 100, true), of("d", "c", false));
        assert_eq!(over_deleted(&["a"], 100, false), of("b", "", false), "a row came behind it");
        assert_eq!(over_deleted(&["b", "c", "d"], 1_000, false), of("a", "", true));
    }
}
