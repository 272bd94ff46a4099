//! What a stranger may say to the members of a Raft group. Nothing of it reaches the log, and
//! nothing ends a process.

use bytes::Bytes;
use flotilla_types::proto::{
    Entry, Envelope, EnvelopeBatch, PeerRemoved, Quiesce, RaftMessage, Region, SnapshotEnd,
    SnapshotHeader, SnapshotMeta, SnapshotPart, SnapshotRows, StoreBeat, envelope::Body,
    snapshot_part::Part,
};

use crate::broken::tell_snapshot;
use crate::case::Case;
use crate::grpc::{Ended, Sent, frame, framed};
use crate::world::World;

/// All cases.
pub fn cases() -> Vec<Case> {
    [destinations(), envelopes(), messages(), snapshots()].into_iter().flatten().collect()
}

/// A batch from the follower's store to the leader's.
fn batch(world: &World, envelopes: Vec<Envelope>) -> EnvelopeBatch {
    let (cluster_id, from, to) = (world.cluster_id, world.follower.0, world.leader.0);
    EnvelopeBatch { cluster_id, from, to, envelopes, ..EnvelopeBatch::default() }
}

/// An envelope from the follower to the leader.
fn envelope(world: &World, body: Option<Body>) -> Envelope {
    let (from_store, to_store) = (world.follower.0, world.leader.0);
    Envelope {
        region_id: world.region,
        conf_ver: world.epoch.0,
        from_peer: world.member_on(from_store),
        from_store,
        to_peer: world.member_on(to_store),
        to_store,
        body,
        ..Envelope::default()
    }
}

fn case(
    name: String,
    expected: &'static str,
    of: impl Fn(&World) -> EnvelopeBatch + Send + Sync + 'static,
) -> Case {
    let build = move |world: &World| {
        Sent::new(&world.leader.1, "/flotilla.v1.Raft/Messages", framed(&of(world)))
    };
    let tell = |_: &Ended| "taken or dropped".into();
    Case { name, build: Box::new(build), tell, expected: vec![expected] }
}

fn destinations() -> Vec<Case> {
    type Alter = fn(&mut EnvelopeBatch);
    let refused: [(&str, Alter); 9] = [
        ("no cluster", |batch| batch.cluster_id = 0),
        ("another cluster", |batch| batch.cluster_id ^= 1),
        ("the last cluster", |batch| batch.cluster_id = u64::MAX),
        ("store 0", |batch| batch.to = 0),
        ("another store", |batch| batch.to = batch.from),
        ("the last store", |batch| batch.to = u64::MAX),
        ("a placement driver", |batch| batch.role = 1),
        ("a role that there is not", |batch| batch.role = 77),
        ("role -1", |batch| batch.role = -1),
    ];
    let mut cases = vec![];
    for (to, alter) in refused {
        cases.push(case(format!("Raft: messages to {to}"), "status 9", move |world| {
            let mut batch = batch(world, vec![]);
            alter(&mut batch);
            batch
        }));
    }
    for (name, addr) in [
        ("no address", "x".into()),
        ("an address over the limit", format!("{}:1", "h".repeat(16 << 20))),
    ] {
        cases.push(case(format!("Raft: messages from {name}"), "status 3", move |world| {
            EnvelopeBatch { from: 77, from_addr: addr.clone(), ..batch(world, vec![]) }
        }));
    }
    cases
}

fn envelopes() -> Vec<Case> {
    type Alter = fn(&mut Envelope);
    let altered: [(&str, Alter); 16] = [
        ("no body", |_| {}),
        ("region 0", |one| one.region_id = 0),
        ("an unknown region", |one| one.region_id = 99_999),
        ("the last region", |one| one.region_id = u64::MAX),
        ("the last epoch", |one| one.conf_ver = u64::MAX),
        ("an unknown sender", |one| one.from_peer = 99_999),
        ("sender 0", |one| one.from_peer = 0),
        ("a sender of another store", |one| one.from_store = 99),
        ("an unknown receiver", |one| one.to_peer = u64::MAX),
        ("itself", |one| (one.from_peer, one.from_store) = (one.to_peer, one.to_store)),
        ("another role", |one| one.role = 1),
        ("an unknown role", |one| one.role = 9),
        ("an empty region", |one| one.region = Some(Box::default())),
        ("a region of another id", |one| {
            one.region = Some(Box::new(Region { id: one.region_id + 1, ..Region::default() }));
        }),
        ("a removal of the last epoch but of an unknown region", |one| {
            (one.region_id, one.conf_ver) = (99_999, u64::MAX);
            one.body = Some(Body::Removed(PeerRemoved {}));
        }),
        ("a quiesce of a term that was not", |one| {
            one.body = Some(Body::Quiesce(Quiesce { term: 0, index: u64::MAX }));
        }),
    ];
    let mut cases = vec![];
    for (name, alter) in altered {
        cases.push(case(format!("Raft: envelope of {name}"), "taken or dropped", move |world| {
            let mut one = envelope(world, None);
            if name != "no body" {
                one.body = Some(Body::Message(Box::new(message(world))));
            }
            alter(&mut one);
            batch(world, vec![one])
        }));
    }
    let beat = |incarnation| Body::Beat(StoreBeat { incarnation, is_answer: true });
    cases.push(case("Raft: beat of incarnation 0".into(), "taken or dropped", move |world| {
        let beat =
            Envelope { region_id: 0, from_peer: 0, to_peer: 0, ..envelope(world, Some(beat(0))) };
        batch(world, vec![beat])
    }));
    cases
}

/// A heartbeat's answer of an old term, which changes nothing.
fn message(world: &World) -> RaftMessage {
    let (from, to) = (world.member_on(world.follower.0), world.member_on(world.leader.0));
    RaftMessage { kind: 9, from, to, term: 1, ..RaftMessage::default() }
}

fn messages() -> Vec<Case> {
    let entry = |term, index| Entry { term, index, ..Entry::default() };
    let append =
        move |entries: Vec<Entry>| RaftMessage { kind: 3, term: 1, entries, ..Default::default() };
    let mut altered: Vec<(String, RaftMessage)> = vec![
        ("entries with a gap".into(), append(vec![entry(1, 1), entry(1, 3)])),
        ("entries that go back".into(), append(vec![entry(1, 2), entry(1, 1)])),
        ("entries of falling terms".into(), append(vec![entry(2, 1), entry(1, 2)])),
        ("entries of a later term".into(), append(vec![entry(u64::MAX, 1)])),
        ("the last entry".into(), append(vec![entry(1, u64::MAX), entry(1, 0)])),
        ("an entry of an unknown kind".into(), append(vec![Entry { kind: 77, ..entry(1, 1) }])),
        ("a change that cannot be read".into(), {
            append(vec![Entry { kind: 2, data: Bytes::from_static(&[0xff; 9]), ..entry(1, 1) }])
        }),
        ("a snapshot without one".into(), RaftMessage { kind: 7, term: 1, ..Default::default() }),
        ("a snapshot of the last index".into(), {
            let snapshot = SnapshotMeta { index: u64::MAX, term: u64::MAX, ..Default::default() };
            RaftMessage {
                kind: 7,
                term: 1,
                snapshot: Some(Box::new(snapshot)),
                ..Default::default()
            }
        }),
        ("a commit of the last index".into(), {
            RaftMessage { kind: 8, term: 1, commit: u64::MAX, ..Default::default() }
        }),
    ];
    // Kinds that a member says to itself only, and kinds that there are not.
    for kind in [0, 1, 2, 10, 11, 12, 13, 15, 16, 19, 99, -1] {
        let term = if kind == 2 { 0 } else { 1 };
        altered.push((format!("kind {kind}"), RaftMessage { kind, term, ..Default::default() }));
    }
    let of = |(name, altered): (String, RaftMessage)| {
        case(format!("Raft: message of {name}"), "taken or dropped", move |world| {
            let RaftMessage { from, to, .. } = message(world);
            let message = RaftMessage { from, to, ..altered.clone() };
            batch(world, vec![envelope(world, Some(Body::Message(Box::new(message))))])
        })
    };
    altered.into_iter().map(of).collect()
}

/// A snapshot whose parts are these.
fn snapshot(
    name: &str,
    expected: &'static str,
    of: impl Fn(&World) -> Vec<Part> + Send + Sync + 'static,
) -> Case {
    let build = move |world: &World| {
        let parts = of(world).into_iter().map(|part| SnapshotPart { part: Some(part) });
        let body: Vec<u8> = parts.flat_map(|part| framed(&part)).collect();
        Sent::new(&world.leader.1, "/flotilla.v1.Raft/Snapshot", body.into())
    };
    let name = format!("Raft: snapshot of {name}");
    Case { name, build: Box::new(build), tell: tell_snapshot, expected: vec![expected] }
}

fn header(world: &World, body: Option<Body>) -> SnapshotHeader {
    let (cluster_id, from, to) = (world.cluster_id, world.follower.0, world.leader.0);
    let envelope = Some(envelope(world, body));
    SnapshotHeader { cluster_id, from, to, envelope, ..SnapshotHeader::default() }
}

fn snapshots() -> Vec<Case> {
    let rows = || Part::Rows(SnapshotRows { pairs: vec![], crc32: 1 });
    let end = || Part::End(SnapshotEnd { rows: u64::MAX, crc32: 1 });
    let mut unset = snapshot("an unknown part", "refused: ", |_| vec![]);
    unset.build = Box::new(|world: &World| {
        Sent::new(&world.leader.1, "/flotilla.v1.Raft/Snapshot", frame(0, 3, &[0x9a, 0x06, 0]))
    });
    vec![
        unset,
        snapshot("rows only", "refused: a snapshot begins", move |_| vec![rows()]),
        snapshot("its end only", "refused: a snapshot begins", move |_| vec![end()]),
        snapshot("another cluster", "refused: this is", |world| {
            vec![Part::Header(SnapshotHeader { cluster_id: 1, ..header(world, None) })]
        }),
        snapshot("another store", "refused: this is", |world| {
            vec![Part::Header(SnapshotHeader { to: 99, ..header(world, None) })]
        }),
        snapshot("another role", "refused: this is", |world| {
            vec![Part::Header(SnapshotHeader { role: 1, ..header(world, None) })]
        }),
        snapshot("no message", "refused: a header without", |world| {
            vec![Part::Header(header(world, None))]
        }),
        snapshot("no envelope", "refused: a header without", |world| {
            vec![Part::Header(SnapshotHeader { envelope: None, ..header(world, None) })]
        }),
        snapshot("another sender", "refused: a header without", |world| {
            vec![Part::Header(SnapshotHeader { from: 99, ..header(world, None) })]
        }),
        snapshot("another message", "refused: a header whose", |world| {
            let other = Body::Message(Box::new(message(world)));
            vec![Part::Header(header(world, Some(other)))]
        }),
        snapshot("a message without a snapshot", "refused: a header whose", |world| {
            let other = RaftMessage { kind: 7, ..message(world) };
            vec![Part::Header(header(world, Some(Body::Message(Box::new(other)))))]
        }),
        snapshot("a region that cannot be read", "refused: ", |world| {
            let meta = SnapshotMeta { data: Bytes::from_static(&[0xff; 4]), ..Default::default() };
            let snapshot = Some(Box::new(meta));
            let other = RaftMessage { kind: 7, snapshot, ..message(world) };
            vec![Part::Header(header(world, Some(Body::Message(Box::new(other)))))]
        }),
    ]
}
