//! What a client may ask of a store beside points: scans, and the regions that the store holds.

use bytes::Bytes;
use flotilla_types::keys::stored_key;
use flotilla_types::limits::KEY_BYTES_MAX;
use flotilla_types::proto::{KeySpan, RoutesReply, RoutesRequest, ScanChunk, ScanRequest};
use prost::Message;

use crate::case::{Case, NOT_LEADER};
use crate::grpc::{Ended, Sent, framed};
use crate::kv::{DESTINATIONS, REGION_REFS, SERVED, error_words};
use crate::world::World;

/// All cases.
pub fn cases() -> Vec<Case> {
    [spans(), counts(), elsewhere(), routes()].into_iter().flatten().collect()
}

/// A scan of some keys of the first region, altered.
fn scan(
    name: String,
    expected: &[&'static str],
    alter: impl Fn(&World, &mut ScanRequest) + Send + Sync + 'static,
) -> Case {
    let build = move |world: &World| {
        let span = KeySpan { start: stored_key(0, b"a"), end: stored_key(0, b"b") };
        let mut scan = ScanRequest {
            cluster_id: world.cluster_id,
            store_id: world.leader.0,
            region: Some(world.region_ref()),
            span: Some(span),
            limit: 3,
            keys_only: true,
            ..ScanRequest::default()
        };
        alter(world, &mut scan);
        let is_leaders = scan.store_id == world.leader.0 || scan.cluster_id != world.cluster_id;
        let to = if is_leaders { &world.leader.1 } else { &world.follower.1 };
        Sent::new(to, "/flotilla.v1.Kv/Scan", framed(&scan))
    };
    Case { name, build: Box::new(build), tell: tell_scan, expected: expected.to_vec() }
}

fn tell_scan(ended: &Ended) -> String {
    let decode = |message: &Bytes| ScanChunk::decode(message.clone()).expect("a chunk");
    let chunks: Vec<ScanChunk> = ended.messages.iter().map(decode).collect();
    let Some(last) = chunks.last() else { return "no chunk".into() };
    match &last.error {
        Some(error) => error_words(error.kind.clone()),
        None if last.done => "rows".into(),
        None => "no end".into(),
    }
}

fn spans() -> Vec<Case> {
    let long = |bytes| stored_key(0, &vec![b'a'; bytes]);
    let bound = KEY_BYTES_MAX + 1;
    let (a, b) = (stored_key(0, b"a"), stored_key(0, b"b"));
    [
        ("that ends before it starts", b.clone(), a.clone(), "rows"),
        ("of nothing", a.clone(), a.clone(), "rows"),
        ("after the longest key", long(bound), b.clone(), "rows"),
        ("from a longer bound", long(bound + 1), b.clone(), "limit: key bytes 8193"),
        ("to the longest bound", a.clone(), long(bound), "rows"),
        ("to a longer bound", a.clone(), long(bound + 1), "limit: key bytes 8193"),
        ("without end", a.clone(), Bytes::new(), "key not in region"),
        ("over the region's end", a.clone(), stored_key(0, b"z"), "key not in region"),
        ("of the next region", stored_key(0, b"n"), stored_key(0, b"z"), "key not in region"),
        ("of another keyspace", stored_key(7, b"a"), stored_key(7, b"b"), "key not in region"),
    ]
    .into_iter()
    .map(|(name, start, end, expected)| {
        let span = KeySpan { start, end };
        scan(format!("scan {name}"), &[expected], move |_, scan| scan.span = Some(span.clone()))
    })
    .chain([scan("scan of no span".into(), &["key not in region"], |_, scan| scan.span = None)])
    .collect()
}

fn counts() -> Vec<Case> {
    let mut cases = vec![];
    for is_reverse in [false, true] {
        for limit in [0, 1, u64::MAX] {
            let name = format!("scan of {limit} rows, reverse: {is_reverse}");
            cases.push(scan(name, &["rows"], move |_, scan| {
                (scan.limit, scan.reverse) = (limit, is_reverse);
            }));
        }
    }
    for (timeout_ms, other) in [(1, "deadline"), (120_000, "rows"), (u64::MAX, "rows")] {
        let name = format!("scan with {timeout_ms} ms of time");
        cases.push(scan(name, &["rows", other], move |_, scan| scan.timeout_ms = timeout_ms));
    }
    cases
}

fn elsewhere() -> Vec<Case> {
    let mut cases = vec![];
    for (of, alter, expected) in REGION_REFS {
        let expected = if expected == SERVED { "rows" } else { expected };
        cases.push(scan(format!("scan of {of}"), &[expected], move |_, scan| {
            alter(scan.region.get_or_insert_default());
        }));
    }
    let none =
        scan("scan of no region".into(), &["region not found"], |_, scan| scan.region = None);
    cases.push(none);
    for (to, of) in DESTINATIONS {
        let mut case = scan(format!("scan to {to}"), &["wrong destination"], |_, _| {});
        let inner = move |world: &World| {
            let (cluster_id, store_id) = of(world);
            let region = Some(world.region_ref());
            let scan = ScanRequest { cluster_id, store_id, region, ..ScanRequest::default() };
            Sent::new(&world.leader.1, "/flotilla.v1.Kv/Scan", framed(&scan))
        };
        case.build = Box::new(inner);
        cases.push(case);
    }
    cases.push(scan("scan of a store that does not lead".into(), &[NOT_LEADER], |world, scan| {
        scan.store_id = world.follower.0;
    }));
    cases
}

fn routes() -> Vec<Case> {
    let key = |bytes: usize| vec![0; bytes];
    let longest = KEY_BYTES_MAX + 4;
    let route = |name: String, expected, alter: fn(&World, &mut RoutesRequest)| {
        let build = move |world: &World| {
            let mut request = RoutesRequest { cluster_id: world.cluster_id, ..Default::default() };
            alter(world, &mut request);
            Sent::new(&world.leader.1, "/flotilla.v1.Kv/Routes", framed(&request))
        };
        Case { name, build: Box::new(build), tell: tell_routes, expected: vec![expected] }
    };
    let mut cases = vec![
        route("routes of any cluster".into(), "2 routes", |_, routes| routes.cluster_id = 0),
        route("routes of this cluster".into(), "2 routes", |_, _| {}),
        route("routes of another".into(), "0 routes", |_, routes| routes.cluster_id ^= 1),
        route("routes of the last".into(), "0 routes", |_, routes| routes.cluster_id = u64::MAX),
        route("one route".into(), "1 routes", |_, routes| routes.limit = 1),
        route("64 routes".into(), "2 routes", |_, routes| routes.limit = 64),
        route("65 routes".into(), "2 routes", |_, routes| routes.limit = 65),
        route("all routes".into(), "2 routes", |_, routes| routes.limit = u64::MAX),
    ];
    for (bytes, expected) in [
        (longest, "2 routes"),
        (longest + 1, "2 routes"),
        (longest + 2, "status 3"),
        (16 << 20, "status 3"),
    ] {
        let build = move |world: &World| {
            let request = RoutesRequest { key: key(bytes).into(), ..RoutesRequest::default() };
            Sent::new(&world.leader.1, "/flotilla.v1.Kv/Routes", framed(&request))
        };
        let name = format!("routes from a key of {bytes} bytes");
        let expected = vec![expected];
        cases.push(Case { name, build: Box::new(build), tell: tell_routes, expected });
    }
    cases
}

fn tell_routes(ended: &Ended) -> String {
    let reply = ended.messages.first().expect("an answer").clone();
    format!("{} routes", RoutesReply::decode(reply).expect("routes").routes.len())
}
