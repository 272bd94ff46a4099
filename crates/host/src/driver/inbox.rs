//! The way into a core's thread: bounded for what comes from outside, open for what the process's
//! own threads report.
//!
//! Each lane of [`crate::core::mailbox`] has bounds of its own, so callers cannot fill the inbox
//! for the members. The order in which mails are taken is the mailbox's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::core::mailbox::{Lane, Mailbox};

/// How much from outside may wait in each lane of an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxLimits {
    /// Mails.
    pub mails_max: usize,
    /// Their bytes, as those who offer them weigh them. One mail of any size fits an empty inbox.
    pub bytes_max: usize,
}

struct Weighed<M> {
    mail: M,
    lane: Lane,
    /// None for a report, which is not counted.
    bytes: Option<usize>,
}

#[derive(Default)]
struct Load {
    mails: AtomicUsize,
    bytes: AtomicUsize,
}

/// The loads of both lanes.
#[derive(Default)]
struct Loads {
    consensus: Load,
    requests: Load,
}

impl Loads {
    fn of(&self, lane: Lane) -> &Load {
        match lane {
            Lane::Consensus => &self.consensus,
            Lane::Requests => &self.requests,
        }
    }
}

impl Load {
    fn lighten(&self, bytes: usize) {
        self.mails.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What waits in an inbox, for whoever looks on.
#[derive(Clone)]
pub struct InboxLoads(Arc<Loads>);

impl InboxLoads {
    /// Mails from outside that wait in the lane, and their bytes.
    pub fn of(&self, lane: Lane) -> (usize, usize) {
        let load = self.0.of(lane);
        (load.mails.load(Ordering::Relaxed), load.bytes.load(Ordering::Relaxed))
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
    loads: Arc<Loads>,
    limits: InboxLimits,
}

impl<M> Clone for InboxSender<M> {
    fn clone(&self) -> InboxSender<M> {
        InboxSender { sender: self.sender.clone(), loads: self.loads.clone(), limits: self.limits }
    }
}

/// The receiving half.
pub struct InboxReceiver<M> {
    receiver: Receiver<Weighed<M>>,
    /// What was received and not taken yet.
    mailbox: Mailbox<Weighed<M>>,
    loads: Arc<Loads>,
}

/// What an inbox has, or does not have, for its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// A mail can be taken.
    Mail,
    /// No mail came in time.
    Nothing,
    /// All senders are gone, and all mails are taken.
    Closed,
}

/// A new inbox.
pub fn inbox<M>(limits: InboxLimits) -> (InboxSender<M>, InboxReceiver<M>) {
    let (sender, receiver) = channel();
    let loads = Arc::new(Loads::default());
    let receiver = InboxReceiver { receiver, mailbox: Mailbox::default(), loads: loads.clone() };
    (InboxSender { sender, loads, limits }, receiver)
}

impl<M> InboxSender<M> {
    /// What waits. It may be kept for longer than the inbox.
    pub fn loads(&self) -> InboxLoads {
        InboxLoads(self.loads.clone())
    }

    /// Puts a mail of about `bytes` from outside into a lane.
    pub fn offer(&self, lane: Lane, mail: M, bytes: usize) -> Result<(), Refused<M>> {
        let load = self.loads.of(lane);
        let mails = load.mails.fetch_add(1, Ordering::Relaxed);
        let waiting = load.bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_heavy = waiting > 0 && waiting + bytes > self.limits.bytes_max;
        let refused = if mails >= self.limits.mails_max || is_heavy {
            Some(Refused::Full(mail))
        } else {
            let sent = self.sender.send(Weighed { mail, lane, bytes: Some(bytes) });
            sent.err().map(|error| Refused::Closed(error.0.mail))
        };
        match refused {
            None => Ok(()),
            Some(refused) => {
                load.lighten(bytes);
                Err(refused)
            }
        }
    }

    /// Puts a report of the process's own threads in. Their number is bounded by what was asked of
    /// those threads.
    pub fn report(&self, mail: M) {
        // If nobody reads, the core's thread has ended and the report concerns nobody.
        let _ = self.sender.send(Weighed { mail, lane: Lane::Consensus, bytes: None });
    }
}

impl<M> InboxReceiver<M> {
    /// Waits up to `wait` until a mail can be taken.
    pub fn wait(&mut self, wait: Duration) -> Waited {
        if !self.mailbox.is_empty() {
            return Waited::Mail;
        }
        match self.receiver.recv_timeout(wait) {
            Ok(weighed) => {
                self.mailbox.put(weighed.lane, weighed);
                Waited::Mail
            }
            Err(RecvTimeoutError::Timeout) => Waited::Nothing,
            Err(RecvTimeoutError::Disconnected) => Waited::Closed,
        }
    }

    /// The next mail, if one is there.
    pub fn take(&mut self) -> Option<M> {
        while let Ok(weighed) = self.receiver.try_recv() {
            self.mailbox.put(weighed.lane, weighed);
        }
        let Weighed { mail, lane, bytes } = self.mailbox.take()?;
        if let Some(bytes) = bytes {
            self.loads.of(lane).lighten(bytes);
        }
        Some(mail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: InboxLimits = InboxLimits { mails_max: 2, bytes_max: 100 };

    #[test]
    fn a_full_lane_gives_mails_back_and_the_inbox_still_takes_reports() {
        let (inbox, mut receiver) = inbox(LIMITS);
        assert!(inbox.offer(Lane::Consensus, "first", 100).is_ok());
        let refused = inbox.offer(Lane::Consensus, "second", 1);
        assert!(matches!(refused, Err(Refused::Full("second"))));
        inbox.report("report");
        assert_eq!(receiver.take(), Some("first"));
        assert!(inbox.offer(Lane::Consensus, "third", 1).is_ok());
        assert_eq!(receiver.take(), Some("report"));
    }

    #[test]
    fn callers_that_fill_their_lane_leave_the_members_theirs() {
        let (inbox, mut receiver) = inbox(LIMITS);
        assert!(inbox.offer(Lane::Requests, "request", 100).is_ok());
        assert!(matches!(inbox.offer(Lane::Requests, "more", 1), Err(Refused::Full("more"))));
        assert!(inbox.offer(Lane::Consensus, "message", 100).is_ok());
        assert_eq!(receiver.take(), Some("message"), "members come first");
        assert!(matches!(inbox.offer(Lane::Requests, "more", 1), Err(Refused::Full("more"))));
        assert_eq!(receiver.take(), Some("request"));
        assert!(inbox.offer(Lane::Requests, "more", 1).is_ok());
    }

    #[test]
    fn one_mail_of_any_size_fits_an_empty_lane() {
        let (inbox, _receiver) = inbox(LIMITS);
        assert!(inbox.offer(Lane::Requests, "large", 101).is_ok());
    }

    #[test]
    fn the_number_of_mails_is_bounded_too() {
        let (inbox, receiver) = inbox(LIMITS);
        let offer = |mail| inbox.offer(Lane::Requests, mail, 0);
        assert!(offer("first").is_ok() && offer("second").is_ok());
        assert!(matches!(offer("third"), Err(Refused::Full(_))));
        drop(receiver);
        assert!(matches!(offer("third"), Err(Refused::Full(_))));
    }

    #[test]
    fn an_inbox_without_a_reader_is_closed() {
        let (inbox, receiver) = inbox(LIMITS);
        drop(receiver);
        let refused = inbox.offer(Lane::Requests, "late", 0);
        assert!(matches!(refused, Err(Refused::Closed("late"))));
        inbox.report("late");
    }

    #[test]
    fn an_inbox_without_a_sender_is_closed_once_it_is_empty() {
        let (inbox, mut receiver) = inbox(LIMITS);
        inbox.report("last");
        assert_eq!(receiver.wait(Duration::ZERO), Waited::Mail);
        drop(inbox);
        assert_eq!(receiver.wait(Duration::ZERO), Waited::Mail);
        assert_eq!(receiver.take(), Some("last"));
        assert_eq!(receiver.wait(Duration::ZERO), Waited::Closed);
    }
}
