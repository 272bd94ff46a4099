//! The state's base on a disk that may fail: a [`MemBase`], and the trouble that its next
//! transaction meets.
//!
//! A transaction that fails is either not there at all, or it is there although its caller was told
//! otherwise: when the sync that ends it fails, nobody knows. redb's commits have both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flotilla_engine::base::{Base, ReadView, Rows};
use flotilla_engine::buffer::Buffer;
use flotilla_engine::mem_base::MemBase;
use flotilla_engine::{EngineError, StateBatch};
use flotilla_types::KeyRange;

/// How a transaction fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseFault {
    /// Nothing of it is on the disk.
    Refused,
    /// All of it is on the disk.
    Unsure,
}

/// A handle on the base; clones share it.
#[derive(Clone, Default)]
pub struct SimBase {
    base: MemBase,
    trouble: Arc<Mutex<Trouble>>,
}

#[derive(Default)]
struct Trouble {
    next: Option<BaseFault>,
    is_full: bool,
}

impl SimBase {
    /// A base of its own that is as this one is now, and has no faults.
    pub fn copy(&self) -> SimBase {
        SimBase { base: self.base.copy(), trouble: Arc::default() }
    }

    /// The next transaction fails.
    pub fn fail_next(&self, fault: BaseFault) {
        self.trouble().next = Some(fault);
    }

    /// While it is full, every transaction is refused.
    pub fn set_full(&self, is_full: bool) {
        self.trouble().is_full = is_full;
    }

    /// A fault that was planned and not met does not happen any more.
    pub fn mend(&self) {
        *self.trouble() = Trouble::default();
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn transact(
        &self,
        transaction: impl FnOnce(&MemBase) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let fault = {
            let mut trouble = self.trouble();
            if trouble.is_full { Some(BaseFault::Refused) } else { trouble.next.take() }
        };
        match fault {
            None => transaction(&self.base),
            Some(BaseFault::Refused) => Err(failure("write refused")),
            Some(BaseFault::Unsure) => {
                transaction(&self.base)?;
                Err(failure("sync failed"))
            }
        }
    }
}

fn failure(reason: &str) -> EngineError {
    EngineError::Io { file: "state".into(), reason: reason.into() }
}

impl Base for SimBase {
    fn apply(&self, buffer: &Buffer) -> Result<(), EngineError> {
        self.transact(|base| base.apply(buffer))
    }

    fn install(
        &self,
        clear: &[KeyRange],
        rows: &mut Rows<'_>,
        records: &StateBatch,
    ) -> Result<(), EngineError> {
        self.transact(|base| base.install(clear, rows, records))
    }

    fn view(&self) -> Result<Box<dyn ReadView>, EngineError> {
        self.base.view()
    }

    fn disk_bytes(&self) -> u64 {
        self.base.disk_bytes()
    }
}
