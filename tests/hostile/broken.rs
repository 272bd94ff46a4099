//! Calls that are broken as calls, to the methods of every service: frames, messages, headers.

use bytes::Bytes;
use flotilla_types::limits::MESSAGE_BYTES_MAX;
use flotilla_types::proto::SnapshotDone;
use prost::Message;

use crate::case::Case;
use crate::grpc::{Ended, Sent, frame};
use crate::kv;
use crate::world::World;

/// A method of a service.
#[derive(Clone, Copy)]
struct Method {
    path: &'static str,
    of: Role,
    /// How often it takes a message.
    takes: Takes,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Store,
    Pd,
}

#[derive(Clone, Copy, PartialEq)]
enum Takes {
    One,
    Many,
}

const METHODS: [Method; 6] = [
    Method { path: "/flotilla.v1.Kv/Requests", of: Role::Store, takes: Takes::Many },
    Method { path: "/flotilla.v1.Kv/Scan", of: Role::Store, takes: Takes::One },
    Method { path: "/flotilla.v1.Kv/Routes", of: Role::Store, takes: Takes::One },
    Method { path: "/flotilla.v1.Raft/Messages", of: Role::Store, takes: Takes::Many },
    Method { path: "/flotilla.v1.Raft/Snapshot", of: Role::Pd, takes: Takes::Many },
    Method { path: "/flotilla.v1.Pd/Call", of: Role::Pd, takes: Takes::One },
];

/// Fields that are repeated, or that cost memory beyond their bytes, within those that hold them.
const SWELLING: [(usize, &str, &[u32]); 12] = [
    (0, "requests", &[3]),
    (0, "keys of a get", &[3, 4, 1]),
    (0, "mutations of a write", &[3, 5, 1]),
    (1, "regions of a scan", &[3]),
    (3, "envelopes", &[4]),
    (3, "entries of a message", &[4, 8, 7]),
    (3, "members of a region", &[4, 7, 5]),
    (4, "pairs of a snapshot", &[2, 1]),
    (5, "reports of a heartbeat", &[4, 3]),
    (5, "leaderless peers of a heartbeat", &[4, 4]),
    (5, "tombstoned peers of a heartbeat", &[4, 10]),
    (5, "labels of a store", &[3, 3]),
];

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for method in METHODS {
        cases.extend(frames(method));
        cases.extend(messages(method));
        cases.extend(headers(method));
    }
    cases.extend(SWELLING.iter().map(|(method, what, fields)| {
        let body = swelling(fields);
        let name = format!("{} with {} bytes of {what}", METHODS[*method].path, body.len());
        case(METHODS[*method], name, &["status 11", "refused: "], vec![], body)
    }));
    cases.extend(paths());
    cases
}

fn case(
    method: Method,
    name: String,
    expected: &[&'static str],
    headers: Vec<(&'static str, &'static str)>,
    body: Bytes,
) -> Case {
    let build = move |world: &World| {
        let addr = if method.of == Role::Pd { &world.pd } else { &world.leader.1 };
        Sent { headers: headers.clone(), ..Sent::new(addr, method.path, body.clone()) }
    };
    let tell = match method.path {
        "/flotilla.v1.Kv/Requests" => kv::tell,
        "/flotilla.v1.Raft/Snapshot" => tell_snapshot,
        _ => |_: &Ended| "answer".into(),
    };
    Case { name, build: Box::new(build), tell, expected: expected.to_vec() }
}

/// The words for the end of a snapshot.
pub fn tell_snapshot(ended: &Ended) -> String {
    let done = SnapshotDone::decode(ended.messages[0].clone()).expect("an end");
    if done.accepted { "accepted".into() } else { format!("refused: {}", done.reason) }
}

fn frames(method: Method) -> Vec<Case> {
    let of = |name: &str, expected: &[&'static str], body: Bytes| {
        case(method, format!("{} with {name}", method.path), expected, vec![], body)
    };
    let internal: &[&'static str] = &["status 13", "refused: "];
    let too_large = &["status 11", "refused: "];
    let none: &[&'static str] = match method.takes {
        Takes::One => internal,
        Takes::Many => &["", "answer", "refused: "],
    };
    // A stream of messages that ends with a frame's head ends there.
    let unframed = if method.takes == Takes::One { internal } else { none };
    vec![
        of("no message", none, Bytes::new()),
        of("half a frame's head", internal, Bytes::from_static(&[0, 0, 0])),
        of("a frame without its message", unframed, frame(0, 100, b"")),
        of("a part of a message", internal, frame(0, 100, &[0x1a, 98, 0])),
        of("a compressed frame", internal, frame(1, 2, &[8, 1])),
        of("a frame of flag 2", internal, frame(2, 2, &[8, 1])),
        of("a frame of flag 255", internal, frame(255, 2, &[8, 1])),
        of("a frame over the limit", too_large, frame(0, MESSAGE_BYTES_MAX as u32 + 1, b"")),
        of("a frame of 4 GiB", too_large, frame(0, u32::MAX, &[0; 1000])),
    ]
}

fn messages(method: Method) -> Vec<Case> {
    let nested = [0x1a; 2 * 120].map(|byte| byte).to_vec();
    [
        ("field 0", vec![0x02, 0]),
        ("a wire type that there is not", vec![0x0f]),
        ("the end of a group", vec![0x0c]),
        ("a group without end", vec![0x1b]),
        ("a number without end", vec![0x08, 0xff, 0xff, 0xff]),
        ("a number of more than 64 bits", [&[0x08][..], &[0xff; 11]].concat()),
        ("a field over the end", vec![0x1a, 100, 0]),
        ("a field of 2^63 bytes", [&[0x1a][..], &[0xff; 8], &[0x7f]].concat()),
        ("messages within messages", nested),
    ]
    .into_iter()
    .map(|(what, message)| {
        let name = format!("{} with {what}", method.path);
        let body = frame(0, message.len() as u32, &message);
        case(method, name, &["status 13", "status 3", "refused: "], vec![], body)
    })
    .collect()
}

fn headers(method: Method) -> Vec<Case> {
    let empty = frame(0, 0, b"");
    let of = |headers: &[(&'static str, &'static str)], expected: &[&'static str]| {
        let name = format!("{} with {headers:?}", method.path);
        case(method, name, expected, headers.to_vec(), empty.clone())
    };
    let any = &["status", "answer", "refused: ", ""];
    vec![
        of(&[("grpc-encoding", "gzip")], &["status 12", "refused: "]),
        of(&[("grpc-encoding", "nothing known")], &["status 12", "refused: "]),
        of(&[("grpc-timeout", "1n")], any),
        of(&[("grpc-timeout", "99999999H")], any),
        of(&[("grpc-timeout", "soon")], any),
        of(&[("content-type", "")], any),
    ]
}

/// A message of 17 MiB that repeats an empty field.
fn swelling(fields: &[u32]) -> Bytes {
    let tag = |field: u32| (field << 3 | 2) as u8;
    let (last, around) = fields.split_last().expect("a field");
    let mut message = [tag(*last), 0].repeat(MESSAGE_BYTES_MAX / 2 - 32);
    for field in around.iter().rev() {
        let mut head = vec![tag(*field)];
        prost::encode_length_delimiter(message.len(), &mut head).expect("there is room");
        head.append(&mut message);
        message = head;
    }
    frame(0, message.len() as u32, &message)
}

/// Methods that there are not.
fn paths() -> Vec<Case> {
    let mut cases = vec![];
    for of in [Role::Store, Role::Pd] {
        for path in [
            "/",
            "/flotilla.v1.Kv/",
            "/flotilla.v1.Kv/Nothing",
            "/flotilla.v1.Nothing/Call",
            "/flotilla.v1.Raft/Messages/",
            "/flotilla.v2.Kv/Requests",
            "//flotilla.v1.Kv/Requests",
            "/%2e%2e/flotilla.v1.Kv/Requests",
        ] {
            let method = Method { path, of, takes: Takes::Many };
            let name = format!("{path} of {}", if of == Role::Pd { "PD" } else { "a store" });
            cases.push(case(method, name, &["status 12"], vec![], frame(0, 0, b"")));
        }
        for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
            let build = move |world: &World| {
                let addr = if of == Role::Pd { &world.pd } else { &world.leader.1 };
                let path = if of == Role::Pd { METHODS[5].path } else { METHODS[1].path };
                Sent { method, ..Sent::new(addr, path, frame(0, 0, b"")) }
            };
            let name = format!("{method} of {}", if of == Role::Pd { "PD" } else { "a store" });
            let expected = vec!["status", "http 4", "answer"];
            let tell = |_: &Ended| "answer".into();
            cases.push(Case { name, build: Box::new(build), tell, expected });
        }
    }
    cases
}
