//! A scan's position: what is left of the range, and where its next rows come from.
//!
//! In: the driver's chunks, region ends and failures. Out: the next request to open
//! ([`Cursor::next`]). After each row the position is exact, so that a scan resumes behind the last
//! key seen whatever happened to the region or its leader: no row is skipped or given twice.
//!
//! A scan over several chunks or regions is not one snapshot: a row written meanwhile may or may
//! not be seen, but each chunk is linearizable by itself.

use flotilla_types::keys::key_after;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{KeyRange, Millis, StoreId, proto};

use super::attempt::{AttemptState, RetryContext};
use super::failure::Failure;
use super::plan::no_route;
use super::retry::{Action, Attempts};
use super::router::{Destination, Miss, Router, Sent, clip};

/// What the driver is to do for a scan.
#[derive(Clone, Debug, PartialEq)]
pub enum ScanNext {
    /// The range is exhausted or the limit reached.
    Done,
    /// Open this scan, feed its chunks to [`Cursor::rows`].
    Open {
        /// Where to.
        to: Destination,
        /// The part of the range that lies in the region.
        span: KeyRange,
        /// Rows wanted; 0 for no limit.
        limit: u64,
    },
    /// Look this up, then call [`Cursor::next`] again or [`Cursor::failed`].
    LookUp(Miss),
    /// Looking up did not help: call [`Cursor::failed`] with it.
    Stuck(Failure),
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Cursor {
    left: KeyRange,
    rows_left: Option<u64>,
    reverse: bool,
    span: KeyRange,
    attempt: AttemptState,
}

impl Cursor {
    /// A scan of `range` (stored keys) for at most `limit` rows, from its end if `reverse`.
    pub fn new(range: KeyRange, limit: Option<u64>, reverse: bool, attempts: Attempts) -> Cursor {
        Cursor {
            left: range,
            rows_left: limit,
            reverse,
            span: KeyRange::default(),
            attempt: AttemptState::new(attempts),
        }
    }

    /// What to do next.
    pub fn next(&mut self, router: &Router, avoid: &dyn Fn(StoreId) -> bool) -> ScanNext {
        if self.left.is_empty() || self.rows_left == Some(0) {
            return ScanNext::Done;
        }
        let region = if self.reverse {
            router.region_below(&self.left.end)
        } else {
            router.region_at(&self.left.start)
        };
        let found = match region {
            Some(region) => router
                .destination(region, &self.attempt.hints(avoid))
                .map(|to| (to, clip(&self.left, region))),
            None if self.reverse => Err(Miss::RegionBelow(self.left.end.clone())),
            None => Err(Miss::Region(self.left.start.clone())),
        };
        match found {
            Ok((to, span)) => {
                self.attempt.begin(to.sent);
                self.span = span.clone();
                ScanNext::Open { to, span, limit: self.rows_left.unwrap_or(0) }
            }
            Err(miss) if self.attempt.may_look_up() => ScanNext::LookUp(miss),
            Err(miss) => ScanNext::Stuck(no_route(&miss)),
        }
    }

    /// Whom the scan under way asks.
    pub fn sent(&self) -> Option<Sent> {
        self.attempt.sent()
    }

    /// When the next row must have come.
    pub fn deadline(&self) -> Millis {
        self.attempt.attempts().deadline()
    }

    /// Gives the next row a new deadline and forgets earlier failures.
    pub fn start_wait(&mut self, deadline: Millis) {
        self.attempt.progressed(deadline);
    }

    /// Takes a chunk of the scan under way. An error means that the rows are not in order, outside
    /// the span or more than asked for: the position is then as before.
    pub fn rows(&mut self, pairs: &[proto::Pair]) -> Result<(), Failure> {
        let mut left = self.left.clone();
        for pair in pairs {
            if !left.contains(&pair.key) || !self.span.contains(&pair.key) {
                return Err(Failure::InvalidResponse { what: "a scan's row out of order".into() });
            }
            if self.reverse {
                left.end = pair.key.clone();
            } else {
                left.start = key_after(&pair.key);
            }
        }
        if let Some(rows_left) = &mut self.rows_left {
            *rows_left =
                rows_left.checked_sub(pairs.len() as u64).ok_or(Failure::InvalidResponse {
                    what: "a scan with more rows than asked for".into(),
                })?;
        }
        self.left = left;
        Ok(())
    }

    /// Notes that the span of the scan under way is exhausted (or the limit reached).
    pub fn span_done(&mut self) {
        let at_the_end = if self.reverse {
            self.span.start <= self.left.start
        } else {
            self.span.end == self.left.end
        };
        if at_the_end || planted(Mutant::ScanEndsAtBorder) {
            self.rows_left = Some(0);
        } else if self.reverse {
            self.left.end = self.span.start.clone();
        } else {
            self.left.start = self.span.end.clone();
        }
    }

    /// Takes a failure and says what to do; on [`Action::Retry`], call [`Cursor::next`] when the
    /// time has come.
    pub fn failed(&mut self, failure: &Failure, shared: &mut RetryContext<'_>) -> Action {
        self.attempt.failed(failure, shared)
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
