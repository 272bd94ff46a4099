//! A client's questions to the placement driver: on a miss, which a part of a call waits for, and
//! to refresh a region that led astray, which nobody waits for.

use bytes::Bytes;
use flotilla_client::core::failure::Failure;
use flotilla_client::core::plan::PartId;
use flotilla_client::core::router::{Miss, Route, RoutesPage};
use flotilla_types::{Member, Region, RegionId, StoreId, proto};

use crate::check::Verdict;
use crate::event::{Asker, Body, ClientWake, End, Event};
use crate::hub::Hub;
use crate::time::MS;

use super::{Doing, SimClient, World};

/// As `driver/routes.rs` has it.
const REGIONS_MAX: u64 = 64;

/// As `driver/routes.rs` has it for refreshes; lookups end with the call at the latest.
const LOOKUP_MS_MAX: u64 = 2_000;

/// What an answer is for.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A part of a call waits for it; None for a scan.
    Wanted {
        /// Which call.
        call: u64,
        /// Its part.
        part: Option<PartId>,
    },
    /// This region led astray.
    Refresh(RegionId),
}

impl SimClient {
    /// Asks for what the cache lacks.
    pub(super) fn look_up(
        &mut self,
        world: &mut World<'_>,
        miss: &Miss,
        (call, part): (u64, Option<PartId>),
        left_ms: u64,
    ) {
        let wait_ms = left_ms.min(LOOKUP_MS_MAX);
        self.ask_pd(world.hub, miss.key(), Lookup::Wanted { call, part }, wait_ms);
    }

    /// Asks about a region that led astray, unless that is under way.
    pub(super) fn refresh(&mut self, world: &mut World<'_>, region: RegionId) {
        let is_asked = |lookup: &Lookup| matches!(lookup, Lookup::Refresh(id) if *id == region);
        if self.lookups.values().any(is_asked) {
            return;
        }
        let key = self.router.region(region).map(|region| region.range.start.clone());
        if let Some(key) = key {
            self.ask_pd(world.hub, key, Lookup::Refresh(region), LOOKUP_MS_MAX);
        }
    }

    fn ask_pd(&mut self, hub: &mut Hub, start_key: Bytes, lookup: Lookup, wait_ms: u64) {
        let (number, client) = (self.next_lookup, self.number);
        self.next_lookup += 1;
        self.lookups.insert(number, lookup);
        let request = proto::RegionsRequest { start_key, limit: REGIONS_MAX };
        let op = Some(proto::pd_request::Op::Regions(request));
        let request = Box::new(proto::PdRequest { cluster_id: 0, op });
        let asker = Asker::Lookup { client, number };
        hub.send(End::Client(client), End::Pd, Body::PdRequest { asker, request });
        let wake = ClientWake::LookupLate(number);
        hub.agenda.after(wait_ms * MS, Event::Client { client, wake });
    }

    /// The placement driver has answered; None if not in time.
    pub(super) fn on_lookup(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        reply: Option<proto::PdReply>,
    ) -> Verdict {
        let Some(lookup) = self.lookups.remove(&number) else { return Ok(()) };
        let page = reply.and_then(page);
        match lookup {
            Lookup::Refresh(region) => {
                if let Some(page) = page {
                    self.router.absorb_routes(page, Some(region));
                }
                Ok(())
            }
            Lookup::Wanted { call, part } => {
                let Some(page) = page else {
                    let reason = "the placement driver was not reached".to_string();
                    return self.lookup_failed(world, call, part, Failure::NoRoute { reason });
                };
                self.router.absorb_routes(page, None);
                self.ready(world, call, part)
            }
        }
    }

    fn lookup_failed(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        part: Option<PartId>,
        failure: Failure,
    ) -> Verdict {
        match (&self.doing, part) {
            (Doing::Call(call), Some(part)) if call.number == number => {
                self.call_failed(world, part, None, failure)
            }
            (Doing::Scan(scan), None) if scan.number == number => self.scan_failed(world, failure),
            (Doing::Call(_) | Doing::Scan(_) | Doing::Nothing, _) => Ok(()),
        }
    }
}

fn page(reply: proto::PdReply) -> Option<RoutesPage> {
    let Some(proto::pd_reply::Result::Regions(reply)) = reply.result else { return None };
    let route = |route: proto::Route| {
        Some(Route {
            region: Region::try_from(route.region?).ok()?,
            leader: route.leader.map(Member::from),
            approximate_bytes: route.approximate_bytes,
            approximate_keys: route.approximate_keys,
        })
    };
    let stores = reply.stores.into_iter().map(|store| (StoreId(store.store_id), store.addr));
    Some(RoutesPage {
        routes: reply.routes.into_iter().filter_map(route).collect(),
        stores: stores.collect(),
    })
}
