//! One client's stream: requests in, replies out, in any order.
//!
//! The reader answers by itself what needs no other thread: refusals, and most reads under a permit
//! ([`super::reads`]), one batch of replies for one of requests. What other threads answer goes
//! through a queue to a second task. Replies carry their request's id, so their order is free.
//!
//! A store that is about to stop closes its streams: the reader takes no more requests, and once
//! those that were taken are answered, the second task says that this was the last
//! message. So the client knows of each request whether the store took it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use flotilla_types::limits::CHUNK_BYTES_MAX;
use flotilla_types::proto::{Reply, ReplyBatch, Request as WireRequest, RequestBatch};
use flotilla_types::{Op, WriteOp};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

use super::leaving::{Outgoing, Way};
use super::reads::{Looked, Room};
use super::{KvService, busy, codec};
use crate::driver::answers::Share;
use crate::driver::inbox::{Answered, ReplyTo, RequestResult, StreamReplies};
use crate::driver::trace;

/// Requests of one stream that are not answered yet; more are refused.
const STREAM_REQUESTS_MAX: usize = 8 * 1024;

/// Replies in one batch.
const REPLIES_MAX: usize = 1024;

type Batches = Way<ReplyBatch>;

/// Starts the two tasks of a stream; they end with it.
pub fn open(service: Arc<KvService>, requests: Streaming<RequestBatch>, batches: Batches) {
    let (replies, queue) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let closing = service.closing.subscribe();
    let replies = StreamReplies::new(replies, service.reads.budgets.gets.clone());
    let (replies_out, open_out) = (batches.clone(), open.clone());
    let reader =
        ClientStream { service, replies, replies_out, open: open_out, room: Room::default() };
    tokio::spawn(reader.run(requests, closing.clone()));
    tokio::spawn(async move {
        if write_replies(queue, &batches, &open).await == Written::All && *closing.borrow() {
            let last = ReplyBatch { replies: vec![], is_last: true };
            // A client that is gone does not mind.
            let _ = batches.send((Ok(last), None)).await;
        }
    });
}

/// What became of the other threads' answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// All requests that were taken are answered.
    All,
    /// The client is gone.
    Some,
}

/// One client's requests.
struct ClientStream {
    service: Arc<KvService>,
    /// To the task that sends the other threads' answers.
    replies: StreamReplies,
    /// To the network.
    replies_out: Batches,
    /// Requests that other threads have yet to answer.
    open: Arc<AtomicUsize>,
    /// That of the answers that leave with the next batch.
    room: Room,
}

impl ClientStream {
    async fn run(
        mut self,
        mut batches: Streaming<RequestBatch>,
        mut closing: watch::Receiver<bool>,
    ) {
        loop {
            let batch = match next_batch(&mut batches, &mut closing).await {
                Ok(Some(batch)) => batch,
                Ok(None) => return,
                Err(status) => {
                    // A client that is gone does not mind.
                    let _ = self.replies_out.send((Err(status), None)).await;
                    return;
                }
            };
            let refusal = self.service.check_destination(batch.cluster_id, batch.store_id).err();
            let (mut answered, mut bytes) = (vec![], 0);
            let mut begun = Instant::now();
            for request in batch.requests {
                let id = request.id;
                let result = match &refusal {
                    Some(error) => Err(error.clone()),
                    None => match self.ask(request, &mut begun) {
                        Some(result) => result,
                        None => continue,
                    },
                };
                if let Err(error) = &result {
                    self.service.metrics.refused(error);
                }
                let reply = Weighed::new(Answered { id, result, share: None });
                bytes += reply.bytes;
                answered.push(reply);
                // A client that asks for much waits for the network; memory does not.
                if bytes >= CHUNK_BYTES_MAX || answered.len() >= REPLIES_MAX {
                    bytes = 0;
                    let room = self.room.leave();
                    if send(&self.replies_out, answered.drain(..), room).await.is_err() {
                        return;
                    }
                }
            }
            let room = self.room.leave();
            if send(&self.replies_out, answered.into_iter(), room).await.is_err() {
                return;
            }
        }
    }

    /// Answers what needs no other thread, and asks one otherwise. `begun` is when the batch came,
    /// or when its last read was answered under a permit.
    fn ask(&mut self, wire: WireRequest, begun: &mut Instant) -> Option<RequestResult> {
        let id = wire.id;
        let service = &self.service;
        let span = trace::taken(service.identity.1, &wire);
        let (request, bytes) = match codec::request(service.clock.now(), wire) {
            Ok(decoded) => decoded,
            Err(error) => return Some(Err(error)),
        };
        let request = match &request.op {
            Op::Write(_) => request,
            Op::Get(_) | Op::Scan(_) => match service.reads.look(request, &mut self.room) {
                Looked::Answered(result) => {
                    let (now, before) = (Instant::now(), *begun);
                    *begun = now;
                    service.metrics.reads.permit.observe(now - before);
                    return Some(result);
                }
                Looked::Elsewhere(request) => request,
            },
        };
        let answers = &service.reads.budgets.gets;
        if matches!(request.op, Op::Write(WriteOp::CompareAndSwap(_))) && !answers.has_room() {
            return Some(Err(busy("the store has too many answers under way")));
        }
        if self.open.load(Ordering::Relaxed) >= STREAM_REQUESTS_MAX {
            return Some(Err(busy("this connection has too many requests open")));
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let replies = self.replies.clone();
        match &request.op {
            Op::Write(_) => {
                let mut reply_to = ReplyTo::Stream(id, replies);
                if let Some(span) = span {
                    reply_to = ReplyTo::Traced(Box::new((span, reply_to)));
                }
                service.put(request, bytes, reply_to);
            }
            Op::Get(_) | Op::Scan(_) => {
                let service = service.clone();
                tokio::spawn(async move {
                    let (result, share) = service.read_aside(request, bytes).await;
                    replies.send(id, result, share);
                });
            }
        }
        None
    }
}

/// The client's next requests; None if there are none, or the store closes its streams.
///
/// # Errors
/// What came is no batch, or one of more requests than a stream may have open.
async fn next_batch(
    batches: &mut Streaming<RequestBatch>,
    closing: &mut watch::Receiver<bool>,
) -> Result<Option<RequestBatch>, Status> {
    let closed = async {
        // An error means that the server is gone, which closes its streams, too.
        let _ = closing.wait_for(|is_closing| *is_closing).await;
    };
    let batch = tokio::select! {
        biased;
        () = closed => return Ok(None),
        batch = batches.message() => batch?,
    };
    match &batch {
        Some(batch) if batch.requests.len() > STREAM_REQUESTS_MAX => {
            let reason = format!("more than {STREAM_REQUESTS_MAX} requests in a batch");
            Err(Status::resource_exhausted(reason))
        }
        _ => Ok(batch),
    }
}

async fn write_replies(
    mut queue: mpsc::UnboundedReceiver<Answered>,
    batches: &Batches,
    open: &AtomicUsize,
) -> Written {
    let mut gathered = Vec::with_capacity(REPLIES_MAX);
    while queue.recv_many(&mut gathered, REPLIES_MAX).await > 0 {
        open.fetch_sub(gathered.len(), Ordering::Relaxed);
        if send(batches, gathered.drain(..).map(Weighed::new), None).await.is_err() {
            return Written::Some;
        }
    }
    Written::All
}

/// A reply, about what it weighs, and what it holds of the store's memory.
struct Weighed {
    reply: Reply,
    bytes: usize,
    share: Option<Share>,
}

impl Weighed {
    fn new(Answered { id, result, share }: Answered) -> Weighed {
        let (reply, bytes) = codec::reply((id, result));
        Weighed { reply, bytes, share }
    }
}

/// Sends replies, if there are any; `room` is what those hold that have no share of their own. An
/// error means that the client is gone.
async fn send(
    batches: &Batches,
    replies: impl Iterator<Item = Weighed>,
    room: Option<Share>,
) -> Result<(), mpsc::error::SendError<Outgoing<ReplyBatch>>> {
    let mut filled = in_batches(replies);
    if let Some(room) = room
        && let Some(last) = filled.last_mut()
    {
        last.hold(room);
    }
    for Batch { replies, share, .. } in filled {
        if !replies.is_empty() {
            batches.send((Ok(ReplyBatch { replies, is_last: false }), share)).await?;
        }
    }
    Ok(())
}

/// Replies that leave together.
#[derive(Default)]
struct Batch {
    replies: Vec<Reply>,
    bytes: usize,
    share: Option<Share>,
}

impl Batch {
    fn add(&mut self, Weighed { reply, bytes, share }: Weighed) {
        self.replies.push(reply);
        self.bytes += bytes;
        if let Some(share) = share {
            self.hold(share);
        }
    }

    fn hold(&mut self, share: Share) {
        match &mut self.share {
            Some(own) => own.join(share),
            None => self.share = Some(share),
        }
    }
}

/// Replies, cut so that each batch fits a message.
fn in_batches(replies: impl Iterator<Item = Weighed>) -> Vec<Batch> {
    let mut batches = vec![];
    let mut batch = Batch::default();
    for weighed in replies {
        if batch.bytes + weighed.bytes > CHUNK_BYTES_MAX && !batch.replies.is_empty() {
            batches.push(std::mem::take(&mut batch));
        }
        batch.add(weighed);
    }
    batches.push(batch);
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::answers::Answers;
    use flotilla_types::Answer;

    #[test]
    fn large_replies_are_spread_over_batches() {
        let answers = Answers::new(CHUNK_BYTES_MAX);
        let big = |id| {
            let value = Some(vec![0; CHUNK_BYTES_MAX].into());
            let share = Some(answers.take(CHUNK_BYTES_MAX));
            Weighed::new(Answered { id, result: Ok(Answer::Get(vec![value])), share })
        };
        let mut batches = in_batches([big(1), big(2)].into_iter());
        assert_eq!((batches.len(), answers.held()), (2, 2 * CHUNK_BYTES_MAX));
        batches.pop();
        assert_eq!(answers.held(), CHUNK_BYTES_MAX, "what has left holds nothing");
    }
}
