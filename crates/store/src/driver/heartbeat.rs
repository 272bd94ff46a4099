//! The task that talks to the placement driver for a running store.

use std::path::PathBuf;
use std::time::Instant;

use flotilla_host::core::awaited::Awaited;
use flotilla_host::driver::clock::Clock;
use flotilla_net::pd::{PdCallError, PdCaller};
use flotilla_types::heartbeat::{HeartbeatReply, StoreHeartbeat, StoreUsage};
use flotilla_types::proto::{RegisterStoreRequest, pd_reply, pd_request};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::inbox::{Inbox, Mail};
use super::latency::Latency;
use crate::core::Input;

/// What the task works with.
pub struct HeartbeatTask {
    /// The way to the placement driver.
    pub pd: PdCaller,
    /// The core's heartbeats, one at a time.
    pub heartbeats: mpsc::UnboundedReceiver<StoreHeartbeat>,
    /// Where the answers go.
    pub inbox: Inbox,
    /// What registers the store.
    pub register: RegisterStoreRequest,
    /// True until that is answered, if the store started without the placement driver; and while
    /// the placement driver knows no such store: it was put back from an older copy.
    pub is_register_due: bool,
    /// Whose free space is reported.
    pub dir: PathBuf,
    /// How long requests took.
    pub latency: Latency,
}

impl HeartbeatTask {
    /// Runs until the core is gone.
    pub async fn run(mut self) {
        let (mut is_refused, mut last_failure) = (false, String::new());
        let (clock, mut awaited) = (Clock::begin(), Awaited::default());
        let mut told_addrs = vec![];
        while let Some(mut heartbeat) = self.heartbeats.recv().await {
            self.register_if_due(&mut last_failure).await;
            self.complete(&mut heartbeat.usage);
            let reply = self.call(heartbeat).await;
            match &reply {
                Err(reason) if !is_refused => {
                    warn!(%reason, "the placement driver does not take heartbeats");
                }
                Ok(_) if is_refused => info!("the placement driver takes heartbeats again"),
                Ok(_) | Err(_) => {}
            }
            is_refused = reply.is_err();
            let learned = self.pd.learned();
            if learned != told_addrs {
                self.inbox.report(Mail::from(Input::PdAddrs(learned.clone())));
                told_addrs = learned;
            }
            if let Ok(reply) = &reply {
                let what = Some(reply.awaited.clone()).filter(|what| !what.is_empty());
                if let Some(what) = awaited.note(what, clock.now()) {
                    warn!("holds no region yet: {what}");
                }
            }
            self.inbox.report(Mail::from(Input::HeartbeatReply(reply.ok())));
        }
    }

    /// Adds what the core does not see.
    fn complete(&mut self, usage: &mut StoreUsage) {
        usage.capacity_bytes = capacity_bytes(&self.dir, usage.used_bytes);
        if let Some(load) = &mut usage.load {
            (load.reads, load.writes) = self.latency.look(Instant::now());
        }
    }

    /// Repeats a registration that was not answered yet. `last_failure`: why the last attempt
    /// failed, which is not logged again.
    async fn register_if_due(&mut self, last_failure: &mut String) {
        if !self.is_register_due {
            return;
        }
        let register = &self.register;
        let op = pd_request::Op::RegisterStore(register.clone());
        let failure = match self.pd.call_once(&op).await {
            Ok(pd_reply::Result::RegisterStore(_)) => {
                info!(addr = %register.addr, "the placement driver has registered the store");
                self.is_register_due = false;
                return;
            }
            Ok(_) => "an answer to another request".to_string(),
            Err(error) => error.to_string(),
        };
        if *last_failure != failure {
            let (addr, reason) = (&register.addr, &failure);
            warn!(%addr, %reason, "the placement driver did not register the store; trying again");
            *last_failure = failure;
        }
    }

    async fn call(&mut self, heartbeat: StoreHeartbeat) -> Result<HeartbeatReply, String> {
        match self.pd.call_once(&pd_request::Op::Heartbeat(heartbeat.into())).await {
            Ok(pd_reply::Result::Heartbeat(reply)) => Ok(reply.into()),
            Ok(_) => Err("an answer to another request".to_string()),
            Err(error) => {
                self.is_register_due |= matches!(error, PdCallError::NotFound { .. });
                Err(error.to_string())
            }
        }
    }
}

/// What the file system under `dir` has free, and what the store uses of it.
fn capacity_bytes(dir: &std::path::Path, used_bytes: u64) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_bavail * stat.f_frsize + used_bytes)
}
