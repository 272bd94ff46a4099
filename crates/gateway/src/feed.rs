//! The cluster as it changes, told to everybody who listens, by one poller.
//!
//! The poller asks the placement driver while somebody listens and ends when nobody does, so any
//! number of open consoles cost the placement driver as much as one, and none costs nothing. A
//! listener first gets everything known as one message (`snapshot`), then a message for each look
//! (`delta`), or that the placement driver was silent (`silent`). A message comes at least every
//! two seconds or so, changes or not: a listener that hears none for longer knows that its figures
//! are stale.
//!
//! Bounds: so many listeners; one queue of messages for all of them, whose length is how far a
//! listener may fall behind before it is ended (it comes again and gets a snapshot).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flotilla_client::{Error, PdClient};
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::changes::{self, Look};
use crate::limits::{
    EVENTS_KEPT_MAX, LISTENERS_MAX, LOOK_PAUSE, LOOK_PAUSE_MAX, LOOK_TIME_MAX, MESSAGES_MAX,
    REGIONS_PAGE_MAX, REGIONS_SHOWN_MAX,
};
use crate::views;

/// The feed of one gateway. Cheap to clone; clones are the same feed.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pd: PdClient,
    shared: Arc<Mutex<Shared>>,
}

/// A message, as its name and its JSON in a frame of server-sent events.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// True of a message with everything in it.
    pub(crate) is_snapshot: bool,
    pub(crate) bytes: Bytes,
}

impl Message {
    fn new(name: &str, body: &Value) -> Message {
        // JSON in one line: a newline within a string is escaped.
        let bytes = Bytes::from(format!("event: {name}\ndata: {body}\n\n"));
        Message { is_snapshot: name == "snapshot", bytes }
    }
}

/// A listener's end of the feed.
#[derive(Debug)]
pub(crate) struct Listener {
    /// What is known already; None if the first snapshot is still to come.
    pub(crate) first: Option<Message>,
    pub(crate) messages: Receiver<Message>,
}

#[derive(Debug)]
struct Shared {
    messages: Sender<Message>,
    is_polling: bool,
    /// The last look; None before the first.
    look: Option<Look>,
    /// The latest events, as JSON, the oldest first.
    events: VecDeque<Value>,
}

impl Feed {
    pub(crate) fn new(pd: PdClient) -> Feed {
        let messages = broadcast::channel(MESSAGES_MAX).0;
        let events = VecDeque::new();
        let shared = Shared { messages, is_polling: false, look: None, events };
        let pd = pd.with_timeout(LOOK_TIME_MAX);
        Feed { pd, shared: Arc::new(Mutex::new(shared)) }
    }

    /// Listens from now on; None if there are as many listeners as may be.
    pub(crate) fn listen(&self) -> Option<Listener> {
        let mut shared = self.lock();
        if shared.messages.receiver_count() >= LISTENERS_MAX {
            return None;
        }
        let messages = shared.messages.subscribe();
        let first = shared.look.as_ref().map(|look| snapshot(look, &shared.events));
        if !std::mem::replace(&mut shared.is_polling, true) {
            tokio::spawn(self.clone().poll());
        }
        Some(Listener { first, messages })
    }

    /// Looks again and again, until nobody listens.
    async fn poll(self) {
        loop {
            let begun = Instant::now();
            let found = timeout(LOOK_TIME_MAX, look(&self.pd)).await;
            let found = match found {
                Ok(found) => found.map_err(|error| error.to_string()),
                Err(_) => Err("no placement driver has answered in time".into()),
            };
            if self.tell(found).is_none() {
                return;
            }
            // A tenth of the time, or more where a look takes longer than a ninth of
            // [`LOOK_PAUSE_MAX`]: changes are to be seen soon.
            sleep((begun.elapsed() * 9).clamp(LOOK_PAUSE, LOOK_PAUSE_MAX)).await;
        }
    }

    /// Tells the listeners; None if there is none, and then the poller is to end.
    fn tell(&self, found: Result<Look, String>) -> Option<()> {
        let at_ms = unix_ms();
        let mut shared = self.lock();
        if shared.messages.receiver_count() == 0 {
            shared.is_polling = false;
            // The next listener gets no state that is old.
            shared.look = None;
            shared.events.clear();
            return None;
        }
        let message = match found {
            Err(reason) => {
                debug!(%reason, "the placement driver does not tell the cluster's state");
                Message::new("silent", &json!({ "at_ms": at_ms, "reason": reason }))
            }
            Ok(look) => shared.take(look, at_ms),
        };
        // Fails only if the last listener has gone since.
        let _ = shared.messages.send(message);
        Some(())
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Takes over what was found; returns what is to be told about it.
    fn take(&mut self, now: Look, at_ms: u64) -> Message {
        let message = match &self.look {
            None => snapshot(&now, &self.events),
            Some(before) => {
                let changes = changes::between(before, &now);
                let events = changes.events.iter().map(|event| event.to_json(at_ms));
                let events: Vec<Value> = events.collect();
                self.events.extend(events.iter().cloned());
                let surplus = self.events.len().saturating_sub(EVENTS_KEPT_MAX);
                self.events.drain(..surplus);
                let changed = changes.changed.iter().filter_map(|id| now.regions.get(id));
                let mut body = now.figures();
                body["at_ms"] = at_ms.into();
                body["regions"] = changed.map(views::region).collect();
                body["gone"] = changes.gone.into();
                body["events"] = events.into();
                Message::new("delta", &body)
            }
        };
        self.look = Some(now);
        message
    }
}

fn snapshot(look: &Look, events: &VecDeque<Value>) -> Message {
    let mut body = look.figures();
    body["at_ms"] = unix_ms().into();
    body["regions"] = look.regions.values().map(views::region).collect();
    body["events"] = events.iter().cloned().collect();
    Message::new("snapshot", &body)
}

/// Asks the placement driver for everything.
async fn look(pd: &PdClient) -> Result<Look, Error> {
    let status = pd.cluster_status().await?;
    let (stores, operators) = (pd.stores().await?, pd.operators().await?);
    let mut look = Look { status, stores, operators, ..Look::default() };
    let mut start = Bytes::new();
    while look.regions.len() < REGIONS_SHOWN_MAX {
        let page = pd.regions(start.clone(), REGIONS_PAGE_MAX).await?;
        let end = page.routes.last().map(|route| route.region.range.end.clone());
        look.regions.extend(page.routes.into_iter().map(|route| (route.region.id.0, route)));
        match end {
            Some(end) if end > start => start = end,
            Some(_) | None => return Ok(look),
        }
    }
    look.is_cut = true;
    Ok(look)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Feed {
        Feed::new(PdClient::new(["127.0.0.1:1"]).expect("an address"))
    }

    fn text(message: &Message) -> String {
        String::from_utf8(message.bytes.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn the_first_message_is_a_snapshot_then_come_changes() {
        let feed = feed();
        let mut early = feed.listen().expect("a place");
        assert!(early.first.is_none());
        feed.tell(Ok(Look::default())).expect("somebody listens");
        let first = early.messages.recv().await.expect("a message");
        assert!(first.is_snapshot && text(&first).starts_with("event: snapshot\ndata: {"));
        let late = feed.listen().expect("a place");
        assert!(late.first.expect("a snapshot").is_snapshot);
        feed.tell(Ok(Look::default())).expect("somebody listens");
        let next = early.messages.recv().await.expect("a message");
        assert!(!next.is_snapshot && text(&next).starts_with("event: delta\n"));
        feed.tell(Err("gone".into())).expect("somebody listens");
        let silent = early.messages.recv().await.expect("a message");
        assert!(text(&silent).starts_with("event: silent\n"));
    }

    #[tokio::test]
    async fn listeners_are_bounded_and_a_slow_one_is_told_that_it_is() {
        let feed = feed();
        let mut listeners: Vec<Listener> =
            (0..LISTENERS_MAX).map(|_| feed.listen().expect("a place")).collect();
        assert!(feed.listen().is_none());
        for _ in 0..=MESSAGES_MAX {
            feed.tell(Err("gone".into())).expect("somebody listens");
        }
        let slow = listeners[0].messages.recv().await;
        assert!(matches!(slow, Err(broadcast::error::RecvError::Lagged(1))), "{slow:?}");
        listeners.clear();
        assert!(feed.listen().is_some());
    }

    #[tokio::test]
    async fn nobody_is_told_an_old_state() {
        let feed = feed();
        let listener = feed.listen().expect("a place");
        feed.tell(Ok(Look::default())).expect("somebody listens");
        drop(listener);
        assert_eq!(feed.tell(Ok(Look::default())), None);
        assert!(feed.listen().expect("a place").first.is_none());
    }
}
