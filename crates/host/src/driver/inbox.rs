//! The way into a core's thread: bounded for what comes from outside, open for what the process's
//! own threads report.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How much from outside may wait in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxLimits {
    /// Mails.
    pub mails_max: usize,
    /// Their bytes, as those who offer them weigh them. One mail of any size fits an empty inbox.
    pub bytes_max: usize,
}

struct Weighed<M> {
    mail: M,
    /// None for a report, which is not counted.
    bytes: Option<usize>,
}

#[derive(Default)]
struct Load {
    mails: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    fn lighten(&self, bytes: usize) {
        self.mails.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Why an inbox does not take a mail, which it gives back.
#[derive(Debug)]
pub enum Refused<M> {
    /// Too much waits.
    Full(M),
    /// The thread has ended.
    Closed(M),
}

/// The sending half.
pub struct InboxSender<M> {
    sender: Sender<Weighed<M>>,
    load: Arc<Load>,
    limits: InboxLimits,
}

impl<M> Clone for InboxSender<M> {
    fn clone(&self) -> InboxSender<M> {
        InboxSender { sender: self.sender.clone(), load: self.load.clone(), limits: self.limits }
    }
}

/// The receiving half.
pub struct InboxReceiver<M> {
    receiver: Receiver<Weighed<M>>,
    load: Arc<Load>,
}

/// What an inbox has, or does not have, for its thread.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// A mail.
    Mail(M),
    /// No mail came in time.
    Nothing,
    /// All senders are gone.
    Closed,
}

/// A new inbox.
pub fn inbox<M>(limits: InboxLimits) -> (InboxSender<M>, InboxReceiver<M>) {
    let (sender, receiver) = channel();
    let load = Arc::new(Load::default());
    (InboxSender { sender, load: load.clone(), limits }, InboxReceiver { receiver, load })
}

impl<M> InboxSender<M> {
    /// Puts a mail of about `bytes` from outside in.
    pub fn offer(&self, mail: M, bytes: usize) -> Result<(), Refused<M>> {
        let mails = self.load.mails.fetch_add(1, Ordering::Relaxed);
        let waiting = self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_heavy = waiting > 0 && waiting + bytes > self.limits.bytes_max;
        let refused = if mails >= self.limits.mails_max || is_heavy {
            Some(Refused::Full(mail))
        } else {
            let sent = self.sender.send(Weighed { mail, bytes: Some(bytes) });
            sent.err().map(|error| Refused::Closed(error.0.mail))
        };
        match refused {
            None => Ok(()),
            Some(refused) => {
                self.load.lighten(bytes);
                Err(refused)
            }
        }
    }

    /// Puts a report of the process's own threads in. Their number is bounded by what was asked of
    /// those threads.
    pub fn report(&self, mail: M) {
        // If nobody reads, the core's thread has ended and the report concerns nobody.
        let _ = self.sender.send(Weighed { mail, bytes: None });
    }
}

impl<M> InboxReceiver<M> {
    /// The next mail, if one comes within `wait`.
    pub fn wait(&self, wait: Duration) -> Received<M> {
        match self.receiver.recv_timeout(wait) {
            Ok(weighed) => Received::Mail(self.open(weighed)),
            Err(RecvTimeoutError::Timeout) => Received::Nothing,
            Err(RecvTimeoutError::Disconnected) => Received::Closed,
        }
    }

    /// The next mail, if one is there.
    pub fn take(&self) -> Option<M> {
        self.receiver.try_recv().ok().map(|weighed| self.open(weighed))
    }

    fn open(&self, weighed: Weighed<M>) -> M {
        if let Some(bytes) = weighed.bytes {
            self.load.lighten(bytes);
        }
        weighed.mail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: InboxLimits = InboxLimits { mails_max: 2, bytes_max: 100 };

    #[test]
    fn a_full_inbox_gives_mails_back_and_still_takes_reports() {
        let (inbox, receiver) = inbox(LIMITS);
        assert!(inbox.offer("first", 100).is_ok());
        assert!(matches!(inbox.offer("second", 1), Err(Refused::Full("second"))));
        inbox.report("report");
        assert_eq!(receiver.take(), Some("first"));
        assert!(inbox.offer("third", 1).is_ok());
        assert_eq!(receiver.take(), Some("report"));
    }

    #[test]
    fn one_mail_of_any_size_fits_an_empty_inbox() {
        let (inbox, _receiver) = inbox(LIMITS);
        assert!(inbox.offer("large", 101).is_ok());
    }

    #[test]
    fn the_number_of_mails_is_bounded_too() {
        let (inbox, receiver) = inbox(LIMITS);
        assert!(inbox.offer("first", 0).is_ok() && inbox.offer("second", 0).is_ok());
        assert!(matches!(inbox.offer("third", 0), Err(Refused::Full(_))));
        drop(receiver);
        assert!(matches!(inbox.offer("third", 0), Err(Refused::Full(_))));
    }

    #[test]
    fn an_inbox_without_a_reader_is_closed() {
        let (inbox, receiver) = inbox(LIMITS);
        drop(receiver);
        assert!(matches!(inbox.offer("late", 0), Err(Refused::Closed("late"))));
        inbox.report("late");
    }
}
