//! What reaches the worker's thread, and who waits for its answers.

use std::time::Instant;

use bytes::Bytes;
use flotilla_host::core::message::Envelope;
use flotilla_host::driver::inbox::{InboxLimits, InboxReceiver, InboxSender};
use flotilla_types::{RegionError, RegionId};
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use super::answers::{Answers, Share};
use crate::core::census::Census;
use crate::core::held_replica::HeldReplica;
use crate::core::held_routes::HeldRoutes;
use crate::core::{Answer, Input, Request};

use super::trace;

/// Messages that may wait, and requests: a few turns' worth of the busiest store each.
const MAILS_MAX: usize = 16 * 1024;

/// A store's answer to a request.
pub type RequestResult = Result<Answer, RegionError>;

/// An answer on its way to a client's stream.
pub struct Answered {
    /// The client's id of the request.
    pub id: u64,
    /// The answer.
    pub result: RequestResult,
    /// What the answer holds of the store's memory, unless it is small.
    pub share: Option<Share>,
}

/// The way to a client's stream.
#[derive(Clone)]
pub struct StreamReplies {
    queue: mpsc::UnboundedSender<Answered>,
    answers: Answers,
}

impl StreamReplies {
    /// The way by `queue`, for answers of this budget.
    pub fn new(queue: mpsc::UnboundedSender<Answered>, answers: Answers) -> StreamReplies {
        StreamReplies { queue, answers }
    }

    /// Sends an answer; a caller that is gone does not mind.
    pub fn send(&self, id: u64, result: RequestResult, share: Option<Share>) {
        let _ = self.queue.send(Answered { id, result, share });
    }
}

/// Who asked.
pub enum ReplyTo {
    /// A request of a client's stream, by the client's id.
    Stream(u64, StreamReplies),
    /// The same, of a request that the log tells; see [`super::trace`].
    Traced(Box<(Span, ReplyTo)>),
    /// A single caller.
    Once(oneshot::Sender<RequestResult>),
}

impl ReplyTo {
    /// Answers; a caller that is gone does not mind.
    pub fn send(self, result: RequestResult) {
        match self {
            ReplyTo::Traced(traced) => {
                let (span, reply_to) = *traced;
                trace::answered(&span, &result);
                reply_to.send(result);
            }
            ReplyTo::Stream(id, replies) => {
                // Only a compare-and-swap's answer has a size, and it was not known before.
                let bytes = result.as_ref().map_or(0, Answer::bytes);
                let share = (bytes > 0).then(|| replies.answers.take(bytes));
                replies.send(id, result, share);
            }
            ReplyTo::Once(sink) => drop(sink.send(result)),
        }
    }
}

/// What reaches the worker's thread.
pub enum Mail {
    /// Something to step.
    Input(Box<Input>),
    /// Messages that came from another store together.
    Messages(Vec<Envelope>),
    /// A request, who asked, and when; the thread chooses the id.
    Request(Request, ReplyTo, Instant),
    /// Which regions are held from this key on, at most so many.
    Routes(Bytes, u64, oneshot::Sender<HeldRoutes>),
    /// How many regions are in which state.
    Census(oneshot::Sender<Census>),
    /// What the replica of this region has applied.
    Replica(RegionId, oneshot::Sender<Option<HeldReplica>>),
    /// The disk failed on another thread.
    Failed(String),
    /// Make everything durable and end.
    Stop,
}

impl From<Input> for Mail {
    fn from(input: Input) -> Mail {
        Mail::Input(Box::new(input))
    }
}

/// The way into the worker's thread.
pub type Inbox = InboxSender<Mail>;

/// A new inbox, for so many bytes in each lane.
pub fn inbox(bytes_max: usize) -> (Inbox, InboxReceiver<Mail>) {
    flotilla_host::driver::inbox::inbox(InboxLimits { mails_max: MAILS_MAX, bytes_max })
}
