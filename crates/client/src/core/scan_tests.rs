//! The cursor: exact positions, both directions, refusal of rows that make no sense.

use bytes::Bytes;
use flotilla_types::{Epoch, Member, PeerId, Region, RegionId};

use super::*;
use crate::core::retry::Idempotency;
use crate::core::router::{Route, RoutesPage};

fn router() -> Router {
    let route = |id: u64, start: &'static str, end: &'static str| Route {
        region: Region {
            id: RegionId(id),
            range: KeyRange::new(start, end),
            epoch: Epoch::FIRST,
            members: vec![Member::voter(PeerId(id), StoreId(id))],
        },
        leader: None,
        approximate_bytes: 0,
        approximate_keys: 0,
    };
    let mut router = Router::default();
    let stores = vec![(StoreId(1), "a:1".into()), (StoreId(2), "b:1".into())];
    router.absorb_routes(
        RoutesPage { routes: vec![route(1, "", "m"), route(2, "m", "")], stores },
        None,
    );
    router
}

fn cursor(start: &'static str, end: &'static str, limit: Option<u64>, reverse: bool) -> Cursor {
    let attempts = Attempts::new(Idempotency::ReadOnly, Millis(1_000));
    Cursor::new(KeyRange::new(start, end), limit, reverse, attempts)
}

fn pairs(keys: &[&'static str]) -> Vec<proto::Pair> {
    keys.iter().map(|key| proto::Pair { key: Bytes::from(*key), value: Bytes::new() }).collect()
}

fn open(cursor: &mut Cursor) -> (u64, KeyRange, u64) {
    match cursor.next(&router(), &|_| false) {
        ScanNext::Open { to, span, limit } => (to.sent.region.0, span, limit),
        other => panic!("expected to open: {other:?}"),
    }
}

#[test]
fn a_forward_scan_goes_region_by_region_to_its_end() {
    let mut cursor = cursor("c", "x", None, false);
    assert_eq!(open(&mut cursor), (1, KeyRange::new("c", "m"), 0));
    cursor.rows(&pairs(&["d", "e"])).expect("in order");
    assert_eq!(open(&mut cursor), (1, KeyRange::new("e\0", "m"), 0), "resumes behind the last row");
    cursor.span_done();
    assert_eq!(open(&mut cursor), (2, KeyRange::new("m", "x"), 0));
    cursor.span_done();
    assert_eq!(cursor.next(&router(), &|_| false), ScanNext::Done);
}

#[test]
fn a_reverse_scan_goes_down_to_its_start() {
    let mut cursor = cursor("c", "", None, true);
    assert_eq!(open(&mut cursor), (2, KeyRange::new("m", ""), 0));
    cursor.rows(&pairs(&["z", "p"])).expect("in order");
    assert_eq!(open(&mut cursor), (2, KeyRange::new("m", "p"), 0));
    cursor.span_done();
    assert_eq!(open(&mut cursor), (1, KeyRange::new("c", "m"), 0));
    cursor.rows(&pairs(&["c"])).expect("in order");
    assert_eq!(cursor.next(&router(), &|_| false), ScanNext::Done, "nothing lies below the start");
}

#[test]
fn the_limit_counts_across_regions() {
    let mut cursor = cursor("", "", Some(3), false);
    assert_eq!(open(&mut cursor).2, 3);
    cursor.rows(&pairs(&["a", "b"])).expect("in order");
    cursor.span_done();
    assert_eq!(open(&mut cursor).2, 1);
    cursor.rows(&pairs(&["n"])).expect("in order");
    assert_eq!(cursor.next(&router(), &|_| false), ScanNext::Done);
}

#[test]
fn rows_that_make_no_sense_are_refused() {
    for (reverse, keys) in [
        (false, &["e", "d"][..]),
        (false, &["d", "d"]),
        (false, &["b"]),
        (false, &["n"]),
        (true, &["d", "e"]),
    ] {
        let mut cursor = cursor("c", "k", None, reverse);
        open(&mut cursor);
        assert!(cursor.rows(&pairs(keys)).is_err(), "{reverse} {keys:?}");
        assert_eq!(open(&mut cursor).1, KeyRange::new("c", "k"), "the position is as before");
    }
    let mut cursor = cursor("c", "k", Some(1), false);
    open(&mut cursor);
    assert!(cursor.rows(&pairs(&["d", "e"])).is_err(), "more than asked for");
}

#[test]
fn an_empty_range_is_done_and_a_hole_is_looked_up() {
    assert_eq!(cursor("k", "k", None, false).next(&router(), &|_| false), ScanNext::Done);
    let empty = Router::default();
    let mut forward = cursor("a", "k", None, false);
    let miss = ScanNext::LookUp(Miss::Region("a".into()));
    assert_eq!(forward.next(&empty, &|_| false), miss);
    assert!(matches!(forward.next(&empty, &|_| false), ScanNext::Stuck(_)));
    let mut reverse = cursor("a", "k", None, true);
    let miss = ScanNext::LookUp(Miss::RegionBelow("k".into()));
    assert_eq!(reverse.next(&empty, &|_| false), miss);
}
