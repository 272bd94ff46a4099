//! A client's questions to the placement driver: lookups, which a part of a call or a scan waits
//! for, one at a time, and refreshes, which nobody waits for. What the driver does with sockets
//! (`driver/routes.rs`) is done here with messages.

use bytes::Bytes;
use flotilla_client::Error;
use flotilla_client::core::call::Event as CallEvent;
use flotilla_client::core::lookup::{LOOKUP_REGIONS_MAX, REFRESH_MS_MAX};
use flotilla_client::core::part::PartId;
use flotilla_client::core::router::{Miss, Route, RoutesPage};
use flotilla_types::{Member, Millis, Region, RegionId, StoreId, proto};

use crate::check::Verdict;
use crate::event::{Asker, Body, ClientWake, End, Event};
use crate::time::MS;

use super::{Doing, SimClient, World};

/// A question that is not answered by then counts as failed: the placement driver commits in
/// milliseconds. The network of this world loses what TCP would send again, so that a lookup, which
/// may take as long as its call, needs a bound of its own.
const QUESTION_MS_MAX: u64 = 2_000;

/// What an answer is for.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// A part of a call waits for it.
    Wanted(Wanted),
    /// This region led astray.
    Refresh(RegionId),
}

/// A lookup that is under way or waits for its turn.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// For which call.
    call: u64,
    /// For which of its parts; None for a scan.
    part: Option<PartId>,
    /// What the cache lacks.
    miss: Miss,
    /// When the call ends.
    deadline: Millis,
    /// False while it waits for its turn.
    is_asked: bool,
}

impl SimClient {
    /// Asks for what the cache lacks, when earlier lookups are done.
    pub(super) fn look_up(
        &mut self,
        world: &mut World<'_>,
        (call, part): (u64, Option<PartId>),
        miss: Miss,
        deadline: Millis,
    ) {
        let wanted = Wanted { call, part, miss, deadline, is_asked: false };
        let number = self.number_lookup(Lookup::Wanted(wanted));
        if self.next_wanted() == Some(number) {
            self.ask_wanted(world, number);
        } else {
            self.give_up_after(world, number, deadline.since(world.now()));
        }
    }

    /// Asks about regions that led astray.
    pub(super) fn ask_refreshes(&mut self, world: &mut World<'_>) {
        for (region, key) in self.state.take_questions() {
            let number = self.number_lookup(Lookup::Refresh(region));
            self.ask_pd(world, number, key);
            self.give_up_after(world, number, REFRESH_MS_MAX);
        }
    }

    /// The call has ended, and with it its lookups.
    pub(super) fn forget_lookups(&mut self, ended: u64) {
        self.lookups
            .retain(|_, lookup| !matches!(lookup, Lookup::Wanted(wanted) if wanted.call == ended));
    }

    /// The first lookup that waits for its turn; None if one is under way.
    fn next_wanted(&self) -> Option<u64> {
        let mut wanted = self.lookups.iter().filter_map(|(number, lookup)| match lookup {
            Lookup::Wanted(wanted) => Some((*number, wanted.is_asked)),
            Lookup::Refresh(_) => None,
        });
        // Lookups are asked in the order of their numbers.
        wanted.next().filter(|(_, is_asked)| !is_asked).map(|(number, _)| number)
    }

    fn ask_wanted(&mut self, world: &mut World<'_>, number: u64) {
        let Some(Lookup::Wanted(wanted)) = self.lookups.get_mut(&number) else { return };
        wanted.is_asked = true;
        let (key, left_ms) = (wanted.miss.key(), wanted.deadline.since(world.now()));
        self.ask_pd(world, number, key);
        self.give_up_after(world, number, left_ms.min(QUESTION_MS_MAX));
    }

    /// The next lookup has its turn. It often finds what it wants in the cache by now.
    fn take_turns(&mut self, world: &mut World<'_>) -> Verdict {
        while let Some(number) = self.next_wanted() {
            let Some(Lookup::Wanted(wanted)) = self.lookups.get(&number) else { return Ok(()) };
            if !self.state.router.knows(&wanted.miss) {
                self.ask_wanted(world, number);
                return Ok(());
            }
            let (call, part) = (wanted.call, wanted.part);
            self.lookups.remove(&number);
            world.hub.coverage.hit("lookups answered by the cache");
            self.looked_up(world, (call, part), Ok(()))?;
        }
        Ok(())
    }

    fn number_lookup(&mut self, lookup: Lookup) -> u64 {
        let number = self.next_lookup;
        self.next_lookup += 1;
        self.lookups.insert(number, lookup);
        number
    }

    fn give_up_after(&self, world: &mut World<'_>, number: u64, wait_ms: u64) {
        let wake = ClientWake::LookupLate(number);
        world.hub.agenda.after(wait_ms * MS, Event::Client { client: self.number, wake });
    }

    fn ask_pd(&self, world: &mut World<'_>, number: u64, start_key: Bytes) {
        let client = self.number;
        let request = proto::RegionsRequest { start_key, limit: LOOKUP_REGIONS_MAX };
        let op = Some(proto::pd_request::Op::Regions(request));
        let request = Box::new(proto::PdRequest { cluster_id: 0, op });
        let asker = Asker::Lookup { client, number };
        world.hub.send(End::Client(client), End::Pd, Body::PdRequest { asker, request });
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
        if let Some(page) = &page {
            let regions = page.routes.iter().map(|route| &route.region);
            world.hub.checks.routes.told_by_pd(self.number, regions);
        }
        match lookup {
            Lookup::Refresh(region) => {
                self.state.refreshes.ended(region);
                if let Some(page) = page {
                    world.hub.checks.routes.distrusted(self.number, region);
                    self.state.router.absorb_routes(page, Some(region));
                }
                Ok(())
            }
            Lookup::Wanted(wanted) => {
                let result = match page {
                    Some(page) => {
                        self.state.router.absorb_routes(page, None);
                        Ok(())
                    }
                    None => Err(Error::PdUnreachable {
                        tried: vec![],
                        reason: "it was not reached in time".into(),
                    }),
                };
                self.looked_up(world, (wanted.call, wanted.part), result)?;
                self.take_turns(world)
            }
        }
    }

    fn looked_up(
        &mut self,
        world: &mut World<'_>,
        (call, part): (u64, Option<PartId>),
        result: Result<(), Error>,
    ) -> Verdict {
        match (&self.doing, part) {
            (Doing::Call(doing), Some(part)) if doing.number == call => {
                self.on_call_event(world, CallEvent::LookedUp(part, result))
            }
            (Doing::Scan(scan), None) if scan.number == call => self.scan_looked_up(world, result),
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
