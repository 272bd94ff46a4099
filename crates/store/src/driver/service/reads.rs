//! Reads under a permit, and the threads that make them.
//!
//! A read of rows that are not in memory waits for the disk, and its thread with it. The threads
//! that carry clients' connections must not wait: a probe that is answered late ends a connection,
//! and with it all calls on it. So they read what the write buffers hold, and a few keys more while
//! the disk answers at once; the rest is read by a bounded number of other threads, gets and scans
//! apart. The worker's thread reads only what no permit allows, even after it has confirmed that
//! this store leads.
//!
//! Whether the disk answers at once is not known beforehand, for redb does not tell what its cache
//! holds. It is taken from how long the last reads took ([`Slowness`]).
//!
//! Not here: why a read under a permit is linearizable ([`crate::core::permit`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flotilla_host::driver::clock::Clock;
use flotilla_types::{Answer, Op, RegionError};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;

use super::{KvService, busy, ended};
use crate::core::Request;
use crate::core::permit::ReadPermits;
use crate::driver::answers::{AnswerBudgets, Answers, Share};
use crate::driver::inbox::{ReplyTo, RequestResult};

/// Keys of one get beyond which it is read aside, whether or not the disk answers at once.
const AT_ONCE_KEYS_MAX: usize = 64;

/// Gets that are read aside at once: as many reads as a disk does well at the same time.
const GETS_ASIDE_MAX: usize = 16;

/// Chunks of scans that are read at once. Each keeps a processor busy for about a millisecond; with
/// more of them, the threads of requests and of the log would wait for a processor.
const SCANS_ASIDE_MAX: usize = 2;

/// What a request for a confirmation weighs in the worker's inbox.
const CONFIRMATION_BYTES: usize = 64;

/// What a read that waits takes beside its request: its task.
const WAITING_BYTES: usize = 1024;

/// Room is taken in steps of so many bytes at least, for the answers of one batch.
const ROOM_BYTES: usize = 4 * 1024;

/// The room of answers that were read at once and leave together.
#[derive(Debug, Default)]
pub struct Room {
    share: Option<Share>,
    used: usize,
}

impl Room {
    /// True if there is room for this answer, too, which then has it.
    fn holds(&mut self, budget: &Answers, result: &RequestResult) -> bool {
        let bytes = self.used + result.as_ref().map_or(0, Answer::bytes);
        let taken = self.share.as_ref().map_or(0, Share::bytes);
        if bytes > taken {
            let more = (bytes - taken).max(taken / 2).max(ROOM_BYTES);
            let Some(more) = budget.try_take(more) else { return false };
            match &mut self.share {
                Some(share) => share.join(more),
                None => self.share = Some(more),
            }
        }
        self.used = bytes;
        true
    }

    /// The room of the answers so far, which leave.
    pub fn leave(&mut self) -> Option<Share> {
        self.used = 0;
        self.share.take()
    }
}

/// What becomes of a read at one place.
pub enum Looked {
    /// It is answered.
    Answered(RequestResult),
    /// It is to be read elsewhere.
    Elsewhere(Request),
}

/// How a store reads.
#[derive(Clone)]
pub struct Reads {
    permits: Arc<ReadPermits>,
    clock: Clock,
    gets: Arc<Semaphore>,
    scans: Arc<Semaphore>,
    slowness: Arc<Slowness>,
    /// What answers may hold of the store's memory.
    pub budgets: AnswerBudgets,
}

impl Reads {
    /// Reads under `permits`, which go by `clock`.
    pub fn new(permits: Arc<ReadPermits>, clock: Clock, budgets: AnswerBudgets) -> Reads {
        let gets = Arc::new(Semaphore::new(GETS_ASIDE_MAX));
        let scans = Arc::new(Semaphore::new(SCANS_ASIDE_MAX));
        Reads { permits, clock, gets, scans, slowness: Arc::default(), budgets }
    }

    /// Reads unless that could take long, or finds no room. `room` grows by what the answer weighs.
    pub fn look(&self, request: Request, room: &mut Room) -> Looked {
        let Some(mut reading) = self.permits.begin(&request, self.clock.now()) else {
            return Looked::Elsewhere(request);
        };
        let is_small = matches!(&request.op, Op::Get(keys) if keys.len() <= AT_ONCE_KEYS_MAX);
        if is_small && !self.slowness.is_slow() {
            let begun = Instant::now();
            self.permits.read(&mut reading, &request);
            self.slowness.note(begun.elapsed());
        } else {
            self.permits.read_buffered(&mut reading, &request);
        }
        // A reading that ends is counted: one that finds no room is made again elsewhere.
        let has_room =
            reading.answer().is_some_and(|result| room.holds(&self.budgets.gets, result));
        if !has_room {
            return Looked::Elsewhere(request);
        }
        match reading.finish(self.clock.now()) {
            Some(result) => Looked::Answered(result),
            None => Looked::Elsewhere(request),
        }
    }

    /// Reads on another thread, as soon as there is room for the answer, of at least `room` bytes,
    /// and a thread is free. Gives the request back if there is no permit for it.
    async fn aside(&self, request: Request, room: usize, share: &mut Option<Share>) -> Looked {
        if self.permits.begin(&request, self.clock.now()).is_none() {
            return Looked::Elsewhere(request);
        }
        let region_id = request.region;
        let too_late = || Looked::Answered(Err(RegionError::DeadlineExceeded { region_id }));
        match self.in_time(&request, self.budgets.room_for(&request.op, room)).await {
            Some(taken) => *share = Some(taken),
            None => return too_late(),
        }
        let lane = if matches!(request.op, Op::Scan(_)) { &self.scans } else { &self.gets };
        // The semaphores are never closed.
        let slot = lane.clone().acquire_owned().await;
        let reads = self.clone();
        let reading = spawn_blocking(move || {
            let _slot = slot;
            reads.read(request)
        });
        // A panic ends the process; a store that stops leaves its reads.
        reading.await.unwrap_or_else(|_| too_late())
    }

    /// What is waited for, unless the request's deadline comes first.
    async fn in_time<T>(&self, request: &Request, waited: impl Future<Output = T>) -> Option<T> {
        let left = request.deadline.since(self.clock.now());
        tokio::time::timeout(Duration::from_millis(left), waited).await.ok()
    }

    fn read(&self, request: Request) -> Looked {
        let now = self.clock.now();
        if now >= request.deadline {
            let region_id = request.region;
            return Looked::Answered(Err(RegionError::DeadlineExceeded { region_id }));
        }
        let Some(mut reading) = self.permits.begin(&request, now) else {
            return Looked::Elsewhere(request);
        };
        let begun = Instant::now();
        self.permits.read(&mut reading, &request);
        if matches!(&request.op, Op::Get(keys) if keys.len() <= AT_ONCE_KEYS_MAX) {
            self.slowness.note(begun.elapsed());
        }
        match reading.finish(self.clock.now()) {
            Some(result) => Looked::Answered(result),
            None => Looked::Elsewhere(request),
        }
    }
}

impl KvService {
    /// Reads away from this thread: under a permit if there is one, else once the worker has
    /// confirmed that this store leads the region, else on the worker's thread. The answer comes
    /// with what it holds of the store's memory.
    pub async fn read_aside(
        &self,
        request: Request,
        bytes: usize,
    ) -> (RequestResult, Option<Share>) {
        let Some(_waiting) = self.reads.budgets.waiting.try_take(WAITING_BYTES + bytes) else {
            return (Err(busy("too many reads wait for the store")), None);
        };
        let mut room = 0;
        // Ends at the request's deadline, for a refusal weighs nothing.
        loop {
            let mut share = None;
            let result = self.read_into(request.clone(), (bytes, room), &mut share).await;
            match within_room(result, share) {
                Ok(answered) => return answered,
                Err(weight) => room = weight,
            }
        }
    }

    /// As [`KvService::read_aside`], with room for an answer of at least `room` bytes. `share` is
    /// the room that was taken.
    async fn read_into(
        &self,
        request: Request,
        (bytes, room): (usize, usize),
        share: &mut Option<Share>,
    ) -> RequestResult {
        let request = match self.reads.aside(request, room, share).await {
            Looked::Answered(result) => return result,
            Looked::Elsewhere(request) => request,
        };
        // What waits for the worker holds no room: it may wait for long.
        *share = None;
        // A get of nothing is answered when any read could be, and renews the permit.
        let confirmation = Request { op: Op::Get(vec![]), ..request };
        self.ask_worker(confirmation, CONFIRMATION_BYTES).await?;
        let request = match self.reads.aside(request, room, share).await {
            Looked::Answered(result) => return result,
            Looked::Elsewhere(request) => request,
        };
        let (region_id, budgets) = (request.region, &self.reads.budgets);
        *share = None;
        let taken = async {
            let turn = budgets.turn_at_worker(&request.op).await;
            (turn, budgets.room_for(&request.op, room).await)
        };
        let Some((_turn, taken)) = self.reads.in_time(&request, taken).await else {
            return Err(RegionError::DeadlineExceeded { region_id });
        };
        *share = Some(taken);
        self.ask_worker(request, bytes).await
    }

    /// The worker's answer to a request of `bytes`. It comes by the request's deadline.
    async fn ask_worker(&self, request: Request, bytes: usize) -> RequestResult {
        let region_id = request.region;
        let (sink, answer) = oneshot::channel();
        self.put(request, bytes, ReplyTo::Once(sink));
        answer.await.unwrap_or_else(|_| Err(ended(region_id)))
    }
}

/// The answer, which keeps of its room what it weighs. An answer that outweighs its room is given
/// up, and is to be read again with room for as much, the error: what leaves has taken its weight.
fn within_room(
    result: RequestResult,
    share: Option<Share>,
) -> Result<(RequestResult, Option<Share>), usize> {
    let Some(mut share) = share else { return Ok((result, None)) };
    let weight = result.as_ref().map_or(0, Answer::bytes);
    if weight > share.bytes() {
        return Err(weight);
    }
    share.shrink(weight);
    Ok((result, Some(share)))
}

/// A read that takes as long waited for the disk, or its thread for a processor.
const WAITED_US_MIN: u64 = 500;

/// Above it reads are slow. It takes one wait of two milliseconds, or a few short ones.
const SLOW_MIN: u64 = 256;

/// However slow the reads were: after so many quick ones they are quick again, but for
/// [`SLOW_MIN`].
const SLOWNESS_MAX: u64 = 1024;

/// How much the last reads waited. A wait adds an eighth of its microseconds, and a quick read
/// takes one away: a thread that is put off now and then, for others need the processor, does not
/// count as a disk that is slow.
#[derive(Debug, Default)]
pub struct Slowness(AtomicU64);

impl Slowness {
    fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= SLOW_MIN
    }

    /// Notes a read of few keys. Two threads at once may note one of the two.
    fn note(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.0.load(Ordering::Relaxed);
        let after = match took_us {
            WAITED_US_MIN.. => before.saturating_add(took_us / 8).min(SLOWNESS_MAX),
            _ => before.saturating_sub(1),
        };
        // Looked at first: a store would take the line from all other readers.
        if after != before {
            self.0.store(after, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flotilla_engine::base::{Base, ReadView, Rows, Walk};
    use flotilla_engine::buffer::Buffer;
    use flotilla_engine::mem_base::MemBase;
    use flotilla_engine::{EngineError, Order, StateBatch, StateStore};
    use flotilla_types::{Epoch, KeyRange, Millis, Region, RegionId, ScanOp};

    use super::*;
    use crate::core::RequestId;
    use crate::core::permit::Permit;
    use crate::core::records::{data_key, encode_value};
    use crate::driver::config::UnderWay;

    /// What a read of the slow disk takes.
    const READ: Duration = Duration::from_millis(300);

    /// A disk that answers late.
    struct SlowBase(MemBase);

    impl Base for SlowBase {
        fn apply(&self, buffer: &Buffer) -> Result<(), EngineError> {
            self.0.apply(buffer)
        }

        fn install(
            &self,
            clear: &[KeyRange],
            rows: &mut Rows<'_>,
            records: &StateBatch,
        ) -> Result<(), EngineError> {
            self.0.install(clear, rows, records)
        }

        fn view(&self) -> Result<Box<dyn ReadView>, EngineError> {
            Ok(Box::new(SlowView(self.0.view()?)))
        }

        fn disk_bytes(&self) -> u64 {
            self.0.disk_bytes()
        }
    }

    struct SlowView(Box<dyn ReadView>);

    impl ReadView for SlowView {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            std::thread::sleep(READ);
            self.0.get(key)
        }

        fn walk(
            &self,
            range: &KeyRange,
            order: Order,
            visit: &mut Walk<'_>,
        ) -> Result<(), EngineError> {
            std::thread::sleep(READ);
            self.0.walk(range, order, visit)
        }
    }

    fn slow() -> (Reads, Arc<StateStore>) {
        let state = StateStore::new(Box::new(SlowBase(MemBase::default()))).expect("in memory");
        let state = Arc::new(state);
        write(&state);
        let permits = Arc::new(ReadPermits::new(state.clone(), usize::MAX));
        let (range, epoch) = (KeyRange::new("", ""), Epoch::FIRST);
        let region = Region { id: RegionId(1), range, epoch, members: vec![] };
        permits.publish(Permit::new(&region, Millis(u64::MAX), Arc::default()));
        (Reads::new(permits, Clock::begin(), AnswerBudgets::new(under_way())), state)
    }

    fn under_way() -> UnderWay {
        let bytes = 64 * 1024 * 1024;
        UnderWay {
            gets_bytes_max: bytes,
            scans_bytes_max: bytes,
            waiting_bytes_max: bytes,
            inbox_bytes_max: bytes,
            messages_bytes_max: bytes,
        }
    }

    fn look(reads: &Reads, request: Request) -> Looked {
        reads.look(request, &mut Room::default())
    }

    fn write(state: &StateStore) {
        let mut batch = StateBatch::default();
        batch.put(data_key(b"hot"), encode_value(b"v"));
        state.write(batch).expect("in memory");
    }

    fn request(op: Op) -> Request {
        let (id, region, deadline) = (RequestId(0), RegionId(1), Millis(u64::MAX));
        Request { id, region, epoch: Epoch::FIRST, deadline, op }
    }

    fn get(keys: &[&'static str]) -> Request {
        request(Op::Get(keys.iter().map(|key| Bytes::from(*key)).collect()))
    }

    fn scan() -> Request {
        let range = KeyRange::new("", "");
        let (limit, bytes_max) = (0, 1_000);
        request(Op::Scan(ScanOp { range, limit, bytes_max, is_reverse: false, keys_only: false }))
    }

    #[test]
    fn a_slow_disk_keeps_the_thread_of_connections_waiting_once() {
        let (reads, _) = slow();
        assert!(matches!(look(&reads, get(&["cold"])), Looked::Answered(_)), "the first finds out");
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(matches!(look(&reads, get(&["cold"])), Looked::Elsewhere(_)));
            assert!(matches!(look(&reads, get(&["hot"])), Looked::Answered(_)));
            assert!(matches!(look(&reads, scan()), Looked::Elsewhere(_)));
        }
        assert!(begun.elapsed() < 20 * READ, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_get_of_many_keys_and_a_scan_leave_the_thread_of_connections() {
        let (reads, _) = slow();
        let begun = Instant::now();
        assert!(matches!(look(&reads, get(&["cold"; AT_ONCE_KEYS_MAX + 1])), Looked::Elsewhere(_)));
        assert!(matches!(look(&reads, scan()), Looked::Elsewhere(_)));
        assert!(begun.elapsed() < READ, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_get_does_not_wait_for_scans_and_a_write_for_neither() {
        let (reads, state) = slow();
        let scanned = || {
            let reads = reads.clone();
            tokio::spawn(async move {
                matches!(reads.aside(scan(), 0, &mut None).await, Looked::Answered(_))
            })
        };
        let scans: Vec<_> = (0..5 * SCANS_ASIDE_MAX).map(|_| scanned()).collect();
        let read = reads.aside(get(&["cold"]), 0, &mut None).await;
        let absent = crate::core::Answer::Get(vec![None]);
        assert!(matches!(read, Looked::Answered(Ok(answer)) if answer == absent));
        write(&state);
        assert!(scans.iter().any(|scan| !scan.is_finished()));
        for scan in scans {
            assert!(scan.await.expect("no panic"));
        }
    }

    #[test]
    fn an_answer_that_outweighs_its_room_is_read_again_with_room_for_it() {
        let answers = Answers::new(100);
        let read = || Ok(Answer::Get(vec![Some(vec![b'v'; 50].into())]));
        let Err(weight) = within_room(read(), answers.try_take(10)) else {
            panic!("ten bytes are no room for fifty");
        };
        assert_eq!((weight > 50, answers.held()), (true, 0), "what was given up holds nothing");
        let (_, share) = within_room(read(), answers.try_take(95)).expect("it fits");
        assert_eq!((share.map(|share| share.bytes()), answers.held()), (Some(weight), 0));
    }

    #[test]
    fn a_disk_counts_as_slow_until_many_reads_were_quick() {
        let (slowness, quick) = (Slowness::default(), Duration::from_micros(20));
        assert!(!slowness.is_slow());
        slowness.note(Duration::from_millis(1));
        assert!(!slowness.is_slow(), "a thread may be put off");
        slowness.note(Duration::from_secs(1));
        assert!(slowness.is_slow());
        let quick_reads = (0..2_000).take_while(|_| {
            slowness.note(quick);
            slowness.is_slow()
        });
        assert_eq!(quick_reads.count() as u64, SLOWNESS_MAX - SLOW_MIN);
    }
}
