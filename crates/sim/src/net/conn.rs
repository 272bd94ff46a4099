//! One connection: its two lanes, and how it opens and ends.
//!
//! In: messages, and the events that the connection planned. Out: what is to be planned or told
//! ([`Told`]). Which connection carries a message, and what happens to processes, is in
//! [`super::conns`].

use crate::event::{Body, ConnEvent, ConnId, End, Event, Link, Packet, Stream, Way};
use crate::scenario::ConnScenario;
use crate::time::{MS, Micros};

use super::lane::Lane;
use super::owed::Owed;
use super::size;
use super::wires::Wires;

/// A connection that is not there by then counts as refused (`CONNECT_MS_MAX` of the connector).
const CONNECT_MAX: Micros = 2_000 * MS;

/// The first attempt to connect is repeated after this long (a TCP that is not answered).
const CONNECT_AGAIN: Micros = 1_000 * MS;

/// After a failure, a stream of Raft messages waits this long (`RECONNECT_MS` of the transport).
const RECONNECT: Micros = 200 * MS;

/// A full queue is reported at most this often (`REPORT_INTERVAL` of the transport).
const REPORT_INTERVAL: Micros = 100 * MS;

/// A question that the placement driver has not answered by then ends the connection
/// (`ATTEMPT_MS_MAX` of its caller).
const QUESTION_MAX: Micros = 3_000 * MS;

/// The back-off of a client whose connection failed more than once: the first, which doubles, and
/// the longest (`RECONNECT_BASE_MS` and `RECONNECT_MS_MAX` of the client).
const BACK_OFF: (Micros, Micros) = (50 * MS, 1_000 * MS);

/// After a link is mended, the longest time until what was held is sent again: a TCP tries again
/// less and less often while nothing gets through.
const RESEND_MAX: Micros = 1_000 * MS;

/// The same once all is healed.
const RESEND_HEALED_MAX: Micros = 200 * MS;

/// What a connection wants done.
#[derive(Debug)]
pub enum Told {
    /// This is to happen then.
    Plan(Micros, Event),
    /// This was reached so many times.
    Count(&'static str, u64),
}

/// Whether the other end can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It listens.
    Listens,
    /// Its process is dead, and its machine says so.
    Refuses,
    /// Its machine is gone.
    IsSilent,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is none; another attempt is made from this time on.
    Closed { retry_at: Micros },
    /// It is being made.
    Connecting { since: Micros },
    /// It is open.
    Open,
}

/// What a connection works with.
pub struct Context<'a> {
    /// The present.
    pub now: Micros,
    /// The links.
    pub wires: &'a mut Wires,
    /// How connections behave.
    pub config: &'a ConnScenario,
    /// What is to be done.
    pub told: &'a mut Vec<Told>,
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    id: ConnId,
    /// The number of this attempt; events of an earlier one have no effect.
    number: u64,
    state: State,
    there: Lane,
    back: Lane,
    owed: Vec<Owed>,
    /// Since when a direction is held.
    silent_since: Option<Micros>,
    /// True if the acceptor is gone.
    is_orphan: bool,
    /// When the latest turn was sent that the full queue dropped; the other messages of that turn
    /// are dropped, too.
    dropped_turn: Option<Micros>,
    /// When the sender was last told that the queue is full.
    reported: Option<Micros>,
    /// Failures since the last answer.
    failures: u32,
}

impl Conn {
    /// A connection that was never made.
    pub fn new(id: ConnId) -> Conn {
        Conn {
            id,
            number: 0,
            state: State::Closed { retry_at: 0 },
            there: Lane::default(),
            back: Lane::default(),
            owed: vec![],
            silent_since: None,
            is_orphan: false,
            dropped_turn: None,
            reported: None,
            failures: 0,
        }
    }

    /// True if the connection is open, or about to be.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    fn link(&self, way: Way) -> Link {
        match way {
            Way::There => (self.id.opener, self.id.acceptor),
            Way::Back => (self.id.acceptor, self.id.opener),
        }
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::There => &mut self.there,
            Way::Back => &mut self.back,
        }
    }

    /// Sends a message. False if it is lost.
    pub fn send(&mut self, cx: &mut Context<'_>, way: Way, packet: Packet) -> bool {
        match way {
            Way::There => self.send_there(cx, packet),
            Way::Back => self.send_back(cx, packet),
        }
    }

    fn send_there(&mut self, cx: &mut Context<'_>, packet: Packet) -> bool {
        if let State::Closed { retry_at } = self.state {
            if cx.now < retry_at {
                self.fail(cx, Owed::asked(&packet.body), false);
                return false;
            }
            self.begin(cx);
        }
        if self.id.stream == Stream::Raft && self.is_dropped(cx) {
            return false;
        }
        self.owed.extend(Owed::asked(&packet.body));
        self.push(cx, Way::There, packet);
        true
    }

    /// An answer travels on the connection of its request, or not at all.
    fn send_back(&mut self, cx: &mut Context<'_>, packet: Packet) -> bool {
        let is_owed = Owed::answered(&packet.body).is_some_and(|owed| self.owed.contains(&owed));
        if self.state != State::Open || !is_owed {
            return false;
        }
        self.push(cx, Way::Back, packet);
        true
    }

    fn push(&mut self, cx: &mut Context<'_>, way: Way, packet: Packet) {
        let bytes = size::bytes(&packet.body);
        if self.lane(way).push(cx.wires, cx.now, packet, bytes) {
            cx.told.push(Told::Count("messages that waited behind others", 1));
        }
        self.plan(cx, way);
    }

    fn plan(&mut self, cx: &mut Context<'_>, way: Way) {
        let conn = self.id;
        if let Some(at) = self.lane(way).plan() {
            cx.told.push(Told::Plan(at, Event::Conn(ConnEvent::Deliver { conn, way })));
        }
    }

    /// True if the queue has no room for the turn of this message. The newest turn is dropped, and
    /// the sender is told that the address is unreachable.
    fn is_dropped(&mut self, cx: &mut Context<'_>) -> bool {
        let ConnScenario { window_bytes, turns_max, .. } = *cx.config;
        if self.there.begins_turn(cx.now) && self.there.is_full(window_bytes, turns_max) {
            self.dropped_turn = Some(cx.now);
        }
        if self.dropped_turn != Some(cx.now) {
            return false;
        }
        cx.told.push(Told::Count("messages dropped by a full queue", 1));
        if self.reported.is_none_or(|at| cx.now >= at + REPORT_INTERVAL) {
            self.reported = Some(cx.now);
            self.tell_unreachable(cx);
        }
        true
    }

    fn tell_unreachable(&self, cx: &mut Context<'_>) {
        let ConnId { opener: end, acceptor: of, .. } = self.id;
        cx.told.push(Told::Plan(cx.now, Event::Unreachable { end, of }));
    }

    /// Begins to connect.
    fn begin(&mut self, cx: &mut Context<'_>) {
        self.number += 1;
        self.state = State::Connecting { since: cx.now };
        self.there.is_held = true;
        let there = cx.wires.travel(cx.now, self.link(Way::There));
        let back = cx.wires.travel(there, self.link(Way::Back));
        self.connect_at(cx, back.min(cx.now + CONNECT_MAX));
    }

    fn connect_at(&self, cx: &mut Context<'_>, at: Micros) {
        let (conn, number) = (self.id, self.number);
        cx.told.push(Told::Plan(at, Event::Conn(ConnEvent::Connect { conn, number })));
    }

    /// An attempt to connect comes to its end, or to its second try.
    pub fn on_connect(&mut self, cx: &mut Context<'_>, number: u64, peer: Peer) {
        let State::Connecting { since } = self.state else { return };
        if number != self.number {
            return;
        }
        let is_cut = [Way::There, Way::Back].iter().any(|way| cx.wires.is_cut(self.link(*way)));
        let (again, late) = (since + CONNECT_AGAIN, since + CONNECT_MAX);
        if cx.now >= late {
            return self.close(cx);
        }
        match peer {
            Peer::Listens if !is_cut => self.open(cx),
            Peer::Refuses if !is_cut => self.close(cx),
            Peer::Listens | Peer::Refuses | Peer::IsSilent => {
                self.connect_at(cx, if cx.now < again { again } else { late });
            }
        }
    }

    fn open(&mut self, cx: &mut Context<'_>) {
        self.state = State::Open;
        self.is_orphan = false;
        self.silent_since = None;
        self.there.release(cx.wires, cx.now);
        self.plan(cx, Way::There);
    }

    /// A link of the connection was cut, mended or made fast again.
    pub fn on_link(&mut self, cx: &mut Context<'_>, way: Way) {
        if self.state != State::Open || self.is_orphan {
            return;
        }
        let is_cut = cx.wires.is_cut(self.link(way));
        let was_held = std::mem::replace(&mut self.lane(way).is_held, is_cut);
        if is_cut && !was_held {
            self.fall_silent(cx);
        }
        if is_cut {
            return;
        }
        let outage = match self.silent_since {
            Some(since) if was_held => cx.now - since,
            Some(_) | None => 0,
        };
        let longest = if cx.wires.is_healed { RESEND_HEALED_MAX } else { RESEND_MAX };
        let link = self.link(way);
        let resent = cx.now + cx.wires.dice(link).between(0, outage.min(longest) + 1);
        let turns = self.lane(way).release(cx.wires, resent);
        if was_held && way == Way::There && self.id.stream == Stream::Raft {
            cx.told.push(Told::Count("stale turns delivered after a cut", turns as u64));
        }
        if !self.there.is_held && !self.back.is_held {
            self.silent_since = None;
        }
        self.plan(cx, way);
    }

    /// Nothing gets through any more: the connection ends unless that changes in time.
    fn fall_silent(&mut self, cx: &mut Context<'_>) {
        if self.silent_since.is_some() {
            return;
        }
        let since = cx.now;
        self.silent_since = Some(since);
        let keepalive = cx.config.keepalive;
        let link = self.link(Way::There);
        let mut wait = cx.wires.dice(link).between(keepalive * 2 / 3, keepalive);
        if is_pd(self.id.acceptor) {
            wait = wait.min(QUESTION_MAX);
        }
        let (conn, number) = (self.id, self.number);
        let event = ConnEvent::Silent { conn, number, since };
        cx.told.push(Told::Plan(since + wait, Event::Conn(event)));
    }

    /// The keepalive has waited for long enough.
    pub fn on_silent(&mut self, cx: &mut Context<'_>, number: u64, since: Micros) {
        if number == self.number && self.silent_since == Some(since) {
            cx.told.push(Told::Count("connections found dead", 1));
            self.close(cx);
        }
    }

    /// The opener learns that the other end is gone.
    pub fn on_broken(&mut self, cx: &mut Context<'_>, number: u64) {
        if number == self.number && self.state == State::Open {
            self.close(cx);
        }
    }

    /// Something between the two ends resets the connection.
    pub fn reset(&mut self, cx: &mut Context<'_>) {
        cx.told.push(Told::Count("connections reset", 1));
        self.close(cx);
    }

    /// The connection ends, and with it what is under way: each request fails at its sender.
    fn close(&mut self, cx: &mut Context<'_>) {
        let was_open = self.state == State::Open;
        let lost = self.there.end().len() + self.back.end().len();
        if lost > 0 {
            cx.told.push(Told::Count("messages lost with their connection", lost as u64));
        }
        for owed in std::mem::take(&mut self.owed) {
            self.fail(cx, Some(owed), was_open);
        }
        if self.id.stream == Stream::Raft {
            self.tell_unreachable(cx);
        }
        let wait = self.back_off(cx);
        self.number += 1;
        self.state = State::Closed { retry_at: cx.now + wait };
        self.silent_since = None;
        self.is_orphan = false;
    }

    fn back_off(&mut self, cx: &mut Context<'_>) -> Micros {
        self.failures = self.failures.saturating_add(1);
        match self.id.stream {
            Stream::Raft => RECONNECT,
            Stream::Snapshots => 0,
            Stream::Calls if is_pd(self.id.acceptor) || self.failures < 2 => 0,
            Stream::Calls => {
                let doubled = BACK_OFF.0 << (self.failures - 2).min(16);
                let link = self.link(Way::There);
                let most = doubled.min(BACK_OFF.1);
                cx.wires.dice(link).between_inclusive(BACK_OFF.0 / 2, most)
            }
        }
    }

    fn fail(&self, cx: &mut Context<'_>, owed: Option<Owed>, was_sent: bool) {
        let Some(body) = owed.and_then(|owed| owed.failed(was_sent)) else { return };
        let ConnId { opener: to, acceptor: from, .. } = self.id;
        let packet = Packet { from, to, body };
        cx.told.push(Told::Plan(cx.now, Event::Arrive(Box::new(packet))));
    }

    /// What arrives now.
    pub fn deliver(&mut self, cx: &mut Context<'_>, way: Way) -> Vec<Packet> {
        let arrived = self.lane(way).deliver(cx.now);
        self.plan(cx, way);
        if way == Way::Back {
            for packet in &arrived {
                self.settle_owed(&packet.body);
            }
        }
        arrived
    }

    fn settle_owed(&mut self, body: &Body) {
        self.failures = 0;
        let Some(answered) = Owed::answered(body) else { return };
        if let Some(at) = self.owed.iter().position(|owed| *owed == answered) {
            self.owed.swap_remove(at);
        }
    }

    /// The acceptor's process has ended. If its machine says so, the opener learns of it behind the
    /// answers that have left, which arrive if `is_drained`.
    pub fn acceptor_ended(&mut self, cx: &mut Context<'_>, peer: Peer, is_drained: bool) {
        if self.state != State::Open || self.is_orphan {
            return;
        }
        self.is_orphan = true;
        let left = self.back.end();
        let mut heard = cx.wires.travel(cx.now, self.link(Way::Back));
        for (at, packet) in left {
            let Some(at) = at.filter(|_| is_drained) else { continue };
            self.settle_owed(&packet.body);
            heard = heard.max(at + 1);
            cx.told.push(Told::Plan(at, Event::Arrive(Box::new(packet))));
        }
        self.there.is_held = true;
        self.back.is_held = true;
        if peer == Peer::Refuses && !cx.wires.is_cut(self.link(Way::Back)) {
            self.break_at(cx, heard);
        } else {
            self.fall_silent(cx);
        }
    }

    /// The acceptor's machine runs again, and knows nothing of the connection.
    pub fn acceptor_began(&mut self, cx: &mut Context<'_>) {
        if self.state == State::Open && self.is_orphan {
            let link = self.link(Way::Back);
            let wait = cx.wires.dice(link).between(0, RESEND_MAX);
            self.break_at(cx, cx.now + wait);
        }
    }

    fn break_at(&self, cx: &mut Context<'_>, at: Micros) {
        let (conn, number) = (self.id, self.number);
        cx.told.push(Told::Plan(at, Event::Conn(ConnEvent::Broken { conn, number })));
    }

    /// The opener's process has ended. What it has sent arrives if `is_drained`.
    pub fn opener_ended(&mut self, cx: &mut Context<'_>, is_drained: bool) {
        let left = self.there.end();
        self.back.end();
        if is_drained && !self.is_orphan && self.state == State::Open {
            for (at, packet) in left {
                let Some(at) = at else { continue };
                cx.told.push(Told::Plan(at, Event::Arrive(Box::new(packet))));
            }
        }
        self.owed.clear();
        self.number += 1;
        self.state = State::Closed { retry_at: 0 };
        self.silent_since = None;
        self.is_orphan = false;
        self.failures = 0;
    }
}

fn is_pd(end: End) -> bool {
    matches!(end, End::Pd(_))
}
