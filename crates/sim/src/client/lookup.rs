//! A client's questions to the placement driver: lookups, which a part of a call or a scan waits
//! for, one at a time, and refreshes, which nobody waits for. What the placement driver does not
//! answer soon is asked of stores, a few at once, those first that the router names; whoever
//! answers the question first ends it. What the driver does with sockets (`driver/routes.rs`) is
//! done here with messages.
//!
//! The stores are the endpoints that each client was given: one that has just begun knows them.
//!
//! Checked here: a client that had a route for a key has one after each answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_client::Error;
use flotilla_client::core::call::Event as CallEvent;
use flotilla_client::core::lookup::{
    REFRESH_MS_MAX, STORE_MS_MAX, STORES_AFTER_MS, STORES_AT_ONCE,
};
use flotilla_client::core::part::PartId;
use flotilla_client::core::router::{Miss, Route, Router, RoutesPage};
use flotilla_store::core::held_routes::HeldRoutes;
use flotilla_types::{Epoch, Member, Millis, Region, RegionId, StoreId, proto};

use crate::check::{Verdict, broken};
use crate::event::{Asker, Body, ClientWake, End, Question};
use crate::store::addresses::address;

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
    Refresh(Refresh),
}

/// A refresh under way.
#[derive(Clone, Debug)]
struct Refresh {
    region: RegionId,
    /// As of when it led astray; the default if the cache has it no more.
    epoch: Epoch,
    key: Bytes,
    asking: Asking,
}

/// Who was asked, beside the placement driver.
#[derive(Clone, Copy, Debug, Default)]
struct Asking {
    /// Stores.
    stores: usize,
    /// All stores have had their time to answer.
    are_stores_done: bool,
    /// The placement driver's answer was lost, or of no use.
    is_pd_done: bool,
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
    asking: Asking,
}

impl Lookup {
    fn key(&self) -> Bytes {
        match self {
            Lookup::Wanted(wanted) => wanted.miss.key(),
            Lookup::Refresh(refresh) => refresh.key.clone(),
        }
    }

    fn distrusted(&self) -> Option<RegionId> {
        match self {
            Lookup::Wanted(_) => None,
            Lookup::Refresh(refresh) => Some(refresh.region),
        }
    }

    fn asking(&mut self) -> &mut Asking {
        match self {
            Lookup::Wanted(wanted) => &mut wanted.asking,
            Lookup::Refresh(refresh) => &mut refresh.asking,
        }
    }

    /// True if the router has what was asked for.
    fn is_answered(&self, router: &Router) -> bool {
        match self {
            Lookup::Wanted(wanted) => router.knows(&wanted.miss),
            Lookup::Refresh(Refresh { region, epoch, key, .. }) => {
                router.has_better(key, *region, *epoch)
            }
        }
    }
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
        let wanted =
            Wanted { call, part, miss, deadline, is_asked: false, asking: Asking::default() };
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
            let known = self.state.router.region(region);
            let epoch = known.map(|known| known.epoch).unwrap_or_default();
            let (key_asked, asking) = (key.clone(), Asking::default());
            let refresh = Refresh { region, epoch, key: key_asked, asking };
            let number = self.lookups.add(Lookup::Refresh(refresh));
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

    /// Asks the next stores, or gives up if all were asked and the placement driver was no help.
    pub(super) fn ask_stores(&mut self, world: &mut World<'_>, number: u64) -> Verdict {
        let Some(lookup) = self.lookups.open.get_mut(&number) else { return Ok(()) };
        let key = lookup.key();
        let mut stores: Vec<StoreId> = Vec::new();
        let known = self.state.router.stores_to_ask(&key).into_iter().map(|(store, _)| store);
        let endpoints = (1..=world.hub.scenario.cluster.stores).map(StoreId);
        for store in known.chain(endpoints) {
            if !stores.contains(&store) {
                stores.push(store);
            }
        }
        let asking = lookup.asking();
        let asked = asking.stores;
        asking.stores = asked + STORES_AT_ONCE;
        if asked >= stores.len() {
            asking.are_stores_done = true;
            return if asking.is_pd_done { self.end_lookup(world, number) } else { Ok(()) };
        }
        let (client, limit) = (self.number, self.state.limits.lookup_regions_max);
        for store in stores.into_iter().skip(asked).take(STORES_AT_ONCE) {
            world.hub.say(|| format!("client {client} asks store {store}: question {number}"));
            let question = Question { client, number };
            let body = Body::RoutesRequest { question, key: key.clone(), limit };
            world.hub.send(End::Client(client), End::Store(store), body);
        }
        let again = self.now(world).plus(STORE_MS_MAX);
        self.clock.set(world.hub, client, again, ClientWake::LookupStores(number));
        Ok(())
    }

    /// A store has answered a question.
    pub(super) fn on_held(
        &mut self,
        world: &mut World<'_>,
        (number, store): (u64, StoreId),
        held: HeldRoutes,
    ) -> Verdict {
        let Some(lookup) = self.lookups.open.get(&number).cloned() else { return Ok(()) };
        world.hub.coverage.hit("routes told by stores");
        let route = |(region, leader)| Route {
            region,
            leader,
            approximate_bytes: 0,
            approximate_keys: 0,
            load: Default::default(),
        };
        let mut stores: Vec<(StoreId, String)> =
            held.stores.into_iter().map(|known| (known.store_id, known.addr)).collect();
        stores.push((store, address(store)));
        let page = RoutesPage { routes: held.routes.into_iter().map(route).collect(), stores };
        let regions = page.routes.iter().map(|route| &route.region);
        let unknown = regions.filter(|region| self.state.router.region(region.id).is_none());
        world.hub.checks.routes.told_anew(self.number, unknown);
        self.absorb(world, &lookup, |router| {
            router.absorb_held(store, page);
        })?;
        if !lookup.is_answered(&self.state.router) {
            return Ok(());
        }
        world.hub.coverage.hit("lookups answered by stores");
        self.lookups.open.remove(&number);
        match lookup {
            Lookup::Refresh(refresh) => {
                self.state.refreshes.ended(refresh.region);
                self.state.asked.remove(&refresh.region);
                Ok(())
            }
            Lookup::Wanted(wanted) => {
                self.looked_up(world, (wanted.call, wanted.part), Ok(()))?;
                self.take_turns(world)
            }
        }
    }

    /// The router takes an answer over. What had a route before has one afterwards, unless the
    /// cache was full.
    fn absorb(
        &mut self,
        world: &World<'_>,
        lookup: &Lookup,
        take: impl FnOnce(&mut Router),
    ) -> Verdict {
        let (key, router) = (lookup.key(), &mut self.state.router);
        let had = (router.region_at(&key).is_some(), router.restarts());
        take(router);
        if had == (true, router.restarts()) && router.region_at(&key).is_none() {
            let what = format!("client {} at {}: {lookup:?}", self.number, world.hub.now());
            return broken("a client has a route where it had one", what);
        }
        Ok(())
    }

    fn ask_pd(&mut self, world: &mut World<'_>, number: u64, start_key: Bytes) {
        let (client, limit) = (self.number, self.state.limits.lookup_regions_max);
        world.hub.say(|| format!("client {client} asks for routes: question {number}"));
        let request = proto::RegionsRequest { start_key, limit };
        let op = Some(proto::pd_request::Op::Regions(request));
        let request = proto::PdRequest { cluster_id: 0, op };
        world.hub.ask_pd(End::Client(client), Asker::Lookup { client, number }, request);
        let later = self.now(world).plus(STORES_AFTER_MS);
        self.clock.set(world.hub, client, later, ClientWake::LookupStores(number));
    }

    /// The placement driver has answered; None if its answer was lost.
    pub(super) fn on_pd_answer(
        &mut self,
        world: &mut World<'_>,
        number: u64,
        reply: Option<proto::PdReply>,
    ) -> Verdict {
        let Some(lookup) = self.lookups.open.get(&number).cloned() else { return Ok(()) };
        let Some(page) = reply.and_then(page) else { return self.pd_is_done(world, number) };
        let regions = page.routes.iter().map(|route| &route.region);
        world.hub.checks.routes.told_anew(self.number, regions);
        if let Some(region) = lookup.distrusted() {
            world.hub.checks.routes.distrusted(self.number, region);
        }
        let distrusted = lookup.distrusted();
        self.absorb(world, &lookup, |router| router.absorb_routes(page, distrusted))?;
        match lookup {
            Lookup::Wanted(wanted) if self.state.router.knows(&wanted.miss) => {
                self.lookups.open.remove(&number);
                self.looked_up(world, (wanted.call, wanted.part), Ok(()))?;
                self.take_turns(world)
            }
            Lookup::Wanted(_) => self.pd_is_done(world, number),
            Lookup::Refresh(_) => self.end_lookup(world, number),
        }
    }

    /// The placement driver was no help. Stores that were all asked have had their time, too.
    fn pd_is_done(&mut self, world: &mut World<'_>, number: u64) -> Verdict {
        let Some(lookup) = self.lookups.open.get_mut(&number) else { return Ok(()) };
        let asking = lookup.asking();
        asking.is_pd_done = true;
        if asking.are_stores_done { self.end_lookup(world, number) } else { Ok(()) }
    }

    /// A question has ended without an answer, or a refresh with one.
    pub(super) fn end_lookup(&mut self, world: &mut World<'_>, number: u64) -> Verdict {
        match self.lookups.open.remove(&number) {
            None => Ok(()),
            Some(Lookup::Refresh(refresh)) => {
                self.state.refreshes.ended(refresh.region);
                self.state.asked.remove(&refresh.region);
                Ok(())
            }
            Some(Lookup::Wanted(wanted)) => {
                let reason = "it was not reached in time".to_string();
                let result = Err(Error::PdUnreachable { tried: vec![], reason });
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
            load: route.load.map(Into::into).unwrap_or_default(),
        })
    };
    let stores = reply.stores.into_iter().map(|store| (StoreId(store.store_id), store.addr));
    Some(RoutesPage {
        routes: reply.routes.into_iter().filter_map(route).collect(),
        stores: stores.collect(),
    })
}
