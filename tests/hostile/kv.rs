//! What a client may ask of a store: limits, regions, epochs, destinations, kinds.

use bytes::Bytes;
use flotilla_types::keys::stored_key;
use flotilla_types::limits::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use flotilla_types::proto::{
    CompareAndSwap, Epoch, Get, KeySpan, Mutation, Pair, RegionRef, ReplyBatch, Request,
    RequestBatch, Slot, Write, mutation, region_error, reply, request::Op,
};
use prost::Message;

use crate::case::{Case, NOT_LEADER};
use crate::grpc::{Ended, Sent, framed};
use crate::world::World;

const PATH: &str = "/flotilla.v1.Kv/Requests";

/// All cases.
pub fn cases() -> Vec<Case> {
    let tables = [
        key_lengths(),
        value_lengths(),
        batches(),
        large_reads(),
        range_bounds(),
        regions_and_epochs(),
        destinations(),
        keys_outside(),
        kinds(),
        ids_and_time_limits(),
    ];
    tables.into_iter().flatten().collect()
}

/// One request to the leader of the first region.
fn case(
    name: String,
    expected: &[&'static str],
    op: impl Fn() -> Op + Send + Sync + 'static,
) -> Case {
    altered(name, expected, op, |_, _| {})
}

/// [`case`] whose batch is altered once it is whole.
fn altered(
    name: String,
    expected: &[&'static str],
    op: impl Fn() -> Op + Send + Sync + 'static,
    alter: impl Fn(&World, &mut RequestBatch) + Send + Sync + 'static,
) -> Case {
    let build = move |world: &World| {
        let region = Some(world.region_ref());
        let request = Request { id: 1, region, op: Some(op()), ..Request::default() };
        let (cluster_id, store_id) = (world.cluster_id, world.leader.0);
        let mut batch = RequestBatch { cluster_id, store_id, requests: vec![request] };
        alter(world, &mut batch);
        Sent::new(&world.leader.1, PATH, framed(&batch))
    };
    Case { name, build: Box::new(build), tell, expected: expected.to_vec() }
}

/// The results of all replies.
pub fn tell(ended: &Ended) -> String {
    let decode = |message: &Bytes| ReplyBatch::decode(message.clone()).expect("a batch of replies");
    let replies = ended.messages.iter().flat_map(|message| decode(message).replies);
    let mut words: Vec<String> = replies.map(|reply| result(reply.id, reply.result)).collect();
    words.sort();
    words.join(", ")
}

fn result(id: u64, result: Option<reply::Result>) -> String {
    let words = match result {
        Some(reply::Result::Get(_)) => "get".into(),
        Some(reply::Result::Write(_)) => "write".into(),
        Some(reply::Result::CompareAndSwap(_)) => "swap".into(),
        Some(reply::Result::Error(error)) => error_words(error.kind),
        None => "nothing".into(),
    };
    if id == 1 { words } else { format!("{words} of {id}") }
}

/// The words for a store's refusal.
pub fn error_words(kind: Option<region_error::Kind>) -> String {
    use region_error::Kind;
    match kind.expect("an error has a kind") {
        Kind::NotLeader(_) => NOT_LEADER.into(),
        Kind::EpochNotMatch(error) => format!("epoch not match, {} regions", error.current.len()),
        Kind::KeyNotInRegion(_) => "key not in region".into(),
        Kind::RegionNotFound(error) => format!("region not found: {}", error.region_id),
        Kind::WrongDestination(_) => "wrong destination".into(),
        Kind::ServerBusy(error) => format!("busy: {}", error.reason),
        Kind::LimitExceeded(error) => format!("limit: {} {}", error.limit, error.max),
        Kind::Undetermined(_) => "undetermined".into(),
        Kind::Unsupported(error) => format!("unsupported: {}", error.what),
        Kind::DeadlineExceeded(_) => "deadline exceeded".into(),
    }
}

/// A key of the first region, of so many bytes.
fn key(bytes: usize) -> Bytes {
    stored_key(0, &vec![b'a'; bytes])
}

/// A stored key cut off or padded to so many bytes.
fn raw_key(bytes: usize) -> Bytes {
    key(bytes).slice(..bytes)
}

fn value(bytes: usize) -> Bytes {
    vec![b'v'; bytes].into()
}

fn get(keys: Vec<Bytes>) -> Op {
    Op::Get(Get { keys })
}

fn write(kinds: Vec<Option<mutation::Kind>>) -> Op {
    Op::Write(Write { mutations: kinds.into_iter().map(|kind| Mutation { kind }).collect() })
}

fn put(key: Bytes, value: Bytes) -> Option<mutation::Kind> {
    Some(mutation::Kind::Put(Pair { key, value }))
}

fn range(start: Bytes, end: Bytes) -> Option<mutation::Kind> {
    Some(mutation::Kind::DeleteRange(KeySpan { start, end }))
}

fn swap(key: Bytes, expected: Option<Bytes>, new: Option<Bytes>) -> Op {
    let slot = |value: Option<Bytes>| {
        value.map(|value| Slot { found: true, value }).or(Some(Slot::default()))
    };
    Op::CompareAndSwap(CompareAndSwap { key, expected: slot(expected), new: slot(new) })
}

/// A kind of request, for one key, and the word for its answer.
type Kind = (&'static str, fn(Bytes) -> Op, &'static str);

const KINDS: [Kind; 4] = [
    ("get", |key| get(vec![key]), "get"),
    ("put", |key| write(vec![put(key, value(1))]), "write"),
    ("delete", |key| write(vec![Some(mutation::Kind::Delete(key))]), "write"),
    ("swap", |key| swap(key, None, None), "swap"),
];

fn key_lengths() -> Vec<Case> {
    let mut cases = vec![];
    for (kind, op, answer) in KINDS {
        let longest = KEY_BYTES_MAX + 4;
        for (length, expected) in [
            (0, "limit: key bytes, and at least 1"),
            (3, "limit: key bytes, and at least 1"),
            (4, "limit: key bytes, and at least 1"),
            (5, answer),
            (longest - 1, answer),
            (longest, answer),
            (longest + 1, "limit: key bytes 8192"),
            (1024 * 1024, "limit: key bytes 8192"),
        ] {
            let name = format!("{kind} of a stored key of {length} bytes");
            cases.push(case(name, &[expected], move || op(raw_key(length))));
        }
    }
    cases
}

fn value_lengths() -> Vec<Case> {
    let mut cases = vec![];
    for (length, is_over) in
        [(VALUE_BYTES_MAX - 1, false), (VALUE_BYTES_MAX, false), (VALUE_BYTES_MAX + 1, true)]
    {
        let limit = "limit: value bytes 6291456";
        let expected = |answer| if is_over { limit } else { answer };
        let name = |what: &str| format!("{what} of {length} bytes");
        cases.push(case(name("put"), &[expected("write")], move || {
            write(vec![put(key(2), value(length))])
        }));
        cases.push(case(name("swap to"), &[expected("swap")], move || {
            swap(key(3), None, Some(value(length)))
        }));
        cases.push(case(name("swap from"), &[expected("swap")], move || {
            swap(key(4), Some(value(length)), None)
        }));
    }
    cases
}

fn batches() -> Vec<Case> {
    let mut cases = vec![];
    for (count, is_over) in
        [(BATCH_KEYS_MAX - 1, false), (BATCH_KEYS_MAX, false), (BATCH_KEYS_MAX + 1, true)]
    {
        let limit = "limit: keys in a batch 1024";
        let expected = |answer| if is_over { limit } else { answer };
        let name = |what: &str| format!("{what} of {count} keys");
        let many =
            move |of: fn() -> Option<mutation::Kind>| write((0..count).map(|_| of()).collect());
        cases.push(case(name("get"), &[expected("get")], move || get(vec![key(9); count])));
        cases.push(case(name("put"), &[expected("write")], move || many(|| put(key(9), value(1)))));
        cases.push(case(name("delete"), &[expected("write")], move || {
            many(|| Some(mutation::Kind::Delete(key(9))))
        }));
        cases.push(case(name("delete of ranges"), &[expected("write")], move || {
            many(|| range(key(9), key(10)))
        }));
    }
    for (bytes, expected) in [
        (BATCH_BYTES_MAX - 1, "write"),
        (BATCH_BYTES_MAX, "write"),
        (BATCH_BYTES_MAX + 1, "limit: bytes of keys and values in a batch 8388608"),
    ] {
        cases.push(case(format!("a batch of {bytes} bytes"), &[expected], move || {
            let rest = bytes - VALUE_BYTES_MAX - 2 * (4 + 8);
            write(vec![put(key(8), value(VALUE_BYTES_MAX)), put(key(8), value(rest))])
        }));
    }
    cases
}

/// Answers are bounded, too.
fn large_reads() -> Vec<Case> {
    let largest = || stored_key(0, b"largest");
    let store = case("put of what is read".into(), &["write"], move || {
        write(vec![put(largest(), value(VALUE_BYTES_MAX))])
    });
    let reads = [(1, "get"), (2, "get"), (3, "limit: "), (1024, "limit: ")];
    let reads = reads.into_iter().map(|(count, expected)| {
        // Before it is stored, nothing is found.
        case(format!("get of a large value {count} times"), &[expected, "get"], move || {
            get(vec![largest(); count])
        })
    });
    [store].into_iter().chain(reads).collect()
}

fn range_bounds() -> Vec<Case> {
    let longest = KEY_BYTES_MAX;
    [
        ("a range that ends before it starts", key(9), key(8), "write"),
        ("a range of nothing", key(9), key(9), "write"),
        ("a range to the longest bound", key(8), key(longest), "write"),
        ("a range to a longer bound", key(8), key(longest + 1), "limit: key bytes 8192"),
        ("a range from the longest bound", key(longest), stored_key(0, b"b"), "write"),
        ("a range from a longer bound", key(longest + 1), stored_key(0, b"b"), "limit: key bytes"),
        ("a range from below all keys", Bytes::new(), key(1), "key not in region"),
        ("a range without end", key(8), Bytes::new(), "key not in region"),
        ("a range over the region's end", key(8), stored_key(0, b"z"), "key not in region"),
    ]
    .into_iter()
    .map(|(name, start, end, expected)| {
        let op = move || write(vec![range(start.clone(), end.clone())]);
        case(name.into(), &[expected, "write"], op)
    })
    .collect()
}

/// Ways to alter a region reference, and the words for the refusal.
type Alteration = (&'static str, fn(&mut RegionRef), &'static str);

/// What a region reference may say that is not so.
pub const REGION_REFS: [Alteration; 10] = [
    ("region 0", |region| region.region_id = 0, "region not found: 0"),
    ("an unknown region", |region| region.region_id = 99_999, "region not found: 99999"),
    ("the last region", |region| region.region_id = u64::MAX, "region not found: 1844"),
    ("no epoch", |region| region.epoch = None, EPOCH),
    ("a stale version", |region| epoch(region).version -= 1, EPOCH),
    ("a future version", |region| epoch(region).version += 1, EPOCH),
    ("the last version", |region| epoch(region).version = u64::MAX, EPOCH),
    ("a stale conf_ver", |region| epoch(region).conf_ver -= 1, SERVED),
    ("a future conf_ver", |region| epoch(region).conf_ver += 1, SERVED),
    ("the last conf_ver", |region| epoch(region).conf_ver = u64::MAX, SERVED),
];

const EPOCH: &str = "epoch not match";

/// Stands for the answer of the case: a change of members moves no row.
pub const SERVED: &str = "served";

fn epoch(region: &mut RegionRef) -> &mut Epoch {
    region.epoch.get_or_insert_default()
}

fn regions_and_epochs() -> Vec<Case> {
    let mut cases = vec![];
    for (kind, op, answer) in KINDS {
        for (of, alter, expected) in REGION_REFS {
            let expected = if expected == SERVED { answer } else { expected };
            let name = format!("{kind} of {of}");
            cases.push(altered(
                name,
                &[expected],
                move || op(key(1)),
                move |_, batch| {
                    alter(batch.requests[0].region.get_or_insert_default());
                },
            ));
        }
        let none = move |_: &World, batch: &mut RequestBatch| batch.requests[0].region = None;
        let name = format!("{kind} of no region");
        cases.push(altered(name, &["region not found: 0"], move || op(key(1)), none));
    }
    cases
}

/// Ways to send to somebody else: cluster and store by those that are right.
type Destination = (&'static str, fn(&World) -> (u64, u64));

/// What is not the destination.
pub const DESTINATIONS: [Destination; 7] = [
    ("cluster 0", |world| (0, world.leader.0)),
    ("another cluster", |world| (world.cluster_id ^ 1, world.leader.0)),
    ("the last cluster", |world| (u64::MAX, world.leader.0)),
    ("store 0", |world| (world.cluster_id, 0)),
    ("another store", |world| (world.cluster_id, world.follower.0)),
    ("an unknown store", |world| (world.cluster_id, 99)),
    ("the last store", |world| (world.cluster_id, u64::MAX)),
];

fn destinations() -> Vec<Case> {
    let mut cases = vec![];
    for (kind, op, _) in KINDS {
        for (to, of) in DESTINATIONS {
            let name = format!("{kind} to {to}");
            cases.push(altered(
                name,
                &["wrong destination"],
                move || op(key(1)),
                move |world, batch| {
                    (batch.cluster_id, batch.store_id) = of(world);
                },
            ));
        }
        let mut to_follower = altered(
            format!("{kind} to a store that does not lead"),
            &[NOT_LEADER],
            move || op(key(1)),
            |_, _| {},
        );
        to_follower.build = Box::new(move |world: &World| {
            let region = Some(world.region_ref());
            let request = Request { id: 1, region, op: Some(op(key(1))), ..Request::default() };
            let (cluster_id, (store_id, addr)) = (world.cluster_id, &world.follower);
            let requests = vec![request];
            let batch = RequestBatch { cluster_id, store_id: *store_id, requests };
            Sent::new(addr, PATH, framed(&batch))
        });
        cases.push(to_follower);
    }
    cases
}

fn keys_outside() -> Vec<Case> {
    let outside = [
        ("of the next region", stored_key(0, b"z")),
        ("that bounds the region", stored_key(0, b"m")),
        ("of another keyspace", stored_key(1, b"a")),
        ("of the last keyspace", stored_key(u32::MAX, b"a")),
    ];
    let mut cases = vec![];
    for (kind, op, _) in KINDS {
        for (what, key) in outside.clone() {
            let name = format!("{kind} of a key {what}");
            cases.push(case(name, &["key not in region"], move || op(key.clone())));
        }
    }
    cases
}

/// What this version does not know is refused, and never taken for something else.
fn kinds() -> Vec<Case> {
    let op = || get(vec![key(1)]);
    let unset = |_: &World, batch: &mut RequestBatch| batch.requests[0].op = None;
    let twice = |_: &World, batch: &mut RequestBatch| {
        batch.requests.push(batch.requests[0].clone());
    };
    let none = |_: &World, batch: &mut RequestBatch| batch.requests.clear();
    let many = |_: &World, batch: &mut RequestBatch| {
        batch.requests = vec![Request::default(); 8 * 1024];
    };
    let too_many = |_: &World, batch: &mut RequestBatch| {
        batch.requests = vec![Request::default(); 8 * 1024 + 1];
    };
    let mut unknown = case("a request of an unknown kind".into(), &["unsupported"], op);
    unknown.build = Box::new(|world: &World| {
        // Field 15 of the request, a message, where the kinds stand.
        let mut request = Request { id: 1, ..Request::default() }.encode_to_vec();
        request.extend([15 << 3 | 2, 0]);
        let (cluster_id, store_id) = (world.cluster_id, world.leader.0);
        let mut batch = RequestBatch { cluster_id, store_id, requests: vec![] }.encode_to_vec();
        batch.extend([3 << 3 | 2, request.len() as u8]);
        batch.extend(request);
        Sent::new(&world.leader.1, PATH, crate::grpc::frame(0, batch.len() as u32, &batch))
    });
    vec![
        unknown,
        altered("a request of no kind".into(), &["unsupported"], op, unset),
        altered("one id twice".into(), &["get, get"], op, twice),
        altered("no requests".into(), &[""], op, none),
        altered("as many requests as a stream may have open".into(), &["unsupported"], op, many),
        altered("more requests than a stream may have open".into(), &["status 8"], op, too_many),
        case("a mutation of no kind".into(), &["unsupported"], || write(vec![None])),
        case("a write of nothing".into(), &["write"], || write(vec![])),
        case("a get of nothing".into(), &["get"], || get(vec![])),
        case("a swap without slots".into(), &["swap"], || {
            Op::CompareAndSwap(CompareAndSwap { key: key(1), expected: None, new: None })
        }),
    ]
}

fn ids_and_time_limits() -> Vec<Case> {
    let mut cases = vec![];
    for (kind, op, answer) in KINDS {
        for (id, ends) in [(0, " of 0"), (u64::MAX, " of 18446744073709551615")] {
            let expected: &'static str = format!("{answer}{ends}").leak();
            let name = format!("{kind} with id {id}");
            cases.push(altered(
                name,
                &[expected],
                move || op(key(1)),
                move |_, batch| {
                    batch.requests[0].id = id;
                },
            ));
        }
        for (timeout_ms, other) in [
            (1, "deadline exceeded"),
            (119_999, answer),
            (120_000, answer),
            (120_001, answer),
            (u64::MAX, answer),
        ] {
            // A write may run out of time on its way through the log.
            let late = if timeout_ms == 1 && answer != "get" { "undetermined" } else { answer };
            let name = format!("{kind} with {timeout_ms} ms of time");
            cases.push(altered(
                name,
                &[answer, other, late],
                move || op(key(1)),
                move |_, batch| {
                    batch.requests[0].timeout_ms = timeout_ms;
                },
            ));
        }
    }
    cases
}
