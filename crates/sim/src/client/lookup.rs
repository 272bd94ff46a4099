//! A client's questions to the placement driver: lookups, which a part of a call or a scan waits
//! for, one at a time, and refreshes, which nobody waits for. What the driver does with sockets
//! (`driver/routes.rs`) is done here with messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_client::Error;
use flotilla_client::core::call::Event as CallEvent;
use flotilla_client::core::lookup::REFRESH_MS_MAX;
use flotilla_client::core::part::PartId;
use flotilla_client::core::router::{Miss, Route, RoutesPage};
use flotilla_types::{Member, Millis, Region, RegionId, StoreId, proto};

use crate::check::{Verdict, broken};
use crate::event::{Asker, Body, ClientWake, End};

use super::{Doing, SimClient, World};

/// A question that is not answered by then counts as failed: the placement driver commits in
/// milliseconds. The network of this world loses what TCP would send again, so that a lookup, which
/// may take as long as its call, needs a bound of its own.
const QUESTION_MS_MAX: u64 = 2_000;

/// The questions of all calls, by their numbers.
#[derive(Debug, Default)]
pub struct Lookups {
    open: BTreeMap<u64, Lookup>,
    asked: u64,
}

impl Lookups {
    /// A call has ended, and with it its lookups.
    pub fn forget(&mut self, ended: u64) {
        self.open
            .retain(|_, lookup| !matches!(lookup, Lookup::Wanted(wanted) if wanted.call == ended));
    }

    /// The process has ended, and with it all its questions.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    fn add(&mut self, lookup: Lookup) -> u64 {
        self.asked += 1;
        self.open.insert(self.asked, lookup);
        self.asked
    }

    /// The first lookup that waits for its turn; None if one is under way.
    fn next_wanted(&self) -> Option<u64> {
        let mut wanted = self.open.iter().filter_map(|(number, lookup)| match lookup {
            Lookup::Wanted(wanted) => Some((*number, wanted.is_asked)),
            Lookup::Refresh(_) => None,
        });
        // Lookups are asked in the order of their numbers.
        wanted.next().filter(|(_, is_asked)| !is_asked).map(|(number, _)| number)
    }
}

/// What an answer is for.
#[derive(Clone, Debug)]
enum Lookup {
    /// A part of a call waits for it.
    Wanted(Wanted),
    /// This region led astray.
    Refresh(RegionId),
}

/// A lookup that is under way or waits for its turn.
#[derive(Clone, Debug)]
struct Wanted {
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
        let number = self.lookups.add(Lookup::Wanted(wanted));
        if self.lookups.next_wanted() == Some(number) {
            self.ask_wanted(world, number);
        } else {
            self.give_up_at(world, number, deadline);
        }
    }

    /// Asks about regions that led astray.
    pub(super) fn ask_refreshes(&mut self, world: &mut World<'_>) -> Verdict {
        for (region, key) in self.state.take_questions() {
            let number = self.lookups.add(Lookup::Refresh(region));
            self.ask_pd(world, number, key);
            let until = self.now(world).plus(REFRESH_MS_MAX);
            self.give_up_at(world, number, until);
        }
        match self.state.neglected {
            Some(region) => {
                let what = format!("client {}: region {region}", self.number);
                broken("a region that led astray is asked about", what)
            }
            None => Ok(()),
        }
    }

    fn ask_wanted(&mut self, world: &mut World<'_>, number: u64) {
        let Some(Lookup::Wanted(wanted)) = self.lookups.open.get_mut(&number) else { return };
        wanted.is_asked = true;
        let (key, deadline) = (wanted.miss.key(), wanted.deadline);
        self.ask_pd(world, number, key);
        let until = deadline.min(self.now(world).plus(QUESTION_MS_MAX));
        self.give_up_at(world, number, until);
    }

    /// The next lookup has its turn. It often finds what it wants in the cache by now.
    pub(super) fn take_turns(&mut self, world: &mut World<'_>) -> Verdict {
        while let Some(number) = self.lookups.next_wanted() {
            let Some(Lookup::Wanted(wanted)) = self.lookups.open.get(&number) else {
                return Ok(());
            };
            if !self.state.router.knows(&wanted.miss) {
                self.ask_wanted(world, number);
                return Ok(());
            }
            let (call, part) = (wanted.call, wanted.part);
            self.lookups.open.remove(&number);
            world.hub.coverage.hit("lookups answered by the cache");
            self.looked_up(world, (call, part), Ok(()))?;
        }
        Ok(())
    }

    fn give_up_at(&mut self, world: &mut World<'_>, number: u64, at: Millis) {
        self.clock.set(world.hub, self.number, at, ClientWake::LookupLate(number));
    }

    fn ask_pd(&self, world: &mut World<'_>, number: u64, start_key: Bytes) {
        let (client, limit) = (self.number, self.state.limits.lookup_regions_max);
        world.hub.say(|| format!("client {client} asks for routes: question {number}"));
        let request = proto::RegionsRequest { start_key, limit };
        let op = Some(proto::pd_request::Op::Regions(request));
        let request = Box::new(proto::PdRequest { cluster_id: 0, op });
        let asker = Asker::Lookup { client, number };
        world.hub.send(End::Client(client), End::PD, Body::PdRequest { asker, request });
    }

    /// The placement driver has answered; None if not in time.
    pub(super) fn on_lookup(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        reply: Option<proto::PdReply>,
    ) -> Verdict {
        let Some(lookup) = self.lookups.open.remove(&number) else { return Ok(()) };
        let page = reply.and_then(page);
        if let Some(page) = &page {
            let regions = page.routes.iter().map(|route| &route.region);
            world.hub.checks.routes.told_by_pd(self.number, regions);
        }
        match lookup {
            Lookup::Refresh(region) => {
                self.state.refreshes.ended(region);
                self.state.asked.remove(&region);
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
        match (self.doing.get(&call), part) {
            (Some(Doing::Call(_)), Some(part)) => {
                self.on_call_event(world, call, CallEvent::LookedUp(part, result))
            }
            (Some(Doing::Scan(_)), None) => self.scan_looked_up(world, call, result),
            (Some(Doing::Call(_) | Doing::Scan(_)) | None, _) => Ok(()),
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
