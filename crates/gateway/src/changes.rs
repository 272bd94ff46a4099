//! What the placement driver says at one moment, and what differs between two moments.
//!
//! In: two looks at the cluster. Out: the regions that changed, and events in words for people:
//! leaders, splits, members of regions, stores, placement drivers, operators, health. Regions that
//! changed in the same way between two looks are one event. Pure.
//!
//! An event is what two looks show. A leader that changed twice between them is not told.

use std::collections::BTreeMap;

use flotilla_client::Route;
use flotilla_types::proto::{ClusterStatus, OperatorStatus, StoreState, StoreStatus};
use flotilla_types::{Member, MemberRole};
use serde_json::{Value, json};

use crate::limits::EVENT_REGIONS_MAX;
use crate::views;

/// What one look at the cluster has found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    pub(crate) status: ClusterStatus,
    pub(crate) stores: Vec<StoreStatus>,
    pub(crate) operators: Vec<OperatorStatus>,
    /// By the region's id.
    pub(crate) regions: BTreeMap<u64, Route>,
    /// True if there are more regions than are looked at.
    pub(crate) is_cut: bool,
}

impl Look {
    /// Everything but the regions and the events.
    pub(crate) fn figures(&self) -> Value {
        json!({
            "status": views::status(&self.status),
            "stores": self.stores.iter().map(views::store).collect::<Vec<_>>(),
            "operators": self.operators.iter().map(views::operator).collect::<Vec<_>>(),
            "cut": self.is_cut,
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// One of `leader`, `split`, `member`, `region`, `store`, `pd`, `operator`, `health`.
    pub(crate) kind: &'static str,
    /// In words, for people.
    pub(crate) what: String,
    /// Some of the regions that it is about.
    pub(crate) regions: Vec<u64>,
}

impl Event {
    pub(crate) fn to_json(&self, at_ms: u64) -> Value {
        json!({ "at_ms": at_ms, "kind": self.kind, "what": self.what, "regions": self.regions })
    }
}

/// What differs between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// Regions that are new or differ, by id.
    pub(crate) changed: Vec<u64>,
    /// Regions that are gone.
    pub(crate) gone: Vec<u64>,
    pub(crate) events: Vec<Event>,
}

/// What differs from `before` to `now`.
pub(crate) fn between(before: &Look, now: &Look) -> Changes {
    let mut changes = Changes::default();
    let mut same = Alike::default();
    for (id, route) in &now.regions {
        match before.regions.get(id) {
            Some(old) if old == route => continue,
            Some(old) => compare(old, route, &mut same),
            None => same.note(appeared(before, now, route), *id),
        }
        changes.changed.push(*id);
    }
    for id in before.regions.keys().filter(|id| !now.regions.contains_key(id)) {
        changes.gone.push(*id);
        same.note(("region", "is gone".into()), *id);
    }
    changes.events = same.events();
    changes.events.extend(of_stores(before, now));
    changes.events.extend(of_placement_drivers(before, now));
    changes.events.extend(of_operators(before, now));
    changes.events.extend(of_health(before, now));
    changes
}

/// Regions to which the same has happened.
#[derive(Default)]
struct Alike(BTreeMap<(&'static str, String), Vec<u64>>);

impl Alike {
    fn note(&mut self, what: (&'static str, String), region: u64) {
        self.0.entry(what).or_default().push(region);
    }

    fn events(self) -> Vec<Event> {
        let event = |((kind, what), mut regions): ((&'static str, String), Vec<u64>)| {
            let who = match regions.as_slice() {
                [one] => format!("region {one}"),
                many => format!("{} regions", many.len()),
            };
            regions.truncate(EVENT_REGIONS_MAX);
            Event { kind, what: format!("{who}: {what}"), regions }
        };
        self.0.into_iter().map(event).collect()
    }
}

fn compare(old: &Route, new: &Route, same: &mut Alike) {
    let id = new.region.id.0;
    let leader = |route: &Route| route.leader.map(|leader| leader.store_id);
    match (leader(old), leader(new)) {
        (before, after) if before == after => {}
        (Some(before), Some(after)) => {
            same.note(("leader", format!("leader on store {after}, before on {before}")), id);
        }
        (None, Some(after)) => same.note(("leader", format!("leader on store {after}")), id),
        (_, None) => same.note(("leader", "no leader is known".into()), id),
    }
    let find = |route: &Route, member: &Member| {
        route.region.members.iter().find(|other| other.id == member.id).copied()
    };
    for member in &new.region.members {
        let (store, role) = (member.store_id, role(member.role));
        match find(old, member) {
            None => same.note(("member", format!("new {role} on store {store}")), id),
            Some(was) if was.role != member.role => {
                same.note(("member", format!("{role} now on store {store}")), id);
            }
            Some(_) => {}
        }
    }
    for member in old.region.members.iter().filter(|member| find(new, member).is_none()) {
        same.note(("member", format!("member removed from store {}", member.store_id)), id);
    }
}

fn role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
        MemberRole::IncomingVoter => "incoming voter",
        MemberRole::DemotingVoter => "voter that becomes a learner",
    }
}

/// A region that was not there: split from the one that had its keys, if that is still there. Both
/// halves may be reported by different stores; if the left one came first, it ends where the new
/// region starts.
fn appeared(before: &Look, now: &Look, new: &Route) -> (&'static str, String) {
    let start = &new.region.range.start;
    let could_be = before.regions.values().filter(|old| {
        let range = &old.region.range;
        range.start <= *start && (range.end.is_empty() || *start <= range.end)
    });
    // The one that begins last: one that still had the keys goes before its left neighbour.
    let source = could_be.max_by_key(|old| &old.region.range.start);
    match source.filter(|source| now.regions.contains_key(&source.region.id.0)) {
        Some(source) => ("split", format!("split from region {}", source.region.id)),
        None => ("region", "is new".into()),
    }
}

fn of_stores(before: &Look, now: &Look) -> Vec<Event> {
    let id = |status: &StoreStatus| status.store.as_ref().map_or(0, |store| store.id);
    let state = |status: &StoreStatus| {
        status.store.as_ref().map_or(StoreState::Unknown, |store| store.state())
    };
    let event = |what| Event { kind: "store", what, regions: vec![] };
    let mut events = vec![];
    for store in &now.stores {
        let (number, is) = (id(store), views::state_name(state(store)));
        match before.stores.iter().find(|old| id(old) == number) {
            None => events.push(event(format!("store {number} has joined, {is}"))),
            Some(old) => {
                if state(old) != state(store) {
                    let was = views::state_name(state(old));
                    events.push(event(format!("store {number} is {is}, was {was}")));
                }
                if old.draining != store.draining {
                    let what = if store.draining { "is drained" } else { "is drained no more" };
                    events.push(event(format!("store {number} {what}")));
                }
            }
        }
    }
    let gone =
        before.stores.iter().filter(|old| !now.stores.iter().any(|store| id(store) == id(old)));
    events.extend(gone.map(|old| event(format!("store {} was removed", id(old)))));
    events
}

fn of_placement_drivers(before: &Look, now: &Look) -> Option<Event> {
    let leader = |look: &Look| {
        look.status.members.iter().find(|member| member.leader).map(|member| member.id)
    };
    let (was, is) = (leader(before), leader(now));
    let what = match is {
        Some(is) => format!("placement driver {is} leads"),
        None => "no placement driver leads".into(),
    };
    (was != is).then_some(Event { kind: "pd", what, regions: vec![] })
}

fn of_operators(before: &Look, now: &Look) -> Vec<Event> {
    let mut same = Alike::default();
    let has = |look: &Look, id| look.operators.iter().any(|operator| operator.id == id);
    for operator in now.operators.iter().filter(|operator| !has(before, operator.id)) {
        same.note(("operator", format!("{} begins", operator.kind)), operator.region_id);
    }
    for operator in before.operators.iter().filter(|operator| !has(now, operator.id)) {
        same.note(("operator", format!("{} has ended", operator.kind)), operator.region_id);
    }
    same.events()
}

/// The cluster became healthy, or for another reason than before it is not.
fn of_health(before: &Look, now: &Look) -> Vec<Event> {
    let event = |what: String| Event { kind: "health", what, regions: vec![] };
    let (was, is) = (views::is_healthy(&before.status), views::is_healthy(&now.status));
    if is {
        return if was { vec![] } else { vec![event("the cluster is healthy".into())] };
    }
    let known = |kind, stores: &[u64]| {
        before.status.reasons.iter().any(|old| old.kind == kind && old.store_ids == stores)
    };
    let new = now.status.reasons.iter().filter(|new| !known(new.kind, &new.store_ids));
    new.map(|new| event(format!("{}: {}", views::kind_name(new.kind()), new.what))).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use flotilla_types::proto::{HealthKind, HealthReason, Store};
    use flotilla_types::{Epoch, KeyRange, PeerId, Region, RegionId, StoreId};

    use super::*;

    fn route(id: u64, (start, end): (&str, &str), leader: u64) -> (u64, Route) {
        let key = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let members = (1..4).map(|store| Member::voter(PeerId(id * 10 + store), StoreId(store)));
        let region = Region {
            id: RegionId(id),
            range: KeyRange::new(key(start), key(end)),
            epoch: Epoch { conf_ver: 1, version: 1 },
            members: members.collect(),
        };
        let leader = Some(Member::voter(PeerId(id * 10 + leader), StoreId(leader)));
        (
            id,
            Route {
                region,
                leader,
                approximate_bytes: 0,
                approximate_keys: 0,
                load: Default::default(),
            },
        )
    }

    fn look(regions: impl IntoIterator<Item = (u64, Route)>) -> Look {
        let status = ClusterStatus { region_count: 1, ..ClusterStatus::default() };
        Look { status, regions: regions.into_iter().collect(), ..Look::default() }
    }

    fn words(changes: &Changes) -> Vec<&str> {
        changes.events.iter().map(|event| event.what.as_str()).collect()
    }

    #[test]
    fn what_is_the_same_is_no_change() {
        let now = look([route(2, ("", ""), 1)]);
        assert_eq!(between(&now, &now), Changes::default());
    }

    #[test]
    fn a_split_names_the_region_that_had_the_keys() {
        let before = look([route(2, ("", ""), 1)]);
        let now = look([route(2, ("", "m"), 1), route(5, ("m", ""), 1)]);
        let changes = between(&before, &now);
        assert_eq!((changes.changed.as_slice(), changes.gone.len()), ([2, 5].as_slice(), 0));
        assert_eq!(words(&changes), ["region 5: split from region 2"]);
    }

    #[test]
    fn a_split_whose_halves_are_reported_one_after_the_other_is_one() {
        let (whole, left) = (look([route(2, ("", ""), 1)]), look([route(2, ("", "m"), 1)]));
        assert!(words(&between(&whole, &left)).is_empty());
        let both = look([route(2, ("", "m"), 1), route(5, ("m", ""), 3)]);
        assert_eq!(words(&between(&left, &both)), ["region 5: split from region 2"]);
        let three = look([route(2, ("", "m"), 1), route(5, ("m", "t"), 3), route(7, ("t", ""), 3)]);
        assert_eq!(words(&between(&both, &three)), ["region 7: split from region 5"]);
    }

    #[test]
    fn leaders_that_moved_the_same_way_are_one_event() {
        let regions = |leader| (2..40).map(move |id| route(id, ("", ""), leader));
        let changes = between(&look(regions(1)), &look(regions(3)));
        assert_eq!(words(&changes), ["38 regions: leader on store 3, before on 1"]);
        assert_eq!(changes.events[0].regions.len(), EVENT_REGIONS_MAX);
        assert_eq!(changes.changed.len(), 38);
    }

    #[test]
    fn members_come_change_and_go() {
        let before = look([route(2, ("", ""), 1)]);
        let mut now = before.clone();
        if let Some(route) = now.regions.get_mut(&2) {
            route.region.members[1].role = MemberRole::Learner;
            route.region.members[2] = Member::voter(PeerId(99), StoreId(4));
        }
        let expected = [
            "region 2: learner now on store 2",
            "region 2: member removed from store 3",
            "region 2: new voter on store 4",
        ];
        assert_eq!(words(&between(&before, &now)), expected);
        let empty = look([]);
        assert_eq!(words(&between(&before, &empty)), ["region 2: is gone"]);
        assert_eq!(between(&before, &empty).gone, [2]);
        assert_eq!(words(&between(&empty, &before)), ["region 2: is new"]);
    }

    #[test]
    fn stores_change_state_join_and_leave() {
        let store = |id, state: StoreState, draining| StoreStatus {
            store: Some(Store { id, state: state.into(), ..Store::default() }),
            draining,
            ..StoreStatus::default()
        };
        let of = |stores| Look { stores, ..look([]) };
        let before = of(vec![store(1, StoreState::Up, false), store(2, StoreState::Up, false)]);
        let now =
            of(vec![store(1, StoreState::Disconnected, true), store(3, StoreState::Up, false)]);
        let expected = [
            "store 1 is disconnected, was up",
            "store 1 is drained",
            "store 3 has joined, up",
            "store 2 was removed",
        ];
        assert_eq!(words(&between(&before, &now)), expected);
    }

    #[test]
    fn a_reason_is_told_once_and_its_end() {
        let healthy = look([]);
        let mut ill = look([]);
        ill.status.reasons.push(HealthReason {
            kind: HealthKind::Unavailable.into(),
            store_ids: vec![2],
            what: "no leader".into(),
            ..HealthReason::default()
        });
        assert_eq!(words(&between(&healthy, &ill)), ["unavailable: no leader"]);
        assert!(words(&between(&ill, &ill)).is_empty());
        assert_eq!(words(&between(&ill, &healthy)), ["the cluster is healthy"]);
    }

    #[test]
    fn operators_begin_and_end() {
        let operator = OperatorStatus {
            id: 7,
            region_id: 2,
            kind: "repair add-peer".into(),
            ..OperatorStatus::default()
        };
        let before = look([]);
        let now = Look { operators: vec![operator], ..look([]) };
        assert_eq!(words(&between(&before, &now)), ["region 2: repair add-peer begins"]);
        assert_eq!(words(&between(&now, &before)), ["region 2: repair add-peer has ended"]);
    }
}
