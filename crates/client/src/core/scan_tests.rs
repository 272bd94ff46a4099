//! The cursor: exact positions, both directions, refusal of rows that make no sense.

use bytes::Bytes;
use flotilla_types::{Epoch, Member, PeerId, Region, RegionError, RegionId};

use super::*;
use crate::core::context::testing::TestContext;
use crate::core::router::{Route, RoutesPage};

fn context() -> TestContext {
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
        load: Default::default(),
    };
    let mut router = Router::default();
    let stores = vec![(StoreId(1), "a:1".into()), (StoreId(2), "b:1".into())];
    router.absorb_routes(
        RoutesPage { routes: vec![route(1, "", "m"), route(2, "m", "")], stores },
        None,
    );
    TestContext::new(router)
}

fn cursor(start: &'static str, end: &'static str, limit: Option<u64>, reverse: bool) -> Cursor {
    Cursor::new(KeyRange::new(start, end), limit, reverse, Millis(1_000))
}

/// Hands the cursor a chunk of rows with these keys.
fn chunk(cursor: &mut Cursor, keys: &[&'static str], is_last: bool) -> Result<(), Failure> {
    let keys: Vec<Bytes> = keys.iter().map(|key| Bytes::from(*key)).collect();
    cursor.chunk(&mut context(), keys.iter(), is_last)
}

fn open(cursor: &mut Cursor) -> (u64, KeyRange, u64) {
    match cursor.next(&mut context()) {
        Ok(ScanStep::Open { to, span, limit }) => (to.sent.region.0, span, limit),
        other => panic!("expected to open: {other:?}"),
    }
}

#[test]
fn a_forward_scan_goes_region_by_region_to_its_end() {
    let mut cursor = cursor("c", "x", None, false);
    assert_eq!(open(&mut cursor), (1, KeyRange::new("c", "m"), 0));
    chunk(&mut cursor, &["d", "e"], false).expect("in order");
    assert_eq!(open(&mut cursor), (1, KeyRange::new("e\0", "m"), 0), "resumes behind the last row");
    chunk(&mut cursor, &[], true).expect("in order");
    assert_eq!(open(&mut cursor), (2, KeyRange::new("m", "x"), 0));
    chunk(&mut cursor, &[], true).expect("in order");
    assert_eq!(cursor.next(&mut context()), Ok(ScanStep::Done));
}

#[test]
fn a_reverse_scan_goes_down_to_its_start() {
    let mut cursor = cursor("c", "", None, true);
    assert_eq!(open(&mut cursor), (2, KeyRange::new("m", ""), 0));
    chunk(&mut cursor, &["z", "p"], false).expect("in order");
    assert_eq!(open(&mut cursor), (2, KeyRange::new("m", "p"), 0));
    chunk(&mut cursor, &[], true).expect("in order");
    assert_eq!(open(&mut cursor), (1, KeyRange::new("c", "m"), 0));
    chunk(&mut cursor, &["c"], false).expect("in order");
    assert_eq!(cursor.next(&mut context()), Ok(ScanStep::Done), "nothing lies below the start");
}

#[test]
fn the_limit_counts_across_regions() {
    let mut cursor = cursor("", "", Some(3), false);
    assert_eq!(open(&mut cursor).2, 3);
    chunk(&mut cursor, &["a", "b"], true).expect("in order");
    assert_eq!(open(&mut cursor).2, 1);
    chunk(&mut cursor, &["n"], false).expect("in order");
    assert_eq!(cursor.next(&mut context()), Ok(ScanStep::Done));
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
        assert!(chunk(&mut cursor, keys, false).is_err(), "{reverse} {keys:?}");
        assert_eq!(open(&mut cursor).1, KeyRange::new("c", "k"), "the position is as before");
    }
    let mut cursor = cursor("c", "k", Some(1), false);
    open(&mut cursor);
    assert!(chunk(&mut cursor, &["d", "e"], false).is_err(), "more than asked for");
}

#[test]
fn an_empty_range_is_done_and_a_hole_is_looked_up() {
    assert_eq!(cursor("k", "k", None, false).next(&mut context()), Ok(ScanStep::Done));
    let mut empty = TestContext::new(Router::default());
    for (reverse, miss) in
        [(false, Miss::Region("a".into())), (true, Miss::RegionBelow("k".into()))]
    {
        let mut cursor = cursor("a", "k", None, reverse);
        assert_eq!(cursor.next(&mut empty), Ok(ScanStep::LookUp(miss)));
        cursor.looked_up(&mut empty, Ok(())).expect("goes on");
        let stuck = cursor.next(&mut empty);
        assert!(matches!(stuck, Ok(ScanStep::Wait { .. })), "{stuck:?}");
    }
}

#[test]
fn a_failure_is_waited_for_and_the_scan_goes_on_from_its_position() {
    let mut context = context();
    let mut cursor = cursor("c", "k", None, false);
    open(&mut cursor);
    chunk(&mut cursor, &["d"], false).expect("in order");
    let busy = RegionError::ServerBusy { reason: "full".into(), retry_after_ms: 7 };
    cursor.failed(&mut context, busy.into()).expect("goes on");
    let step = cursor.next(&mut context);
    assert!(matches!(step, Ok(ScanStep::Wait { until: Millis(7..=9) })), "{step:?}");
    assert_eq!(open(&mut cursor).1, KeyRange::new("d\0", "k"));
}

#[test]
fn nothing_is_opened_at_the_deadline_and_a_busy_stream_does_not_outlast_it() {
    let mut context = context();
    let mut cursor = cursor("c", "k", None, false);
    open(&mut cursor);
    assert_eq!(cursor.give_up_at(Millis(1)), Ok(Millis(1_000)));
    assert_eq!(cursor.give_up_at(Millis(1_000)), Err(Failure::Timeout));
    context.now = Millis(1_000);
    assert!(matches!(cursor.next(&mut context), Err(Error::DeadlineExceeded { .. })));
}
