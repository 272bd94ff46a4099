//! Each property of connections, on a network of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_group::RaftMessage;
use flotilla_host::core::message::{self, Address, Envelope};
use flotilla_types::proto::Entry;
use flotilla_types::{Answer, Epoch, Op, RegionId, StoreId};

use super::*;
use crate::event::{AttemptId, ClientRequest};
use crate::scenario::ConnScenario;
use crate::time::MS;

const A: End = End::Store(StoreId(1));
const B: End = End::Store(StoreId(2));
const CLIENT: End = End::Client(1);

/// Every message takes so long.
const DELAY: Micros = MS;

/// Long enough for a connection to be made.
const OPEN: Micros = 10 * MS;

/// A network, its events, and what arrived.
struct Rig {
    net: Net,
    now: Micros,
    events: BTreeMap<(Micros, u64), Event>,
    planned: u64,
    arrived: Vec<(Micros, Packet)>,
    unreachable: Vec<Micros>,
    counts: BTreeMap<&'static str, u64>,
}

impl Rig {
    fn new(conns: ConnScenario) -> Rig {
        let config =
            NetScenario { delay_min: DELAY, delay_max: DELAY + 1, ..NetScenario::default() };
        let links = LinkScenario { connections: Some(conns), ..LinkScenario::default() };
        Rig {
            net: Net::new(config, links, 1),
            now: 0,
            events: BTreeMap::new(),
            planned: 0,
            arrived: vec![],
            unreachable: vec![],
            counts: BTreeMap::new(),
        }
    }

    fn take_told(&mut self) {
        for told in self.net.told(self.now).drain(..) {
            match told {
                Told::Plan(at, event) => {
                    self.planned += 1;
                    self.events.insert((at.max(self.now), self.planned), event);
                }
                Told::Count(mark, count) => *self.counts.entry(mark).or_default() += count,
            }
        }
    }

    /// Runs for `time`.
    fn run(&mut self, time: Micros) {
        let until = self.now + time;
        self.take_told();
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until) {
            self.now = entry.key().0;
            match entry.remove() {
                Event::Conn(event) => {
                    let arrived = self.net.on(self.now, event);
                    self.arrived.extend(arrived.into_iter().map(|packet| (self.now, packet)));
                }
                Event::Arrive(packet) => self.arrived.push((self.now, *packet)),
                Event::Unreachable { end: A, of: B } => self.unreachable.push(self.now),
                other => panic!("no connection plans {other:?}"),
            }
            self.take_told();
        }
        self.now = until;
    }

    /// Sends a message of this number from A to B.
    fn send(&mut self, number: u64) -> bool {
        let body = message::Body::Quiesce { term: 1, index: number };
        let is_sent = self.net.send(self.now, raft(body));
        self.take_told();
        is_sent
    }

    fn ask(&mut self, number: u64) {
        let attempt = AttemptId { client: 1, number };
        let epoch = Epoch { conf_ver: 1, version: 1 };
        let op = Op::Get(vec![]);
        let request = ClientRequest { attempt, region: RegionId(1), epoch, timeout_ms: 1, op };
        let body = Body::Request(Box::new(request));
        self.net.send(self.now, Packet { from: CLIENT, to: B, body });
        self.take_told();
    }

    fn answer(&mut self, number: u64) -> bool {
        let attempt = AttemptId { client: 1, number };
        let body = Body::Reply { attempt, result: Box::new(Ok(Answer::Written)) };
        let is_sent = self.net.send(self.now, Packet { from: B, to: CLIENT, body });
        self.take_told();
        is_sent
    }

    /// The numbers of the Raft messages that arrived so far.
    fn numbers(&self) -> Vec<u64> {
        let number = |packet: &Packet| match &packet.body {
            Body::Envelope(envelope) => match envelope.body {
                message::Body::Quiesce { index, .. } => Some(index),
                _ => None,
            },
            _ => None,
        };
        self.arrived.iter().filter_map(|(_, packet)| number(packet)).collect()
    }

    /// The attempts whose connection failed: their numbers, and whether they may have an effect.
    fn failures(&self) -> Vec<(u64, bool)> {
        let failure = |packet: &Packet| match &packet.body {
            Body::Broken { attempt, failure } => Some((attempt.number, failure.may_have_effect())),
            _ => None,
        };
        self.arrived.iter().filter_map(|(_, packet)| failure(packet)).collect()
    }

    fn count(&self, mark: &str) -> u64 {
        self.counts.get(mark).copied().unwrap_or(0)
    }
}

fn raft(body: message::Body) -> Packet {
    let end = |store| message::End { address: Address::Store(StoreId(store)), member: store };
    let (region_id, conf_ver, region) = (RegionId(1), 1, None);
    let envelope = Envelope { region_id, conf_ver, region, from: end(1), to: end(2), body };
    Packet { from: A, to: B, body: Body::Envelope(Box::new(envelope)) }
}

fn entry_of(bytes: usize) -> Packet {
    let entry = Entry { data: Bytes::from(vec![0; bytes]), ..Entry::default() };
    let message = RaftMessage { entries: vec![entry], ..RaftMessage::default() };
    raft(message::Body::Message(Box::new(message)))
}

fn rig() -> Rig {
    Rig::new(ConnScenario::default())
}

#[test]
fn messages_arrive_in_their_order_once_the_connection_is_made() {
    let mut rig = rig();
    for number in 0..100 {
        assert!(rig.send(number));
        rig.run(50);
    }
    rig.run(OPEN);
    assert_eq!(rig.numbers(), (0..100).collect::<Vec<_>>());
    let first = rig.arrived.first().map(|(at, _)| *at);
    assert!(first.is_some_and(|at| (3 * DELAY..4 * DELAY).contains(&at)), "{first:?}");
}

#[test]
fn a_small_message_waits_behind_a_large_one() {
    let mut rig = Rig::new(ConnScenario { bytes_per_s: 1_000_000, ..ConnScenario::default() });
    rig.send(1);
    rig.run(OPEN);
    rig.net.send(rig.now, entry_of(500_000));
    rig.send(2);
    rig.run(400 * MS);
    assert_eq!(rig.numbers(), [1]);
    rig.run(200 * MS);
    assert_eq!(rig.numbers(), [1, 2]);
    assert_eq!(rig.count("messages that waited behind others"), 2);
}

#[test]
fn a_reset_loses_all_that_is_under_way_and_the_next_connection_takes_a_while() {
    let mut rig = rig();
    rig.send(1);
    rig.run(OPEN);
    rig.send(2);
    rig.send(3);
    assert_eq!(rig.net.reset(rig.now, &mut Dice::new(1), 1_000), 1);
    rig.run(100 * MS);
    assert_eq!(rig.unreachable.len(), 1);
    assert!(!rig.send(4), "what is sent while nobody connects is stale by then");
    rig.run(100 * MS);
    assert!(rig.send(5));
    rig.run(OPEN);
    assert_eq!(rig.numbers(), [1, 5]);
}

#[test]
fn a_cut_holds_what_is_sent_and_the_oldest_arrives_first_when_it_ends() {
    let mut rig = rig();
    rig.send(1);
    rig.run(OPEN);
    rig.net.cut(&[(A, B)]);
    for number in 2..6 {
        assert!(rig.send(number));
        rig.run(100 * MS);
    }
    assert_eq!(rig.numbers(), [1]);
    rig.net.mend(&[(A, B)]);
    rig.send(6);
    rig.run(2_000 * MS);
    assert_eq!(rig.numbers(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(rig.count("stale turns delivered after a cut"), 4);
    assert!(rig.unreachable.is_empty());
}

#[test]
fn what_waits_on_a_clogged_link_arrives_soon_after_all_is_healed() {
    let mut rig = rig();
    rig.send(1);
    rig.run(OPEN);
    rig.net.clog(&[(A, B)], rig.now + 60_000 * MS);
    rig.send(2);
    rig.run(1_000 * MS);
    assert_eq!(rig.numbers(), [1]);
    rig.net.heal();
    rig.send(3);
    rig.run(1_000 * MS);
    assert_eq!(rig.numbers(), [1, 2, 3]);
}

#[test]
fn a_connection_over_a_clogged_link_is_given_up_and_made_again() {
    let mut rig = rig();
    rig.net.clog(&[(A, B)], rig.now + 60_000 * MS);
    rig.send(1);
    rig.run(1_900 * MS);
    assert!(rig.unreachable.is_empty(), "there is time left");
    rig.run(200 * MS);
    assert_eq!(rig.unreachable.len(), 1);
    rig.net.heal();
    rig.run(1_000 * MS);
    rig.send(2);
    rig.run(OPEN);
    assert_eq!(rig.numbers(), [2]);
}

#[test]
fn a_connection_that_stays_silent_is_found_dead() {
    let mut rig = Rig::new(ConnScenario { keepalive: 3_000 * MS, ..ConnScenario::default() });
    rig.send(1);
    rig.run(OPEN);
    rig.net.cut(&[(A, B)]);
    rig.send(2);
    rig.run(1_900 * MS);
    assert!(rig.unreachable.is_empty(), "two thirds of the keepalive are not over");
    rig.run(1_100 * MS);
    assert_eq!(rig.unreachable.len(), 1);
    rig.net.mend(&[(A, B)]);
    rig.run(1_000 * MS);
    rig.send(3);
    rig.run(OPEN);
    assert_eq!(rig.numbers(), [1, 3]);
}

#[test]
fn a_connection_that_is_cut_one_way_carries_messages_the_other_way() {
    let mut rig = rig();
    rig.ask(1);
    rig.ask(2);
    rig.run(OPEN);
    rig.net.cut(&[(CLIENT, B)]);
    rig.ask(3);
    assert!(rig.answer(1));
    rig.run(OPEN);
    let has_answer = |rig: &Rig, wanted| {
        rig.arrived.iter().any(|(_, packet)| match &packet.body {
            Body::Reply { attempt, .. } => attempt.number == wanted,
            _ => false,
        })
    };
    assert!(has_answer(&rig, 1));
    rig.net.cut(&[(B, CLIENT)]);
    assert!(rig.answer(2), "the answer waits in its connection");
    rig.run(OPEN);
    assert!(!has_answer(&rig, 2));
    assert!(rig.failures().is_empty());
}

#[test]
fn a_full_queue_drops_the_newest_turn_and_reports_it_now_and_then() {
    let conns = ConnScenario { window_bytes: 0, turns_max: 3, ..ConnScenario::default() };
    let mut rig = Rig::new(conns);
    rig.send(1);
    rig.run(OPEN);
    rig.net.cut(&[(A, B)]);
    for number in [2, 4, 6, 8, 10] {
        let is_sent = rig.send(number);
        assert_eq!(rig.send(number + 1), is_sent, "a turn is dropped whole");
        assert_eq!(is_sent, number < 8);
        rig.run(10 * MS);
    }
    assert_eq!(rig.unreachable.len(), 1);
    assert_eq!(rig.count("messages dropped by a full queue"), 4);
    rig.net.mend(&[(A, B)]);
    rig.run(1_000 * MS);
    assert_eq!(rig.numbers(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(rig.send(12), "there is room again");
}

#[test]
fn every_request_without_an_answer_fails_with_its_connection() {
    let mut rig = rig();
    rig.ask(1);
    rig.ask(2);
    rig.run(OPEN);
    rig.answer(1);
    rig.run(OPEN);
    rig.ask(3);
    rig.net.reset(rig.now, &mut Dice::new(1), 1_000);
    rig.run(OPEN);
    let mut failures = rig.failures();
    failures.sort_unstable();
    assert_eq!(failures, [(2, true), (3, true)]);
    assert!(!rig.answer(2), "an answer goes with the connection of its request");
}

#[test]
fn a_request_to_a_dead_process_was_never_sent() {
    let mut rig = rig();
    rig.net.process_ended(0, B);
    rig.ask(1);
    rig.run(3_000 * MS);
    assert_eq!(rig.failures(), [(1, false)]);
    rig.net.process_began(rig.now, B);
    rig.ask(2);
    rig.run(OPEN);
    let is_request = |packet: &Packet| matches!(packet.body, Body::Request(_));
    assert!(rig.arrived.iter().any(|(_, packet)| is_request(packet)));
}

#[test]
fn what_a_process_was_asked_fails_when_it_ends_at_the_latest_when_it_is_back() {
    let mut told_at = vec![];
    for seed in 0..20 {
        let mut rig = rig();
        rig.net.conns = Some(Conns::new(ConnScenario::default(), seed));
        rig.ask(1);
        rig.run(OPEN);
        rig.net.process_ended(rig.now, B);
        rig.run(1_000 * MS);
        let was_told = !rig.failures().is_empty();
        rig.net.process_began(rig.now, B);
        rig.run(1_500 * MS);
        assert_eq!(rig.failures(), [(1, true)]);
        told_at.push(was_told);
    }
    assert!(told_at.contains(&true) && told_at.contains(&false), "{told_at:?}");
}

#[test]
fn a_snapshot_that_is_lost_with_its_connection_is_reported_to_its_sender() {
    let mut rig = rig();
    let Packet { body: Body::Envelope(envelope), .. } = entry_of(10) else { return };
    let rows = std::sync::Arc::new(vec![(Bytes::from_static(b"k"), Bytes::from(vec![0; 1_000]))]);
    let body = Body::Snapshot { envelope, rows, life: 4 };
    assert!(rig.net.send(0, Packet { from: A, to: B, body }));
    rig.run(OPEN);
    assert_eq!(rig.arrived.len(), 1, "the snapshot");
    rig.net.reset(rig.now, &mut Dice::new(1), 1_000);
    rig.run(OPEN);
    let Some((_, Packet { to, body: Body::SnapshotTaken { life, input }, .. })) =
        rig.arrived.last()
    else {
        panic!("the sender is told: {:?}", rig.arrived);
    };
    assert_eq!((*to, *life), (A, 4));
    let failed = flotilla_store::core::Input::SnapshotSent {
        region: RegionId(1),
        peer: flotilla_types::PeerId(2),
        is_ok: false,
    };
    assert_eq!(format!("{input:?}"), format!("{failed:?}"));
}
