//! What reaches the worker's thread, and who waits for its answers.

use std::time::Instant;

use bytes::Bytes;
use flotilla_host::core::message::Envelope;
use flotilla_host::driver::inbox::{InboxLimits, InboxReceiver, InboxSender};
use flotilla_types::{RegionError, RegionId};
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::core::census::Census;
use crate::core::held_replica::HeldReplica;
use crate::core::held_routes::HeldRoutes;
use crate::core::{Answer, Input, Request};

use super::trace;

/// What may wait of messages, and of requests: a few turns' worth of the busiest store each.
const LIMITS: InboxLimits = InboxLimits { mails_max: 16 * 1024, bytes_max: 64 * 1024 * 1024 };

/// A store's answer to a request.
pub type RequestResult = Result<Answer, RegionError>;

/// Who asked.
pub enum ReplyTo {
    /// A request of a client's stream, by the client's id.
    Stream(u64, mpsc::UnboundedSender<(u64, RequestResult)>),
    /// The same, of a request that the log tells; see [`super::trace`].
    Traced(Box<(Span, ReplyTo)>),
    /// A single caller.
    Once(oneshot::Sender<RequestResult>),
}

impl ReplyTo {
    /// Answers; a caller that is gone does not mind.
    pub fn send(self, result: RequestResult) {
        match self {
            ReplyTo::Stream(id, sink) => drop(sink.send((id, result))),
            ReplyTo::Traced(traced) => {
                let (span, reply_to) = *traced;
                trace::answered(&span, &result);
                reply_to.send(result);
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

/// A new inbox.
pub fn inbox() -> (Inbox, InboxReceiver<Mail>) {
    flotilla_host::driver::inbox::inbox(LIMITS)
}
