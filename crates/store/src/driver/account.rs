//! The account of a store's memory: what it holds of each kind, beside the most that it may hold.
//!
//! Told by `ctl store show` ([`super::service`]) and at `/metrics`. Nothing is decided by it.
//!
//! Not in it: the program itself, threads' stacks, buffers of sockets, what the allocator keeps,
//! and the index of the log, some tens of bytes for each entry that is kept on disk. The resident
//! memory of the process, which is told beside the account, has all of these.

use std::sync::{Arc, Weak};
use std::time::Duration;

use flotilla_engine::StateStore;
use flotilla_host::core::budget::ByteBudget;
use flotilla_host::core::mailbox::Lane;
use flotilla_host::driver::inbox::InboxLoads;
use tokio::sync::oneshot;

use super::answers::{AnswerBudgets, Answers};
use super::config::StoreConfig;
use super::inbox::{Inbox, Mail};
use crate::core::census::Census;
use crate::core::pressure::PRESSURE_CHECKPOINTS;

/// How long the worker is waited for: it answers within a turn, unless it is stuck, and then the
/// other numbers matter most.
const CENSUS_TIME_MAX: Duration = Duration::from_secs(1);

/// The kinds, in the order of [`Account::read`].
pub const KINDS: [&str; 9] = [
    "page_cache",
    "write_buffers",
    "answers",
    "scan_chunks",
    "waiting_reads",
    "inbox_requests",
    "inbox_messages",
    "messages_out",
    "log_entries",
];

/// What is held of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// How many bytes; None if the worker, which knows, does not answer.
    pub bytes: Option<u64>,
    /// The most; 0 where there is no bound for the store as a whole.
    pub bytes_max: u64,
}

/// Whom the account asks. Nothing of the store is kept alive by it, but for what it counts.
#[derive(Clone)]
pub struct Account {
    memory_bytes: usize,
    cache_bytes: usize,
    checkpoint_bytes: usize,
    inbox_bytes_max: usize,
    inbox: Inbox,
    loads: InboxLoads,
    state: Weak<StateStore>,
    budgets: AnswerBudgets,
    messages_out: Arc<ByteBudget>,
}

impl Account {
    /// The account of the store of `inbox`.
    pub fn new(
        config: &StoreConfig,
        inbox: &Inbox,
        (state, messages_out): (&Arc<StateStore>, Arc<ByteBudget>),
        budgets: &AnswerBudgets,
    ) -> Account {
        Account {
            memory_bytes: config.memory_bytes,
            cache_bytes: config.cache_bytes,
            checkpoint_bytes: config.checkpoint_bytes,
            inbox_bytes_max: config.under_way.inbox_bytes_max,
            inbox: inbox.clone(),
            loads: inbox.loads(),
            state: Arc::downgrade(state),
            budgets: budgets.clone(),
            messages_out,
        }
    }

    /// What the store was told to keep to in all.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// What the worker says of its regions; None if it is stuck.
    pub async fn census(&self) -> Option<Census> {
        let (sink, census) = oneshot::channel();
        self.inbox.report(Mail::Census(sink));
        tokio::time::timeout(CENSUS_TIME_MAX, census).await.ok()?.ok()
    }

    /// What is held of each kind, in the order of [`KINDS`].
    pub fn read(&self, census: Option<&Census>) -> [Held; KINDS.len()] {
        let state = self.state.upgrade();
        let of_state = |ask: fn(&StateStore) -> usize| state.as_deref().map_or(0, ask);
        let of_answers = |answers: &Answers| (answers.held(), answers.bytes_max());
        let of_budget = |budget: &ByteBudget| (budget.held(), budget.bytes_max());
        let of_lane = |lane| (self.loads.of(lane).1, self.inbox_bytes_max);
        let known = [
            (of_state(StateStore::cached_bytes), self.cache_bytes),
            (of_state(StateStore::unflushed_bytes), PRESSURE_CHECKPOINTS * self.checkpoint_bytes),
            of_answers(&self.budgets.gets),
            of_answers(&self.budgets.scans),
            of_budget(&self.budgets.waiting),
            of_lane(Lane::Requests),
            of_lane(Lane::Consensus),
            of_budget(&self.messages_out),
        ];
        let known = known.map(|(bytes, bytes_max)| (Some(bytes as u64), bytes_max as u64));
        let entries = (census.map(|census| census.entry_bytes), 0);
        let mut all = known.into_iter().chain([entries]);
        KINDS.map(|kind| {
            let (bytes, bytes_max) = all.next().unwrap_or_default();
            Held { kind, bytes, bytes_max }
        })
    }
}
