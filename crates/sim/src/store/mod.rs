//! A simulated store: its disks, which survive, and its process, which does not.
//!
//! * [`addresses`]: the stores that a store can send to.
//! * [`cost`]: what the thread's work costs.
//! * [`disk`]: the log and the state on disk, how they fail, and what a crash leaves of them.
//! * [`engines`]: in a few seeds, the log and the state that ship.
//! * [`loss`]: what a crash loses of them.
//! * [`base`]: the state's base, which may fail.
//! * [`process`]: one life of its process: what the worker's thread owns.
//! * [`thread`]: that thread, which runs the loop that ships.
//! * [`jobs`]: the disk thread: checkpoints, installs, views.
//! * [`envelope`]: what the world reads in a message between stores.
//! * [`mail`]: what arrives: client requests, Raft messages, snapshots.
//! * [`permit`]: reads under a permit, beside the thread; [`reading`]: those under way.
//! * [`orders`]: what the nemesis adds to the placement driver's answers.
//! * [`told`]: lines of the trace for people.

pub mod addresses;
pub mod base;
pub mod cost;
pub mod disk;
pub mod engines;
pub mod envelope;
pub mod jobs;
pub mod loss;
pub mod mail;
pub mod orders;
pub mod permit;
pub mod process;
pub mod reading;
pub mod thread;
pub mod told;

use std::sync::Arc;

use flotilla_engine::{StateBatch, StateStore};
use flotilla_store::core::records;
use flotilla_store::core::worker::{Worker, WorkerConfig};
use flotilla_types::dice::mix;
use flotilla_types::{RegionError, RegionId, StoreId, proto};

use crate::check::group::Node;
use crate::check::{Verdict, Violation, broken};
use crate::clock::Clock;
use crate::event::{Body, End, Event, Relief};
use crate::hub::Hub;
use crate::time::{MS, Micros};

use disk::{Disk, Loss};
use process::Process;
use thread::Thread;

/// In every third life, a store is stopped in good order rather than killed.
const STOPPED_LIVES: u32 = 3;

/// A store that hands its leaderships on is killed after this time.
const LEAVE_MAX: Micros = 3_000 * MS;

/// A store.
pub struct SimStore {
    /// Its id.
    pub id: StoreId,
    /// Its processes so far.
    pub life: u32,
    /// The rate of its clock: local microseconds in a true second.
    pub rate: u64,
    /// What survives.
    pub disk: Disk,
    /// What does not; None while it is down.
    pub process: Option<Process>,
    /// How its disk ended, if it did: it never runs again, and its id never comes back.
    pub end: Option<DiskEnd>,
}

/// How a disk ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskEnd {
    /// It is gone.
    Lost,
    /// Its content is damaged: the store finds out when it opens it, and refuses to start.
    Damaged,
}

/// An error of the engine or a core that must not be.
pub fn unexpected(error: impl std::fmt::Display) -> Violation {
    Violation { invariant: "disks in memory do not fail", what: error.to_string() }
}

impl SimStore {
    /// A store with empty disks, not running.
    pub fn new(id: StoreId, rate: u64, has_engines: bool) -> Result<SimStore, Violation> {
        let disk = Disk::new(has_engines)?;
        Ok(SimStore { id, life: 0, rate, disk, process: None, end: None })
    }

    /// True if its process runs.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Writes what a store writes once: whose directory it is.
    pub fn format(&mut self, cluster: u64) -> Verdict {
        let state = self.disk.open().map_err(unexpected)?;
        let mut batch = StateBatch::default();
        records::put_ident(&mut batch, cluster, self.id);
        state.write(batch).map_err(unexpected)?;
        state.freeze();
        state.flush().map_err(unexpected)
    }

    /// Starts its process, unless its disk has ended.
    pub fn start(&mut self, hub: &mut Hub, ids: Option<&proto::IdBlock>) -> Verdict {
        if self.end.is_some() {
            return Ok(());
        }
        self.life += 1;
        let start_ms = hub.clock_start();
        let clock = Clock::begin_at(hub.now(), self.rate, start_ms);
        let state: Arc<StateStore> = Arc::new(self.disk.open().map_err(unexpected)?);
        if hub.forgets_addresses() {
            addresses::forget(&state).map_err(unexpected)?;
            hub.coverage.hit("stores started without addresses");
        }
        hub.checks.reborn(self.id);
        hub.say(|| format!("store {} starts (life {})", self.id, self.life));
        self.check_ident(&state)?;
        let pd_addrs = records::load_pd_addrs(&state).map_err(unexpected)?;
        hub.finds_pd(self.id, &pd_addrs);
        hub.checks.pd_addrs.reborn(self.id, pd_addrs)?;
        let (log, now) = (self.disk.shared_log(), clock.millis(hub.now()));
        let opened = Worker::open(self.config(hub), state.clone(), log, now);
        let mut worker = opened.map_err(|fatal| Violation {
            invariant: "a store can be started again",
            what: format!("store {}: {fatal}", self.id),
        })?;
        if let Some(ids) = ids {
            worker.lease_ids((*ids).into());
        }
        let tick = hub.scenario.timing.tick();
        let mut process = Process::new((self.id, self.life), (clock, tick), worker, state);
        process.born = hub.now();
        hub.process_began(End::Store(self.id));
        Thread::new(&mut process, hub, &mut self.disk).begin()?;
        self.process = Some(process);
        self.stop_if_failed(hub)
    }

    /// What the driver looks at before it opens a directory.
    fn check_ident(&self, state: &StateStore) -> Verdict {
        match records::load_ident(state).map_err(unexpected)? {
            Some((_, store)) if store == self.id => Ok(()),
            found => broken("a directory says whose it is", format!("{found:?} of {}", self.id)),
        }
    }

    fn config(&self, hub: &Hub) -> WorkerConfig {
        let scenario = &hub.scenario;
        WorkerConfig {
            cluster: 1,
            store: self.id,
            timing: scenario.timing.raft(),
            seed: mix(scenario.seed ^ self.id.0 ^ (u64::from(self.life) << 32)) | 1,
            idle_ms: scenario.cluster.idle_ms,
            region_bytes_max: scenario.cluster.region_bytes_max,
            checkpoint_bytes: scenario.cluster.checkpoint_bytes,
            log_kept: scenario.cluster.log_kept,
            limits: hub.bounds.store,
        }
    }

    /// Ends its process if its disk has failed, as the driver does: whoever waits is told that the
    /// outcome is not known, if the news gets out. It is started again after a while.
    pub fn stop_if_failed(&mut self, hub: &mut Hub) -> Verdict {
        if self.process.as_ref().is_none_or(|process| process.failed.is_none()) {
            return Ok(());
        }
        let Some(process) = self.process.take() else { return Ok(()) };
        hub.coverage.hit("stores stopped by their disk");
        process.note_crash(hub);
        let loss = self.disk.loss();
        self.disk.crash(Node::Store(self.id), loss, hub)?;
        for attempt in process.into_open_requests() {
            let error = RegionError::Undetermined { region_id: RegionId(0) };
            let told = Body::Reply { attempt, result: Box::new(Err(error)) };
            let body = if hub.dice.processes.chance(500) { told } else { mail::lost(attempt) };
            hub.send(End::Store(self.id), End::Client(attempt.client), body);
        }
        hub.process_ended(End::Store(self.id));
        let down = hub.dice.processes.between(50 * MS, hub.scenario.faults.fault_max);
        self.plan_restart(hub, down);
        Ok(())
    }

    fn plan_restart(&self, hub: &mut Hub, down: Micros) {
        let restart = Event::Restart { end: End::Store(self.id), life: self.life };
        hub.agenda.after(down, restart);
    }

    /// Kills its process, or stops it in good order in some of its lives if it can; `loss` says
    /// what becomes of what was not synced.
    pub fn crash(&mut self, hub: &mut Hub, loss: Loss, down: Micros) -> Verdict {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let is_stopped = self.life.is_multiple_of(STOPPED_LIVES) && !self.disk.is_full();
        if is_stopped && process.can_stop() {
            Thread::new(&mut process, hub, &mut self.disk).stop()?;
            hub.coverage.hit("stores stopped in good order");
        }
        hub.say(|| format!("store {} crashes ({loss:?})", self.id));
        process.note_crash(hub);
        self.disk.crash(Node::Store(self.id), loss, hub)?;
        for attempt in process.into_open_requests() {
            // A connection tells of its end itself.
            if !hub.net.has_connections() && hub.dice.processes.chance(700) {
                let to = End::Client(attempt.client);
                hub.send(End::Store(self.id), to, mail::lost(attempt));
            }
        }
        hub.process_ended(End::Store(self.id));
        self.plan_restart(hub, down);
        Ok(())
    }

    /// Tells its process that it is about to stop, in those lives that end so. It is killed if it
    /// takes too long. False if it does not run or leaves already.
    pub fn leave(&mut self, hub: &mut Hub) -> bool {
        let may_leave = self.life.is_multiple_of(STOPPED_LIVES) && !self.disk.is_full();
        let process = self.process.as_mut().filter(|process| may_leave && !process.is_leaving);
        let Some(process) = process.filter(|process| process.failed.is_none()) else {
            return false;
        };
        process.leave(hub);
        hub.agenda.after(LEAVE_MAX, Event::Relief(Relief::Crash(self.id)));
        true
    }

    /// Its disk ends, and its process with it.
    pub fn end(&mut self, hub: &mut Hub, end: DiskEnd, down: Micros) -> Verdict {
        self.crash(hub, Loss::All, down)?;
        hub.say(|| format!("store {}: its disk is {end:?}", self.id));
        self.end = Some(end);
        hub.checks.orders.changes.disk_ended(self.id);
        Ok(())
    }

    /// Makes its clock jump forward.
    pub fn jump(&mut self, hub: &mut Hub, by: Micros) {
        if let Some(process) = &mut self.process {
            process.jump(hub, by);
        }
    }

    /// Makes its clock run at another rate.
    pub fn set_rate(&mut self, now: Micros, rate: u64) {
        self.rate = rate;
        if let Some(process) = &mut self.process {
            process.clock.set_rate(now, rate);
        }
    }

    /// The process of this life, if it still runs, and the disk.
    pub fn living(&mut self, life: u32) -> Option<(&mut Process, &mut Disk)> {
        let process = self.process.as_mut().filter(|process| process.life == life)?;
        Some((process, &mut self.disk))
    }
}
