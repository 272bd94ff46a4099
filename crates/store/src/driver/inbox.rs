//! The way into the worker's thread: bounded for what comes from outside, open for what the
//! store's own threads report.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use flotilla_types::RegionError;
use flotilla_types::proto::Envelope;
use tokio::sync::{mpsc, oneshot};

use crate::core::{Answer, Input, Request};

/// Mails from outside that wait: a few turns' worth of the busiest store.
const MAILS_MAX: usize = 16 * 1024;

/// Their bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A store's answer to a request.
pub type RequestResult = Result<Answer, RegionError>;

/// Who asked.
pub enum ReplyTo {
    /// A request of a client's stream, by the client's id.
    Stream(u64, mpsc::UnboundedSender<(u64, RequestResult)>),
    /// A single caller.
    Once(oneshot::Sender<RequestResult>),
}

impl ReplyTo {
    /// Answers; a caller that is gone does not mind.
    pub fn send(self, result: RequestResult) {
        match self {
            ReplyTo::Stream(id, sink) => drop(sink.send((id, result))),
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
    /// A request, and who asked; the thread chooses the id.
    Request(Request, ReplyTo),
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

struct Weighed {
    mail: Mail,
    bytes: Option<usize>,
}

#[derive(Default)]
struct Load {
    mails: AtomicUsize,
    bytes: AtomicUsize,
}

/// The sending half.
#[derive(Clone)]
pub struct Inbox {
    sender: Sender<Weighed>,
    load: Arc<Load>,
}

/// The receiving half.
pub struct InboxReceiver {
    receiver: Receiver<Weighed>,
    load: Arc<Load>,
}

/// A new inbox.
pub fn inbox() -> (Inbox, InboxReceiver) {
    let (sender, receiver) = channel();
    let load = Arc::new(Load::default());
    (Inbox { sender, load: load.clone() }, InboxReceiver { receiver, load })
}

impl Inbox {
    /// Puts a mail of about `bytes` from outside in. Gives it back if there is no room, or nobody
    /// reads any more.
    pub fn offer(&self, mail: Mail, bytes: usize) -> Result<(), Box<Mail>> {
        let mails = self.load.mails.fetch_add(1, Ordering::Relaxed);
        let held = self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_full = mails >= MAILS_MAX || (held > 0 && held + bytes > BYTES_MAX);
        let weighed = Weighed { mail, bytes: Some(bytes) };
        let refused =
            if is_full { Some(weighed) } else { self.sender.send(weighed).err().map(|e| e.0) };
        match refused {
            None => Ok(()),
            Some(weighed) => {
                self.load.lighten(bytes);
                Err(Box::new(weighed.mail))
            }
        }
    }

    /// Puts a report of the store's own threads in; their number is bounded by what was asked.
    pub fn report(&self, mail: Mail) {
        // Nobody reads: the worker has ended, and the report concerns nobody.
        let _ = self.sender.send(Weighed { mail, bytes: None });
    }
}

impl Load {
    fn lighten(&self, bytes: usize) {
        self.mails.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl InboxReceiver {
    /// The next mail; None if none came within `wait`.
    pub fn wait(&self, wait: Duration) -> Result<Option<Mail>, ()> {
        match self.receiver.recv_timeout(wait) {
            Ok(weighed) => Ok(Some(self.open(weighed))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// The next mail, if one is there.
    pub fn take(&self) -> Option<Mail> {
        self.receiver.try_recv().ok().map(|weighed| self.open(weighed))
    }

    fn open(&self, weighed: Weighed) -> Mail {
        if let Some(bytes) = weighed.bytes {
            self.load.lighten(bytes);
        }
        weighed.mail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick() -> Mail {
        Mail::from(Input::Tick)
    }

    #[test]
    fn a_full_inbox_gives_mails_back_and_still_takes_reports() {
        let (inbox, receiver) = inbox();
        assert!(inbox.offer(tick(), BYTES_MAX).is_ok());
        assert!(inbox.offer(tick(), 1).is_err());
        inbox.report(Mail::Stop);
        assert!(matches!(receiver.take(), Some(Mail::Input(_))));
        assert!(inbox.offer(tick(), 1).is_ok());
        assert!(matches!(receiver.take(), Some(Mail::Stop)));
    }

    #[test]
    fn one_mail_of_any_size_fits_an_empty_inbox() {
        let (inbox, _receiver) = inbox();
        assert!(inbox.offer(tick(), BYTES_MAX + 1).is_ok());
    }
}
