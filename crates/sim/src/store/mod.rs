//! A simulated store: its disks, which survive, and its process, which does not.
//!
//! * [`disk`]: the log and the state on disk, and what a crash leaves of them.
//! * [`process`]: one life: the worker's thread, as the store driver's runtime runs it.
//! * [`jobs`]: the disk thread: checkpoints, installs, views.
//! * [`mail`]: what arrives: client requests, Raft messages, snapshots.

pub mod disk;
pub mod jobs;
pub mod mail;
pub mod process;

use std::sync::Arc;

use flotilla_engine::{LogStore, StateBatch, StateStore};
use flotilla_group::Timing;
use flotilla_store::core::records;
use flotilla_store::core::worker::{self, Worker, WorkerConfig};
use flotilla_types::{Region, StoreId, proto};

use crate::agenda::Micros;
use crate::check::{Verdict, Violation};
use crate::clock::Clock;
use crate::event::{End, Event};
use crate::hub::Hub;
use crate::trace::mix;

use disk::{Disk, Loss};
use process::Process;

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
}

/// An error of the engine or a core that must not be.
pub fn unexpected(error: impl std::fmt::Display) -> Violation {
    Violation { invariant: "disks in memory do not fail", what: error.to_string() }
}

impl SimStore {
    /// A store with empty disks, not running.
    pub fn new(id: StoreId, rate: u64) -> SimStore {
        SimStore { id, life: 0, rate, disk: Disk::default(), process: None }
    }

    /// True if its process runs.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Writes what a store writes once: whose directory it is, and the first region if it is to
    /// create it.
    pub fn format(&self, cluster: u64, first: Option<&Region>) -> Verdict {
        let state = self.disk.open().map_err(unexpected)?;
        let mut batch = StateBatch::default();
        records::put_ident(&mut batch, cluster, self.id);
        state.write(batch).map_err(unexpected)?;
        if let Some(region) = first {
            worker::bootstrap(&state, self.id, region).map_err(unexpected)?;
        }
        state.freeze();
        state.flush().map_err(unexpected)
    }

    /// Starts its process.
    pub fn start(&mut self, hub: &mut Hub, ids: Option<&proto::IdBlock>) -> Verdict {
        self.life += 1;
        let clock = Clock::begin(hub.now(), self.rate);
        let state: Arc<StateStore> = Arc::new(self.disk.open().map_err(unexpected)?);
        let log: Arc<dyn LogStore> = Arc::new(self.disk.log.clone());
        let config = WorkerConfig {
            cluster: 1,
            store: self.id,
            timing: Timing::DEFAULT,
            seed: mix(hub.scenario.seed ^ self.id.0 ^ (u64::from(self.life) << 32)),
            region_bytes_max: hub.scenario.region_bytes_max,
            checkpoint_bytes: hub.scenario.checkpoint_bytes,
        };
        hub.checks.reborn(self.id);
        hub.say(|| format!("store {} starts (life {})", self.id, self.life));
        let opened = Worker::open(config, state.clone(), log, clock.millis(hub.now()));
        let mut worker = opened.map_err(|fatal| Violation {
            invariant: "a store can be started again",
            what: format!("store {}: {fatal}", self.id),
        })?;
        if let Some(ids) = ids {
            worker.lease_ids(ids);
        }
        let mut process = Process::new(self.id, self.life, clock, worker, state);
        process.begin(hub, &mut self.disk)?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills its process; `loss` says what becomes of what was not synced.
    pub fn crash(&mut self, hub: &mut Hub, loss: Loss, down: Micros) -> Verdict {
        let Some(process) = self.process.take() else { return Ok(()) };
        hub.say(|| format!("store {} crashes ({loss:?})", self.id));
        process.note_crash(hub);
        self.disk.crash(self.id, loss, hub)?;
        for attempt in process.into_open_requests() {
            if hub.dice.chance(700) {
                let to = End::Client(attempt.client);
                hub.send(End::Store(self.id), to, mail::lost(attempt));
            }
        }
        let restart = Event::Restart { end: End::Store(self.id), life: self.life };
        hub.agenda.after(down, restart);
        Ok(())
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
