//! What reaches a member's thread, and who waits for its answers.

use flotilla_host::core::message::Envelope;
use flotilla_host::driver::inbox::{InboxLimits, InboxReceiver, InboxSender};
use flotilla_types::placement::{PdError, PdReply, PdRequest};
use tokio::sync::oneshot;

use crate::core::Input;

/// What calls may wait; beyond it callers are told to try again. A turn takes milliseconds, so the
/// last of these requests still waits less than a second. The bytes are those of a few of the
/// largest heartbeats.
const LIMITS: InboxLimits = InboxLimits { mails_max: 4096, bytes_max: 64 * 1024 * 1024 };

/// Where an answer goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<PdReply, PdError>>;

/// What reaches the thread.
pub(crate) enum Mail {
    /// Answer a request.
    Call { request: Box<PdRequest>, reply: ReplyTo },
    /// Step what other members say.
    Messages(Vec<Envelope>),
    /// Something to step, reported by a thread of this process.
    Input(Input),
    /// The disk failed on another thread.
    Failed(String),
    /// Make everything durable and end.
    Stop,
}

/// The way into the thread.
pub(crate) type Inbox = InboxSender<Mail>;

/// A new inbox.
pub(crate) fn inbox() -> (Inbox, InboxReceiver<Mail>) {
    flotilla_host::driver::inbox::inbox(LIMITS)
}
