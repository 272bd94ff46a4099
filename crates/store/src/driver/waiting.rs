//! The callers that wait for the worker's answers, and where the time of their requests went.
//!
//! A request is stepped in a turn; the turn's flush proposes what was stepped, and its log write
//! makes that durable here; a later flush finds it committed, applies it and answers. So each
//! caller keeps when it came and the number of its turn's flush, and for the last flushes it is
//! known when their log writes were done.

use std::collections::HashMap;
use std::time::Instant;

use flotilla_types::Op;

use super::inbox::{ReplyTo, RequestResult};
use super::metrics::StoreMetrics;
use crate::core::{Output, Request, RequestId};

/// Flushes of which the log write is remembered: a write that takes longer is timed as a whole.
const FLUSHES_KEPT: usize = 256;

/// See the module's documentation.
pub struct Waiting {
    metrics: StoreMetrics,
    callers: HashMap<RequestId, Caller>,
    next_request: u64,
    flushes: u64,
    flushed_at: Instant,
    written: [(u64, Instant); FLUSHES_KEPT],
}

struct Caller {
    reply_to: ReplyTo,
    kind: Kind,
    offered_at: Instant,
    taken_at: Instant,
    /// The flush that proposes it.
    flush: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    LeaseRead,
    IndexRead,
}

impl Waiting {
    /// Nobody waits.
    pub fn new(metrics: StoreMetrics) -> Waiting {
        let now = Instant::now();
        Waiting {
            metrics,
            callers: HashMap::new(),
            next_request: 1,
            flushes: 0,
            flushed_at: now,
            written: [(0, now); FLUSHES_KEPT],
        }
    }

    /// Gives a request an id, under which its answer finds the caller.
    pub fn accept(&mut self, request: Request, reply_to: ReplyTo, offered_at: Instant) -> Request {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let kind = match request.op {
            Op::Write(_) => Kind::Write,
            Op::Get(_) | Op::Scan(_) => Kind::IndexRead,
        };
        let (taken_at, flush) = (Instant::now(), self.flushes + 1);
        self.callers.insert(id, Caller { reply_to, kind, offered_at, taken_at, flush });
        Request { id, ..request }
    }

    /// The request was stepped and this is what came out: a read that is answered at once was read
    /// under the lease.
    pub fn stepped(&mut self, id: RequestId, out: &[Output]) {
        let is_answered =
            matches!(out.last(), Some(Output::Reply { id: answered, .. }) if *answered == id);
        if is_answered
            && let Some(caller) = self.callers.get_mut(&id)
            && caller.kind == Kind::IndexRead
        {
            caller.kind = Kind::LeaseRead;
        }
    }

    /// A flush begins.
    pub fn flush(&mut self) {
        self.flushes += 1;
        self.flushed_at = Instant::now();
    }

    /// The log has what the latest flush gave it.
    pub fn log_written(&mut self, at: Instant) {
        self.written[self.flushes as usize % FLUSHES_KEPT] = (self.flushes, at);
    }

    /// Answers the caller.
    pub fn reply(&mut self, id: RequestId, result: RequestResult) {
        let Some(caller) = self.callers.remove(&id) else { return };
        match &result {
            Ok(_) => self.note(&caller),
            Err(error) => self.metrics.refused(error),
        }
        caller.reply_to.send(result);
    }

    /// Answers all callers.
    pub fn reply_all(&mut self, result: &RequestResult) {
        for (_, caller) in self.callers.drain() {
            caller.reply_to.send(result.clone());
        }
    }

    fn note(&self, caller: &Caller) {
        let now = Instant::now();
        let whole = now.saturating_duration_since(caller.offered_at);
        match caller.kind {
            Kind::LeaseRead => self.metrics.reads.lease.observe(whole),
            Kind::IndexRead => self.metrics.reads.read_index.observe(whole),
            Kind::Write => {
                let stages = &self.metrics.writes;
                stages.whole.observe(whole);
                let inbox = caller.taken_at.saturating_duration_since(caller.offered_at);
                stages.inbox.observe(inbox);
                let (flush, written) = self.written[caller.flush as usize % FLUSHES_KEPT];
                if flush != caller.flush {
                    return;
                }
                stages.log.observe(written.saturating_duration_since(caller.taken_at));
                stages.quorum.observe(self.flushed_at.saturating_duration_since(written));
                let committed = self.flushed_at.max(written);
                stages.apply.observe(now.saturating_duration_since(committed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_metrics::Registry;
    use flotilla_types::{Answer, Epoch, Millis, RegionId, StoreId, WriteOp};
    use tokio::sync::oneshot;

    fn accept(waiting: &mut Waiting, op: Op) -> RequestId {
        let request = Request {
            id: RequestId(0),
            region: RegionId(1),
            epoch: Epoch::default(),
            deadline: Millis(9),
            op,
        };
        let (sink, _answer) = oneshot::channel();
        waiting.accept(request, ReplyTo::Once(sink), Instant::now()).id
    }

    #[test]
    fn a_write_is_timed_by_stage_and_a_read_by_kind() {
        let metrics = StoreMetrics::new(&Registry::default(), StoreId(1));
        let mut waiting = Waiting::new(metrics.clone());
        let write = accept(&mut waiting, Op::Write(WriteOp::Mutate(vec![])));
        let (lease, index) =
            (accept(&mut waiting, Op::Get(vec![])), accept(&mut waiting, Op::Get(vec![])));
        let answered = [Output::Reply { id: lease, result: Ok(Answer::Get(vec![])) }];
        waiting.stepped(lease, &answered);
        waiting.stepped(index, &answered);
        waiting.flush();
        waiting.log_written(Instant::now());
        waiting.flush();
        for id in [write, lease, index] {
            waiting.reply(id, Ok(Answer::Written));
        }
        let WriteStages { inbox, log, quorum, apply, whole } = &metrics.writes;
        assert_eq!([inbox, log, quorum, apply, whole].map(|stage| stage.count()), [1; 5]);
        assert_eq!((metrics.reads.lease.count(), metrics.reads.read_index.count()), (1, 1));
    }

    #[test]
    fn a_write_whose_log_write_is_forgotten_is_timed_as_a_whole() {
        let metrics = StoreMetrics::new(&Registry::default(), StoreId(1));
        let mut waiting = Waiting::new(metrics.clone());
        let write = accept(&mut waiting, Op::Write(WriteOp::Mutate(vec![])));
        for _ in 0..=FLUSHES_KEPT {
            waiting.flush();
            waiting.log_written(Instant::now());
        }
        waiting.reply(write, Ok(Answer::Written));
        assert_eq!((metrics.writes.whole.count(), metrics.writes.quorum.count()), (1, 0));
    }

    use super::super::metrics::WriteStages;
}
