//! Answers under way: how many bytes of them the store holds at once, from before they are read
//! until they have left the process.
//!
//! A read takes its [`Share`] before it is made, as large as its answer is likely to be, and keeps
//! what the answer weighs; what weighs more is given up and read again with a share of its weight.
//! What is read at this moment is all that may exceed the budget: the largest value for each thread
//! that reads. The share travels with the answer, and is given back when HTTP/2 has taken the
//! answer, or when its stream is gone. A read that finds no room waits, first come first served, as
//! long as its caller does. One answer of any size fits an empty budget.
//!
//! Answers that nobody reads would keep the room for ever. So while a read has waited for
//! [`LOOK_INTERVAL`], streams whose reader has taken nothing for [`STALLED_TIME`] are cut off:
//! their clients find the stream reset, and go on as after any lost stream.
//!
//! Writes do not wait here, for what a write answers has no bytes; a compare-and-swap answers the
//! value before it, which takes its share whatever is left, and is refused at the door while
//! nothing is left.
//!
//! The budgets live in drivers alone: the core answers what it is asked, and the simulator holds
//! what it has asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flotilla_host::core::budget::ByteBudget;
use flotilla_net::paced::Pace;
use flotilla_types::Op;
use flotilla_types::limits::{CHUNK_BYTES_MAX, REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use tokio::sync::oneshot;

use super::config::UnderWay;

/// How long a read waits before it looks for streams that stand still, and between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A reader that takes nothing for this long may be cut off: longer than a lost packet takes to be
/// sent again, and no longer than callers wait.
const STALLED_TIME: Duration = Duration::from_secs(2);

/// The budgets of a store's answers.
#[derive(Clone, Debug)]
pub struct AnswerBudgets {
    /// Answers to gets and compare-and-swaps.
    pub gets: Answers,
    /// Chunks of scans.
    pub scans: Answers,
    /// That part of `gets` and of `scans` each which reads may hold that wait for the worker: a
    /// region without a quorum leaves the others the rest.
    by_worker: [Answers; 2],
    /// Reads that wait for another thread or for room, and scans that are open: what they take
    /// beside their answers.
    pub waiting: Arc<ByteBudget>,
}

impl AnswerBudgets {
    /// Budgets of these bytes.
    pub fn new(bytes: UnderWay) -> AnswerBudgets {
        let (gets, scans) = (bytes.gets_bytes_max, bytes.scans_bytes_max);
        AnswerBudgets {
            gets: Answers::new(gets),
            scans: Answers::new(scans),
            by_worker: [Answers::new(gets / 2), Answers::new(scans / 2)],
            waiting: ByteBudget::new(bytes.waiting_bytes_max),
        }
    }

    /// Waits for room for the answer to a read, which weighs so many bytes or more.
    pub async fn room_for(&self, op: &Op, bytes: usize) -> Share {
        match op {
            Op::Scan(_) => self.scans.wait(CHUNK_BYTES_MAX.max(bytes)).await,
            Op::Get(_) | Op::Write(_) => self.gets.wait(self.gets.likely(op).max(bytes)).await,
        }
    }

    /// Waits until a read that has room may wait for the worker.
    pub async fn turn_at_worker(&self, op: &Op) -> Share {
        let [gets, scans] = &self.by_worker;
        match op {
            Op::Scan(_) => scans.wait(CHUNK_BYTES_MAX).await,
            Op::Get(_) | Op::Write(_) => gets.wait(gets.likely(op)).await,
        }
    }
}

/// A budget of answers. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Answers(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    bytes_max: usize,
    state: Mutex<State>,
    /// Locked before a stream's own lock, under which shares are given back.
    leaving: Mutex<Leaving>,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    waiting: VecDeque<Waiting>,
}

/// The streams that answers leave by.
#[derive(Debug, Default)]
struct Leaving {
    streams: Vec<Pace>,
    looked_at: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    granted: oneshot::Sender<Share>,
}

/// A part of a budget that an answer holds.
#[derive(Debug)]
pub struct Share {
    of: Answers,
    bytes: usize,
}

impl Answers {
    /// A budget of so many bytes.
    pub fn new(bytes_max: usize) -> Answers {
        let (state, leaving) = (Mutex::default(), Mutex::default());
        Answers(Arc::new(Budget { bytes_max, state, leaving }))
    }

    /// The most bytes.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.state().held
    }

    /// True while less is held than may be.
    pub fn has_room(&self) -> bool {
        self.held() < self.0.bytes_max
    }

    /// What the answer to a get is taken to weigh before it is read: as much as it can, but for one
    /// value, of which sixteen threads read at once. Few values weigh more.
    fn likely(&self, op: &Op) -> usize {
        match op {
            Op::Get(keys) if keys.len() > 1 => (keys.len() * VALUE_BYTES_MAX).min(REPLY_BYTES_MAX),
            Op::Get(_) | Op::Scan(_) | Op::Write(_) => VALUE_BYTES_MAX.min(self.0.bytes_max / 16),
        }
    }

    /// Takes so many bytes if they fit and nobody waits.
    pub fn try_take(&self, bytes: usize) -> Option<Share> {
        let mut state = self.state();
        let fits = state.waiting.is_empty() && state.fits(bytes, self.0.bytes_max);
        fits.then(|| self.share(&mut state, bytes))
    }

    /// Takes so many bytes, whatever is left.
    pub fn take(&self, bytes: usize) -> Share {
        self.share(&mut self.state(), bytes)
    }

    /// Waits until so many bytes fit.
    pub async fn wait(&self, bytes: usize) -> Share {
        let mut granted = {
            let mut state = self.state();
            if state.waiting.is_empty() && state.fits(bytes, self.0.bytes_max) {
                return self.share(&mut state, bytes);
            }
            let (sender, granted) = oneshot::channel();
            state.waiting.push_back(Waiting { bytes, granted: sender });
            granted
        };
        loop {
            match tokio::time::timeout(LOOK_INTERVAL, &mut granted).await {
                Ok(Ok(share)) => return share,
                // Waiters are only ever granted; none is forgotten.
                Ok(Err(_)) => return self.take(bytes),
                Err(_) => self.cut_stalled(),
            }
        }
    }

    /// Answers of this budget leave by this stream, too.
    pub fn leave_by(&self, stream: Pace) {
        let Leaving { streams, .. } = &mut *self.leaving();
        if streams.len() == streams.capacity() {
            streams.retain(|stream| !stream.is_over());
        }
        streams.push(stream);
    }

    /// Cuts off the streams whose readers stand still.
    fn cut_stalled(&self) {
        let stalled: Vec<Pace> = {
            let Leaving { streams, looked_at } = &mut *self.leaving();
            if looked_at.is_some_and(|at| at.elapsed() < LOOK_INTERVAL) {
                return;
            }
            *looked_at = Some(Instant::now());
            streams.retain(|stream| !stream.is_over());
            streams.iter().filter(|stream| stream.stands_still(STALLED_TIME)).cloned().collect()
        };
        stalled.iter().for_each(Pace::cut);
        // Whoever waits no more makes room for those behind.
        self.give_back(0);
    }

    fn share(&self, state: &mut State, bytes: usize) -> Share {
        state.held += bytes;
        Share { of: self.clone(), bytes }
    }

    fn give_back(&self, bytes: usize) {
        let mut granted = vec![];
        {
            let mut state = self.state();
            state.held -= bytes;
            while let Some(first) = state.waiting.front()
                && (first.granted.is_closed() || state.fits(first.bytes, self.0.bytes_max))
                && let Some(Waiting { bytes, granted: sender }) = state.waiting.pop_front()
            {
                if !sender.is_closed() {
                    granted.push((sender, self.share(&mut state, bytes)));
                }
            }
        }
        for (sender, share) in granted {
            // Whoever is gone meanwhile gives the share back by this.
            drop(sender.send(share));
        }
    }

    fn leaving(&self) -> MutexGuard<'_, Leaving> {
        self.0.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fits(&self, bytes: usize, bytes_max: usize) -> bool {
        self.held == 0 || self.held + bytes <= bytes_max
    }
}

impl Share {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what is more than `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.bytes -= more;
        self.of.give_back(more);
    }

    /// Holds what `other`, of the same budget, held.
    pub fn join(&mut self, mut other: Share) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.of.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Answers {
        fn waiting(&self) -> usize {
            self.state().waiting.len()
        }
    }

    #[tokio::test]
    async fn reads_wait_in_their_order_until_there_is_room() {
        let answers = Answers::new(100);
        let first = answers.wait(60).await;
        let (large, small) = (answers.clone(), answers.clone());
        let large = tokio::spawn(async move { large.wait(90).await });
        tokio::task::yield_now().await;
        let small = tokio::spawn(async move { small.wait(1).await });
        tokio::task::yield_now().await;
        assert_eq!((answers.held(), answers.waiting()), (60, 2), "none overtakes");
        assert!(answers.try_take(1).is_none());
        drop(first);
        let (large, small) = (large.await.expect("granted"), small.await.expect("granted"));
        assert_eq!((answers.held(), answers.waiting()), (91, 0));
        drop((large, small));
        assert_eq!(answers.held(), 0);
    }

    #[tokio::test]
    async fn one_answer_of_any_size_fits_an_empty_budget() {
        let answers = Answers::new(100);
        let share = answers.wait(1_000).await;
        assert!(!answers.has_room() && answers.try_take(1).is_none());
        drop(share);
        assert!(answers.has_room());
    }

    #[tokio::test]
    async fn who_waits_no_more_keeps_nothing_and_nobody_behind_waits_for_it() {
        let answers = Answers::new(100);
        let held = answers.wait(100).await;
        let gone = tokio::time::timeout(Duration::from_millis(1), answers.wait(100)).await;
        assert!(gone.is_err());
        let behind = answers.clone();
        let behind = tokio::spawn(async move { behind.wait(10).await.bytes() });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(behind.await.expect("granted"), 10);
        assert_eq!((answers.held(), answers.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn a_read_goes_on_once_the_one_before_it_waits_no_more() {
        let answers = Answers::new(100);
        let _held = answers.wait(60).await;
        let large = tokio::time::timeout(Duration::from_millis(1), answers.wait(90));
        let (large, small) = tokio::join!(large, answers.wait(10));
        assert!(large.is_err());
        assert_eq!((small.bytes(), answers.held(), answers.waiting()), (10, 70, 0));
    }

    #[test]
    fn a_share_is_given_back_while_streams_are_looked_at() {
        let answers = Answers::new(100);
        let share = answers.take(10);
        let _looking = answers.leaving();
        drop(share);
        assert_eq!(answers.held(), 0);
    }

    #[test]
    fn a_share_is_what_the_answer_weighs_and_gives_back_all_of_it() {
        let answers = Answers::new(100);
        let mut share = answers.take(90);
        share.shrink(20);
        assert_eq!(answers.held(), 20);
        share.shrink(150);
        share.join(answers.take(7));
        assert_eq!((share.bytes(), answers.held()), (27, 27));
        drop(share);
        assert_eq!(answers.held(), 0);
    }
}
