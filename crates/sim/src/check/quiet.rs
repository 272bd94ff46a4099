//! The quiet window: a healed cluster that nobody uses comes to rest, and nothing happens in it.
//!
//! Once everything is healed and no client calls, repairs that are under way end, peers become
//! level and regions quiescent. From then on, for a few seconds, nothing happens:
//!
//! * no event of a store (an election, a split, a change of members, a snapshot) and none of the
//!   placement driver (an operator that begins or ends);
//! * no write to a store's log, no checkpoint;
//! * no message but beats between stores, heartbeats to the placement driver and Raft heartbeats
//!   between its members. In seeds whose regions never become quiescent, the heartbeats of their
//!   leaders travel, too;
//! * no more heartbeats to the placement driver than one for each interval;
//! * at the end of the window every region is quiescent unless the seed has no quiescence, no store
//!   owes a reply, and no peer has a caller that waits.
//!
//! Why it is sound: the window begins when nothing of this happened for [`CALM`] and for as long as
//! regions may stay active, when every peer is level and the placement driver has no operator, and
//! after all that the world had planned before healing has happened: messages that are late,
//! reports of transfers that broke, stores that are to be replaced. Messages between two stores
//! keep their order by then, as they do on the connections of production: a heartbeat that arrives
//! after the word that its region is quiescent makes a follower active again. A cluster in which
//! that moment does not come within a bound never comes to rest, which is a violation as well.
//!
//! The phase of a seed that waits for the window is [`crate::healed`]. What it cannot see: what
//! begins only after more than the window's few seconds.

use super::{Verdict, broken};
use crate::event::{Asker, Body, End, Packet};
use crate::time::{MS, Micros};
use flotilla_group::MessageKind;
use flotilla_host::core::message::Body as Message;

/// How long nothing must have happened before the window begins: as long as the placement driver
/// waits for a store that is silent before it acts.
pub const CALM: Micros = 6_000 * MS;

/// The least time from a change's being durable to the window.
pub const MARGIN: Micros = 1_000 * MS;

/// The account of what happens once everything is healed.
#[derive(Default)]
pub struct Quiet {
    is_on: bool,
    has_quiescence: bool,
    /// When something last happened, and what.
    last: (Micros, String),
    /// The world has planned something up to then.
    expected: Micros,
    is_open: bool,
    /// Heartbeats to the placement driver in the window.
    heartbeats: u64,
    /// What happened first in the window.
    broken: Option<String>,
}

impl Quiet {
    /// Everything is healed.
    pub fn begin(&mut self, now: Micros, has_quiescence: bool) {
        self.is_on = true;
        self.has_quiescence = has_quiescence;
        self.last.0 = now;
    }

    /// The account is closed: what happens from now on is not looked at.
    pub fn end(&mut self) {
        self.is_on = false;
    }

    /// Something will happen at `at` that the world has planned.
    pub fn expect(&mut self, at: Micros) {
        self.expected = self.expected.max(at);
    }

    /// Until when the world has planned what belongs to faults.
    pub fn expected(&self) -> Micros {
        self.expected
    }

    /// Something happens.
    pub fn happens(&mut self, now: Micros, what: impl FnOnce() -> String) {
        if !self.is_on {
            return;
        }
        self.last = (now, what());
        if self.is_open {
            self.broken.get_or_insert_with(|| format!("at {} ms: {}", now / MS, self.last.1));
        }
    }

    /// A message is sent.
    pub fn sends(&mut self, now: Micros, packet: &Packet) {
        if !self.is_on {
            return;
        }
        if is_heartbeat(&packet.body) {
            self.heartbeats += 1;
        }
        if !self.may_travel(packet) {
            self.happens(now, || {
                let (from, to) = (packet.from, packet.to);
                format!("{from:?} sends {to:?} {:?}", packet.body)
            });
        }
    }

    fn may_travel(&self, packet: &Packet) -> bool {
        let is_of_pd = matches!(packet.from, End::Pd(_));
        match &packet.body {
            Body::PdRequest { asker: Asker::Heartbeat { .. } | Asker::Probe { .. }, .. }
            | Body::PdReply { asker: Asker::Heartbeat { .. } | Asker::Probe { .. }, .. } => true,
            Body::Envelope(envelope) => match &envelope.body {
                Message::Beat(_) => true,
                Message::Message(message) => {
                    let kind = message.kind();
                    let is_heartbeat = matches!(
                        kind,
                        MessageKind::MsgHeartbeat | MessageKind::MsgHeartbeatResponse
                    );
                    is_heartbeat && (is_of_pd || !self.has_quiescence)
                }
                Message::Removed | Message::Quiesce { .. } | Message::Introduction(_) => false,
            },
            _ => false,
        }
    }

    /// True if nothing has happened for `time`, and nothing is expected.
    pub fn is_calm(&self, now: Micros, time: Micros) -> bool {
        now >= self.expected && now >= self.last.0 + time
    }

    /// What happened last, and when.
    pub fn last(&self) -> String {
        format!("{} ms: {}", self.last.0 / MS, self.last.1)
    }

    /// The window begins.
    pub fn open(&mut self) {
        self.is_open = true;
        self.heartbeats = 0;
    }

    /// The window ends. At most `heartbeats_max` heartbeats may have been sent to the placement
    /// driver.
    pub fn close(&mut self, heartbeats_max: u64) -> Verdict {
        self.is_open = false;
        if let Some(broken_by) = self.broken.take() {
            return broken(NOTHING_HAPPENS, broken_by);
        }
        if self.heartbeats > heartbeats_max {
            let what = format!("{} heartbeats, {heartbeats_max} expected", self.heartbeats);
            return broken(NOTHING_HAPPENS, what);
        }
        Ok(())
    }
}

/// The invariant of the window.
pub const NOTHING_HAPPENS: &str = "nothing happens in a cluster that nobody uses";

fn is_heartbeat(body: &Body) -> bool {
    matches!(body, Body::PdRequest { asker: Asker::Heartbeat { .. }, .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_host::core::message::{Address, Beat, End as Member, Envelope};
    use flotilla_types::{RegionId, StoreId};

    fn packet(body: Message) -> Packet {
        let end = |store| Member { address: Address::Store(StoreId(store)), member: 1 };
        let envelope = Envelope {
            region_id: RegionId(1),
            conf_ver: 1,
            region: None,
            from: end(1),
            to: end(2),
            body,
        };
        let (from, to) = (End::Store(StoreId(1)), End::Store(StoreId(2)));
        Packet { from, to, body: Body::Envelope(Box::new(envelope)) }
    }

    fn open() -> Quiet {
        let mut quiet = Quiet::default();
        quiet.begin(0, true);
        quiet.open();
        quiet
    }

    #[test]
    fn an_event_and_a_message_in_the_window_are_found_and_beats_are_not() {
        let mut quiet = open();
        quiet.sends(5, &packet(Message::Beat(Beat { incarnation: 1, is_answer: false })));
        assert!(quiet.close(0).is_ok());
        let mut quiet = open();
        quiet.sends(5, &packet(Message::Quiesce { term: 1, index: 9 }));
        assert!(quiet.close(0).is_err());
        let mut quiet = open();
        quiet.happens(5, || "an election".into());
        assert!(quiet.close(0).is_err());
    }

    #[test]
    fn calm_needs_time_without_events_and_nothing_that_is_planned() {
        let mut quiet = Quiet::default();
        quiet.expect(4_000);
        quiet.begin(1_000, true);
        assert!(!quiet.is_calm(3_999, 100), "something is planned");
        assert!(quiet.is_calm(4_000, 100));
        quiet.happens(4_050, || "an operator".into());
        assert!(!quiet.is_calm(4_149, 100));
        assert!(quiet.is_calm(4_150, 100));
    }
}
