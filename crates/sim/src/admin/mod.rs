//! An administrator: asks the placement driver all that `flotilla ctl` can, at random, over the
//! network. One question at a time; one that is not answered in time counts as lost.
//!
//! Orders are such that the world can bear them: a peer is removed only in seeds that keep all
//! disks, and a store only if enough others are left. What is answered is judged in
//! [`crate::check::admin`], and at the end of a seed by [`truth`].
//!
//! * [`question`]: what is asked.
//! * [`truth`]: at the end, the placement driver tells what is true.

pub mod question;
pub mod truth;

use std::collections::BTreeMap;

use flotilla_pd::core::records::StoreMode;
use flotilla_types::dice::{Dice, mix};
use flotilla_types::{Region, StoreId, proto};
use proto::pd_reply::Result as Answer;
use proto::pd_request::Op;
use serde::{Deserialize, Serialize};

use crate::check::{Verdict, broken};
use crate::event::{AdminWake, Asker, End, Event};
use crate::store::DiskEnd;
use crate::time::{MS, Micros};
use crate::world::World;

/// The administrator's number among the clients.
pub const ADMIN: u32 = (1 << 24) + 1;

/// A question that is not answered by then is lost.
const LATE: Micros = 1_500 * MS;

/// A store that is not empty so long after it was drained is taken into service again.
const DRAINED_WITHIN: Micros = 15_000 * MS;

/// Questions in a thousand that are for another cluster.
const FOR_ANOTHER: u64 = 30;

/// A cluster that is not this one.
const OTHER_CLUSTER: u64 = 1 << 60;

/// What a seed decides about its administrator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdminScenario {
    /// The most time between two questions; 0 if there is no administrator.
    pub pause_max: Micros,
    /// When a store is drained, to be removed once it is empty; 0 for never.
    pub drains_at: Micros,
}

impl AdminScenario {
    /// What a seed decides.
    pub fn draw(dice: &mut Dice) -> AdminScenario {
        let pause_max = if dice.chance(700) { dice.between(200, 2_000) * MS } else { 0 };
        let drains_at = if dice.chance(300) { dice.between(2_000, 18_000) * MS } else { 0 };
        AdminScenario { pause_max, drains_at }
    }
}

/// How far the removal of a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    Planned,
    Draining(StoreId),
    Emptied(StoreId),
    Over,
}

/// The administrator.
pub struct SimAdmin {
    dice: Dice,
    sent: u64,
    open: Option<(u64, Op)>,
    /// True if the open question is for a cluster that the placement driver is not of.
    is_for_another: bool,
    removal: Removal,
    /// The regions, stores (with their states) and operators that were last listed.
    regions: Vec<Region>,
    stores: BTreeMap<StoreId, proto::StoreState>,
    operators: Vec<u64>,
}

impl SimAdmin {
    /// One that knows nothing yet.
    pub fn new(seed: u64) -> SimAdmin {
        SimAdmin {
            dice: Dice::new(mix(seed ^ 0xad31)),
            sent: 0,
            open: None,
            is_for_another: false,
            removal: Removal::Planned,
            regions: vec![],
            stores: BTreeMap::new(),
            operators: vec![],
        }
    }

    fn learn_stores(&mut self, stores: &[proto::StoreStatus]) {
        let told = stores.iter().filter_map(|status| Some((status.store.as_ref()?, status)));
        self.stores = told.clone().map(|(s, _)| (StoreId(s.id), s.state())).collect();
        let is_empty = |store: StoreId| {
            told.clone().any(|(s, status)| s.id == store.0 && status.region_count == 0)
        };
        if let Removal::Draining(store) = self.removal
            && is_empty(store)
        {
            self.removal = Removal::Emptied(store);
        }
    }
}

impl World {
    /// Plans the administrator's next question.
    pub(crate) fn plan_question(&mut self) {
        let pause_max = self.hub.scenario.admin.pause_max;
        if pause_max > 0 {
            let pause = self.admin.dice.between(0, pause_max);
            self.hub.agenda.after(pause, Event::Admin(AdminWake::Ask));
        }
    }

    /// The administrator acts.
    pub(crate) fn on_admin(&mut self, wake: AdminWake) {
        match wake {
            AdminWake::Ask if self.nemesis.is_over => {}
            AdminWake::Ask => {
                let op = self.question();
                self.hub.say(|| format!("administrator: {op:?}"));
                self.admin.sent += 1;
                let number = self.admin.sent;
                self.admin.open = Some((number, op.clone()));
                self.admin.is_for_another = self.admin.dice.chance(FOR_ANOTHER);
                let cluster_id = if self.admin.is_for_another { OTHER_CLUSTER } else { 0 };
                let request = proto::PdRequest { cluster_id, op: Some(op) };
                self.hub.ask_pd(End::Client(ADMIN), Asker::Admin { number }, request);
                self.hub.agenda.after(LATE, Event::Admin(AdminWake::Late(number)));
            }
            AdminWake::Late(number) => {
                if self.admin.open.take_if(|(open, _)| *open == number).is_some() {
                    self.hub.coverage.hit("questions of the administrator without an answer");
                    self.plan_question();
                }
            }
        }
    }

    /// The placement driver has answered the administrator.
    pub(crate) fn on_admin_answer(
        &mut self,
        number: u64,
        reply: Option<proto::PdReply>,
    ) -> Verdict {
        let Some((_, op)) = self.admin.open.take_if(|(open, _)| *open == number) else {
            return Ok(());
        };
        self.plan_question();
        self.hub.say(|| format!("administrator is told: {reply:?}"));
        let Some(answer) = reply.and_then(|reply| reply.result) else { return Ok(()) };
        if self.admin.is_for_another {
            return self.on_refusal_for_another(&answer);
        }
        self.hub.coverage.hit(match answer {
            Answer::Error(_) => "refusals to the administrator",
            _ => "answers to the administrator",
        });
        match answer {
            Answer::Regions(page) => {
                let regions = page.routes.into_iter().filter_map(|route| route.region);
                self.admin.regions = regions.filter_map(|r| Region::try_from(r).ok()).collect();
            }
            Answer::Stores(reply) => self.admin.learn_stores(&reply.stores),
            Answer::Operators(reply) => {
                self.admin.operators = reply.operators.iter().map(|operator| operator.id).collect();
            }
            Answer::SetStoreState(_) => return self.on_state_set(&op),
            _ => {}
        }
        Ok(())
    }

    /// Nothing that is asked for another cluster is answered or done.
    fn on_refusal_for_another(&mut self, answer: &Answer) -> Verdict {
        match answer {
            Answer::Error(_) => {
                self.hub.coverage.hit("questions for another cluster refused");
                Ok(())
            }
            other => broken("what is asked for another cluster is refused", format!("{other:?}")),
        }
    }

    fn on_state_set(&mut self, op: &Op) -> Verdict {
        let Op::SetStoreState(request) = op else { return Ok(()) };
        let store = StoreId(request.store_id);
        if request.is_lost {
            self.hub.coverage.hit("stores removed as lost");
            return Ok(());
        }
        match (request.state(), self.admin.removal) {
            (proto::StoreState::Draining, Removal::Planned) => {
                self.admin.removal = Removal::Draining(store);
            }
            (proto::StoreState::Up, _) => self.admin.removal = Removal::Over,
            (proto::StoreState::Removed, _) => {
                return self.end_store(store);
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the stores that were removed and still run, because the administrator was not told.
    pub(crate) fn end_removed(&mut self) -> Verdict {
        self.pd
            .stores_in(StoreMode::Removed)
            .into_iter()
            .try_for_each(|store| self.end_store(store))
    }

    /// The removed store's directory goes, and a new store begins in its place.
    fn end_store(&mut self, store: StoreId) -> Verdict {
        let Some(store) = self.stores.get_mut(&store).filter(|store| store.end.is_none()) else {
            return Ok(());
        };
        self.admin.removal = Removal::Over;
        self.hub.coverage.hit("stores removed for good");
        store.end(&mut self.hub, DiskEnd::Lost, LATE)
    }
}
