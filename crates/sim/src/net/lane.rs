//! One direction of a connection: messages arrive in the order in which they were sent.
//!
//! A message leaves when those before it have left, at the speed of the link, and arrives after the
//! link's delay, never before an earlier message. A lane that is held (its link is cut, its
//! receiver is gone, or the connection is not open yet) keeps what it has; once it is released, the
//! oldest messages arrive first.

use std::collections::VecDeque;

use crate::event::{Link, Packet};
use crate::time::{MS, Micros};

use super::wires::Wires;

/// Not known yet: the lane is held.
const LATER: Micros = Micros::MAX;

/// A wait behind other messages that is counted.
const LONG_WAIT: Micros = 100 * MS;

/// A message under way.
#[derive(Debug)]
struct Flying {
    at: Micros,
    sent: Micros,
    bytes: u64,
    packet: Packet,
}

/// The messages under way in one direction.
#[derive(Debug, Default)]
pub struct Lane {
    flying: VecDeque<Flying>,
    last_at: Micros,
    bytes: u64,
    turns: usize,
    /// When the next event of the lane is planned.
    planned: Option<Micros>,
    /// True if nothing gets through.
    pub is_held: bool,
}

impl Lane {
    /// True if a message of `now` begins another turn.
    pub fn begins_turn(&self, now: Micros) -> bool {
        self.flying.back().is_none_or(|last| last.sent != now)
    }

    /// True if another turn finds no room: more than `window_bytes` are under way, and at least
    /// `turns_max` turns.
    pub fn is_full(&self, window_bytes: u64, turns_max: usize) -> bool {
        self.bytes > window_bytes && self.turns >= turns_max
    }

    /// Sends a message of `bytes`. Answers true if the message waits long behind others.
    pub fn push(&mut self, wires: &mut Wires, now: Micros, packet: Packet, bytes: u64) -> bool {
        let link = (packet.from, packet.to);
        self.turns += usize::from(self.begins_turn(now));
        self.bytes += bytes;
        let (at, wait) = match self.is_held {
            true => (LATER, 0),
            false => self.time(wires, now, link, bytes),
        };
        self.flying.push_back(Flying { at, sent: now, bytes, packet });
        wait > LONG_WAIT
    }

    /// When a message arrives that is to leave now, and how long it waits for others.
    fn time(&mut self, wires: &mut Wires, now: Micros, link: Link, bytes: u64) -> (Micros, Micros) {
        let left = wires.depart(now, link, bytes);
        let alone = wires.travel(left, link);
        self.last_at = alone.max(self.last_at + 1);
        (self.last_at, self.last_at - alone + (left - now))
    }

    /// Lets what is under way go on from `now`: the lane is held no longer, or its link is fast
    /// again. Answers how many turns are under way.
    pub fn release(&mut self, wires: &mut Wires, now: Micros) -> usize {
        self.is_held = false;
        self.last_at = now;
        for at in 0..self.flying.len() {
            let Some(flying) = self.flying.get(at) else { break };
            let (link, bytes) = ((flying.packet.from, flying.packet.to), flying.bytes);
            let (time, _) = self.time(wires, now, link, bytes);
            if let Some(flying) = self.flying.get_mut(at) {
                flying.at = time;
            }
        }
        self.turns
    }

    /// When the lane's next event is to be planned; None if it is planned already, or nothing is
    /// due.
    pub fn plan(&mut self) -> Option<Micros> {
        let first = self.flying.front().filter(|first| !self.is_held && first.at != LATER)?.at;
        if self.planned.is_some_and(|planned| planned <= first) {
            return None;
        }
        self.planned = Some(first);
        self.planned
    }

    /// What arrives now, if the lane's event is due.
    pub fn deliver(&mut self, now: Micros) -> Vec<Packet> {
        if self.planned != Some(now) {
            return vec![];
        }
        self.planned = None;
        if self.is_held {
            return vec![];
        }
        let due = self.flying.iter().take_while(|flying| flying.at <= now).count();
        let arrived: Vec<Flying> = self.flying.drain(..due).collect();
        for (flying, next) in arrived.iter().zip(1..) {
            self.bytes -= flying.bytes;
            let sent_next = arrived.get(next).or(self.flying.front()).map(|flying| flying.sent);
            self.turns -= usize::from(sent_next != Some(flying.sent));
        }
        arrived.into_iter().map(|flying| flying.packet).collect()
    }

    /// Ends the lane. Answers what was under way, with the times at which it would have arrived;
    /// None for what was held.
    pub fn end(&mut self) -> Vec<(Option<Micros>, Packet)> {
        let flying = std::mem::take(&mut self.flying);
        let is_held = self.is_held;
        *self = Lane::default();
        let time = |at| (at != LATER && !is_held).then_some(at);
        flying.into_iter().map(|flying| (time(flying.at), flying.packet)).collect()
    }
}
