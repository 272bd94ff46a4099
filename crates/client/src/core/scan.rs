//! A scan: what is left of its range, and where its next rows come from.
//!
//! In: chunks, region ends, failures. Out: what to do next ([`Cursor::next`]). After each row the
//! position is exact, so that a scan resumes behind the last key seen whatever happened to the
//! region or its leader: no row is skipped or given twice.
//!
//! ```text
//! loop {
//!     match cursor.next(context)? {
//!         Done => return,
//!         Open => open it; for each chunk: cursor.chunk(context, keys, is_last)
//!         LookUp => ask PD; cursor.looked_up(context, result)?
//!         Wait => wait
//!     }
//!     on a failure: cursor.failed(context, failure)?
//! }
//! ```
//!
//! Invariant: no attempt begins at or after the deadline.
//!
//! A scan over several chunks or regions is not one snapshot: a row written meanwhile may or may
//! not be seen, but each chunk is linearizable by itself.

use bytes::Bytes;
use flotilla_types::keys::key_after;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{KeyRange, Millis, StoreId};

use crate::error::{Error, Result};

use super::attempt::{ATTEMPT_MS_MAX, AttemptState, Blocked};
use super::context::ClientContext;
use super::ending::Ending;
use super::failure::Failure;
use super::retry::{Action, Attempts, Idempotency};
use super::router::{Destination, Miss, Router, clip};

/// What the driver is to do for a scan.
#[derive(Clone, Debug, PartialEq)]
pub enum ScanStep {
    /// The range is exhausted or the limit reached.
    Done,
    /// Open this scan and hand its chunks to [`Cursor::chunk`], or its failure to
    /// [`Cursor::failed`].
    Open {
        /// Where to.
        to: Destination,
        /// The part of the range that lies in the region.
        span: KeyRange,
        /// Rows wanted; 0 for no limit.
        limit: u64,
    },
    /// Ask PD by [`Cursor::deadline`], then call [`Cursor::looked_up`].
    LookUp(Miss),
    /// Wait, then call [`Cursor::next`] again.
    Wait {
        /// Until when.
        until: Millis,
    },
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Cursor {
    left: KeyRange,
    rows_left: Option<u64>,
    is_reverse: bool,
    span: KeyRange,
    attempt: AttemptState,
    /// What [`Cursor::failed`] decided.
    wait_until: Option<Millis>,
    /// Why the last lookup failed: the error to show if the scan runs out of time on it.
    last_lookup: Option<Error>,
}

impl Cursor {
    /// A scan of `range` (stored keys) for at most `limit` rows, from its end if `is_reverse`.
    pub fn new(range: KeyRange, limit: Option<u64>, is_reverse: bool, deadline: Millis) -> Cursor {
        Cursor {
            left: range,
            rows_left: limit,
            is_reverse,
            span: KeyRange::default(),
            attempt: AttemptState::new(Attempts::new(Idempotency::ReadOnly, deadline)),
            wait_until: None,
            last_lookup: None,
        }
    }

    /// What to do next.
    ///
    /// # Errors
    /// How the scan ended.
    pub fn next<C: ClientContext>(&mut self, context: &mut C) -> Result<ScanStep> {
        // A caller that stopped waiting for a row has abandoned the attempt.
        self.attempt.abandoned();
        if let Some(until) = self.wait_until.take() {
            return Ok(ScanStep::Wait { until });
        }
        if self.left.is_empty() || self.rows_left == Some(0) {
            return Ok(ScanStep::Done);
        }
        if context.now() >= self.deadline() {
            let failure = Failure::Timeout;
            return Err(Ending::DeadlineExceeded.error("scan", &failure, self.last_lookup.take()));
        }
        match context.route(|router, avoid| self.begin(router, avoid)) {
            Ok((to, span)) => {
                self.span = span.clone();
                Ok(ScanStep::Open { to, span, limit: self.rows_left.unwrap_or(0) })
            }
            Err(Blocked::LookUp(miss)) => Ok(ScanStep::LookUp(miss)),
            Err(Blocked::Stuck(failure)) => {
                self.last_lookup = None;
                self.failed(context, failure)?;
                self.next(context)
            }
        }
    }

    fn begin(
        &mut self,
        router: &Router,
        avoid: &dyn Fn(StoreId) -> bool,
    ) -> Result<(Destination, KeyRange), Blocked> {
        let region = if self.is_reverse {
            router.region_below(&self.left.end)
        } else {
            router.region_at(&self.left.start)
        };
        let found = match region {
            Some(region) => router.destination(region, &self.attempt.hints(avoid)),
            None if self.is_reverse => Err(Miss::RegionBelow(self.left.end.clone())),
            None => Err(Miss::Region(self.left.start.clone())),
        };
        let to = self.attempt.begin(found)?;
        Ok((to, region.map(|region| clip(&self.left, region)).unwrap_or_default()))
    }

    /// When the next row must have come.
    pub fn deadline(&self) -> Millis {
        self.attempt.attempts().deadline()
    }

    /// When the store counts as unreachable unless it was opened or the next chunk came by then.
    ///
    /// # Errors
    /// [`Failure::Timeout`] at or after the deadline: chunks may be ready faster than they can be
    /// taken, so that no timer of the driver would ever end the scan.
    pub fn give_up_at(&self, now: Millis) -> Result<Millis, Failure> {
        if now >= self.deadline() {
            return Err(Failure::Timeout);
        }
        Ok(self.deadline().min(now.plus(ATTEMPT_MS_MAX)))
    }

    /// Gives the next row a new deadline and forgets earlier failures.
    pub fn start_wait(&mut self, deadline: Millis) {
        self.attempt.progressed(deadline);
    }

    /// Takes a chunk of the scan under way: the keys of its rows, and whether the store says that
    /// it is the last one of the span.
    ///
    /// # Errors
    /// The rows are not in order, outside the span or more than asked for; the position is as
    /// before. Hand the failure to [`Cursor::failed`].
    ///
    /// # Panics
    /// If no scan is under way.
    pub fn chunk<'a, C: ClientContext>(
        &mut self,
        context: &mut C,
        keys: impl ExactSizeIterator<Item = &'a Bytes>,
        is_last: bool,
    ) -> Result<(), Failure> {
        let Some(sent) = self.attempt.sent() else { panic!("a chunk of a scan that is not open") };
        self.rows(keys)?;
        context.succeeded(&sent);
        // The deadline stays, for it belongs to the caller's wait. Failures before this progress do
        // not lengthen the next back-off.
        self.start_wait(self.deadline());
        if is_last {
            self.attempt.succeeded();
            self.span_done();
        }
        Ok(())
    }

    fn rows<'a>(&mut self, keys: impl ExactSizeIterator<Item = &'a Bytes>) -> Result<(), Failure> {
        let rows = keys.len() as u64;
        let mut left = self.left.clone();
        for key in keys {
            if !left.contains(key) || !self.span.contains(key) {
                return Err(Failure::InvalidResponse { what: "a scan's row out of order".into() });
            }
            if self.is_reverse {
                left.end = key.clone();
            } else {
                left.start = key_after(key);
            }
        }
        if let Some(rows_left) = &mut self.rows_left {
            let what = "a scan with more rows than it asked for".to_string();
            *rows_left = rows_left.checked_sub(rows).ok_or(Failure::InvalidResponse { what })?;
        }
        self.left = left;
        Ok(())
    }

    /// The span of the scan under way is exhausted, or the limit reached.
    fn span_done(&mut self) {
        let is_at_the_end = if self.is_reverse {
            self.span.start <= self.left.start
        } else {
            self.span.end == self.left.end
        };
        if is_at_the_end || planted(Mutant::ScanEndsAtBorder) {
            self.rows_left = Some(0);
        } else if self.is_reverse {
            self.left.end = self.span.start.clone();
        } else {
            self.left.start = self.span.end.clone();
        }
    }

    /// Takes the end of a lookup: PD has answered and the router has taken the answer over, or PD
    /// was not reached.
    ///
    /// # Errors
    /// How the scan ended.
    pub fn looked_up<C: ClientContext>(
        &mut self,
        context: &mut C,
        result: Result<()>,
    ) -> Result<()> {
        let error = match result {
            Ok(()) => {
                self.last_lookup = None;
                return Ok(());
            }
            Err(error) if !error.is_retryable() => return Err(error),
            Err(error) => error,
        };
        let failure = Failure::NoRoute { reason: error.to_string() };
        self.last_lookup = Some(error);
        self.failed(context, failure)
    }

    /// Takes the failure of the scan under way. [`Cursor::next`] says how long to wait.
    ///
    /// # Errors
    /// How the scan ended.
    pub fn failed<C: ClientContext>(&mut self, context: &mut C, failure: Failure) -> Result<()> {
        let sent = self.attempt.sent();
        let (now, action) = context.judge(sent, |retry| self.attempt.failed(&failure, retry));
        let ending = match action {
            Action::Retry { after_ms, .. } => {
                self.wait_until = Some(now.plus(after_ms));
                return Ok(());
            }
            Action::Fail => Ending::Failed,
            Action::DeadlineExceeded | Action::Undetermined => Ending::DeadlineExceeded,
        };
        Err(ending.error("scan", &failure, self.last_lookup.take()))
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
