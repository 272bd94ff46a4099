//! The stores, the network between them, the clients' requests, and the clock.
//!
//! Messages wait in one queue in the order in which they were sent. [`World::settle`] lets all
//! stores take turns until nothing moves: each takes all messages that are there for it in one
//! turn, as a busy store does. Messages of links that are held back go on waiting.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_store::core::worker::WorkerConfig;
use flotilla_store::core::{Input, Request, RequestId};
use flotilla_types::{Millis, Region, RegionId, StoreId};

use crate::check::History;
use crate::requests;
use crate::show;
use crate::store::{Mail, Store, TurnResult};

/// Rounds of turns after which a world that does not come to rest is broken.
const ROUNDS_MAX: usize = 1000;

/// Which messages are meant: of a link, and of a kind if that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    pub from: Option<StoreId>,
    pub to: Option<StoreId>,
    pub region: Option<RegionId>,
    pub kind: String,
}

impl Filter {
    fn matches(&self, mail: &Mail) -> bool {
        let region = mail.envelope.region_id;
        self.from.is_none_or(|from| from == mail.from)
            && self.to.is_none_or(|to| to == mail.to)
            && self.region.is_none_or(|meant| meant == region)
            && show::envelope(&mail.envelope).contains(&format!(" {}", self.kind))
    }
}

/// See the module's documentation.
#[derive(Default)]
pub struct World {
    pub stores: BTreeMap<StoreId, Store>,
    pub now: Millis,
    pub traces: bool,
    pub shows_heartbeats: bool,
    pub held: Vec<Filter>,
    pub isolated: BTreeSet<StoreId>,
    /// Stores that take no turns.
    pub paused: BTreeSet<StoreId>,
    pub history: History,
    mails: Vec<Mail>,
    /// Requests by number: what they ask, until they are answered.
    open_requests: BTreeMap<RequestId, String>,
    request_count: u64,
}

impl World {
    /// Begins with `count` stores, none of which has a region.
    pub fn create(&mut self, count: u64, config: &WorkerConfig) {
        for id in 1..=count {
            let config = WorkerConfig { store: StoreId(id), seed: id, ..config.clone() };
            self.stores.insert(StoreId(id), Store::new(config));
        }
    }

    /// The store, which must exist.
    pub fn store(&mut self, id: StoreId) -> &mut Store {
        self.stores.get_mut(&id).unwrap_or_else(|| panic!("no store {id}"))
    }

    /// What the store knows of the region.
    pub fn region(&mut self, store: StoreId, region: RegionId) -> Option<Region> {
        let worker = self.store(store).worker.as_ref()?;
        let peer = worker.peer(region).filter(|peer| peer.has_state())?;
        Some(peer.region.clone())
    }

    /// Asks a store; the answer is printed when it comes.
    pub fn ask(&mut self, store: StoreId, label: String, request: Request) {
        self.request_count += 1;
        let id = RequestId(self.request_count);
        self.open_requests.insert(id, label);
        self.store(store).inbox.push(Input::Request(Request { id, ..request }));
    }

    /// Lets all stores take turns until nothing moves.
    pub fn settle(&mut self, out: &mut Vec<String>) {
        for _ in 0..ROUNDS_MAX {
            let ids: Vec<StoreId> = self.stores.keys().copied().collect();
            let mut has_moved = false;
            for id in ids {
                self.lose_undeliverable(out);
                has_moved |= self.turn(id, out);
            }
            if !has_moved {
                return;
            }
        }
        panic!("the stores do not come to rest");
    }

    /// Lets one store take what is there for it. False if there is nothing.
    fn turn(&mut self, id: StoreId, out: &mut Vec<String>) -> bool {
        if self.paused.contains(&id) || !self.store(id).takes_turns() {
            return false;
        }
        let held = self.held.clone();
        let is_held = |mail: &Mail| held.iter().any(|filter| filter.matches(mail));
        let mails = self.take(|mail| mail.to == id && !is_held(mail));
        for mail in mails {
            self.print_mail(&mail, "", out);
            self.store(id).receive(mail);
        }
        if self.store(id).inbox.is_empty() {
            return false;
        }
        self.flush(id, out);
        true
    }

    /// Ends a turn of one store, whether or not it has anything to take.
    pub fn flush(&mut self, id: StoreId, out: &mut Vec<String>) {
        let now = self.now;
        let result = self.store(id).turn(now);
        self.take_result(id, result, out);
    }

    /// Takes over what a store's driver has done.
    pub fn take_result(&mut self, id: StoreId, result: TurnResult, out: &mut Vec<String>) {
        self.mails.extend(result.mails);
        if result.has_handed_over {
            out.push(format!("  s{id} has handed over"));
        }
        out.extend(result.events.iter().map(|event| show::event(id, event)));
        for (request, outcome) in result.replies {
            let asked = self.open_requests.remove(&request).expect("one answer to each request");
            out.push(format!("  {asked}: {}", requests::outcome(&outcome)));
        }
        if let Some(reason) = result.fatal {
            out.push(format!("  s{id} stops: {reason}"));
            self.store(id).crash();
        }
    }

    /// Takes the waiting messages that `is_meant` holds for.
    pub fn take(&mut self, is_meant: impl Fn(&Mail) -> bool) -> Vec<Mail> {
        let (taken, left) = std::mem::take(&mut self.mails).into_iter().partition(is_meant);
        self.mails = left;
        taken
    }

    /// Loses the waiting messages that the filter matches.
    pub fn lose(&mut self, filter: &Filter, out: &mut Vec<String>) {
        for mail in self.take(|mail| filter.matches(mail)) {
            self.print_mail(&mail, " (lost)", out);
        }
    }

    fn lose_undeliverable(&mut self, out: &mut Vec<String>) {
        let down: BTreeSet<StoreId> = self
            .stores
            .iter()
            .filter(|(_, store)| store.worker.is_none())
            .map(|(id, _)| *id)
            .collect();
        let isolated = self.isolated.clone();
        let is_cut = |id: &StoreId| isolated.contains(id);
        let lost =
            self.take(|mail| down.contains(&mail.to) || is_cut(&mail.to) || is_cut(&mail.from));
        for mail in lost {
            self.print_mail(&mail, " (lost)", out);
        }
    }

    /// Prints the messages that wait.
    pub fn print_held(&self, out: &mut Vec<String>) {
        for mail in &self.mails {
            out.push(show::envelope(&mail.envelope));
        }
    }

    fn print_mail(&self, mail: &Mail, note: &str, out: &mut Vec<String>) {
        let is_hidden = show::is_heartbeat(&mail.envelope) && !self.shows_heartbeats;
        if self.traces && !is_hidden {
            out.push(format!("{}{note}", show::envelope(&mail.envelope)));
        }
    }

    /// The requests that are not answered yet.
    pub fn print_open_requests(&self, out: &mut Vec<String>) {
        for asked in self.open_requests.values() {
            out.push(format!("  {asked}: not answered"));
        }
    }
}
