//! What the checker and the schedulers decided, and why: kept for people.
//!
//! Planning returns an [`Account`] for each [`Scheduler`], the [`SchedulerLog`] keeps the last of
//! them. In: accounts. Out: each scheduler's state, since when, and its last decisions.
//!
//! Nothing is decided on what is kept here. Soft: gone with leadership.

use std::collections::VecDeque;

use flotilla_types::Millis;
use flotilla_types::explain::{SchedulerDecision, SchedulerState, SchedulerStatus};

/// Rejections that one plan tells of a scheduler; the others are counted.
const REJECTIONS_MAX: usize = 8;

/// Decisions of a scheduler that are kept: some screens.
const DECISIONS_MAX: usize = 32;

/// Who plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheduler {
    /// The checker: what single regions need.
    Repair,
    /// Leaders are evened out over stores.
    BalanceLeaders,
    /// Replicas are evened out over stores.
    BalanceReplicas,
}

impl Scheduler {
    /// All, in the order in which they plan.
    pub const ALL: [Scheduler; 3] =
        [Scheduler::Repair, Scheduler::BalanceLeaders, Scheduler::BalanceReplicas];

    /// Its name for people and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scheduler::Repair => "repair",
            Scheduler::BalanceLeaders => "balance-leaders",
            Scheduler::BalanceReplicas => "balance-replicas",
        }
    }
}

/// What one scheduler decided in one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Which one.
    pub scheduler: Scheduler,
    /// What is to be started, with the scores.
    pub started: Vec<String>,
    /// What was considered and not done, and why; a bounded number.
    pub rejected: Vec<String>,
    /// The number of all that was considered and not done.
    pub rejected_count: usize,
    /// Operators of its own that are under way already.
    pub under_way: usize,
}

impl Account {
    /// Nothing is decided yet.
    pub fn new(scheduler: Scheduler, under_way: usize) -> Account {
        let (started, rejected) = (vec![], vec![]);
        Account { scheduler, started, rejected, rejected_count: 0, under_way }
    }

    /// Counts what is not done; `why` is asked only for the first ones.
    pub fn reject(&mut self, why: impl FnOnce() -> String) {
        self.rejected_count += 1;
        if self.rejected.len() < REJECTIONS_MAX {
            self.rejected.push(why());
        }
    }

    fn state(&self) -> SchedulerState {
        if !self.started.is_empty() || self.under_way > 0 {
            SchedulerState::Working
        } else if self.rejected_count > 0 {
            SchedulerState::Stalled
        } else {
            SchedulerState::Idle
        }
    }

    fn why(&self) -> String {
        let told = match self.state() {
            SchedulerState::Idle => return String::new(),
            SchedulerState::Working => self.started.last(),
            SchedulerState::Stalled => self.rejected.first(),
        };
        match (told, self.rejected_count.saturating_sub(1)) {
            (None, _) => format!("{} operators are under way", self.under_way),
            (Some(why), others) if others > 0 && self.state() == SchedulerState::Stalled => {
                format!("{why}; and {others} more")
            }
            (Some(why), _) => why.clone(),
        }
    }
}

/// The last accounts of one scheduler.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    last: Account,
    since: Millis,
    decisions: VecDeque<(Millis, SchedulerDecision)>,
}

/// The last accounts of all schedulers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulerLog {
    kept: Vec<Kept>,
}

impl SchedulerLog {
    /// Takes over what a plan decided. A rejection that the last plan had as well is not told
    /// again.
    pub fn note(&mut self, now: Millis, accounts: Vec<Account>) {
        for account in accounts {
            let found = self.kept.iter().position(|kept| kept.last.scheduler == account.scheduler);
            let at = found.unwrap_or_else(|| {
                let last = Account::new(account.scheduler, 0);
                self.kept.push(Kept { last, since: now, decisions: VecDeque::new() });
                self.kept.len() - 1
            });
            if let Some(kept) = self.kept.get_mut(at) {
                kept.note(now, account);
            }
        }
    }

    /// Each scheduler as of `now`.
    pub fn statuses(&self, now: Millis) -> Vec<SchedulerStatus> {
        let status = |kept: &Kept| SchedulerStatus {
            name: kept.last.scheduler.name().into(),
            state: kept.last.state(),
            since_ms: now.since(kept.since),
            why: kept.last.why(),
            decisions: kept
                .decisions
                .iter()
                .map(|(at, decision)| aged(now, *at, decision))
                .collect(),
        };
        self.kept.iter().map(status).collect()
    }
}

fn aged(now: Millis, at: Millis, decision: &SchedulerDecision) -> SchedulerDecision {
    SchedulerDecision { age_ms: now.since(at), ..decision.clone() }
}

impl Kept {
    fn note(&mut self, now: Millis, account: Account) {
        if account.state() != self.last.state() {
            self.since = now;
        }
        for what in &account.started {
            self.decide(now, false, what);
        }
        let is_new = |what: &&String| !self.last.rejected.contains(what);
        let news: Vec<String> = account.rejected.iter().filter(is_new).cloned().collect();
        news.iter().for_each(|what| self.decide(now, true, what));
        self.last = account;
    }

    fn decide(&mut self, now: Millis, is_rejected: bool, what: &str) {
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.pop_front();
        }
        let decision = SchedulerDecision { age_ms: 0, is_rejected, what: what.into() };
        self.decisions.push_back((now, decision));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_that_cannot_do_anything_is_stalled_and_says_since_when_and_why() {
        let mut log = SchedulerLog::default();
        let mut stalled = Account::new(Scheduler::Repair, 0);
        (0..10).for_each(|n| stalled.reject(|| format!("region {n}: no store")));
        log.note(Millis(100), vec![Account::new(Scheduler::Repair, 0)]);
        log.note(Millis(200), vec![stalled.clone()]);
        log.note(Millis(300), vec![stalled]);
        let told = log.statuses(Millis(500)).remove(0);
        assert_eq!((told.state, told.since_ms), (SchedulerState::Stalled, 300));
        assert_eq!(told.why, "region 0: no store; and 9 more");
        assert_eq!(told.decisions.len(), REJECTIONS_MAX, "told once: {:?}", told.decisions);
        assert!(told.decisions.iter().all(|one| one.is_rejected && one.age_ms == 300));
    }

    #[test]
    fn the_last_decisions_are_kept() {
        let mut log = SchedulerLog::default();
        for n in 0..40 {
            let mut account = Account::new(Scheduler::BalanceLeaders, 0);
            account.started.push(format!("move {n}"));
            log.note(Millis(n), vec![account]);
        }
        let told = log.statuses(Millis(50)).remove(0);
        assert_eq!((told.state, told.why.as_str()), (SchedulerState::Working, "move 39"));
        assert_eq!(told.decisions.len(), DECISIONS_MAX);
        assert_eq!(told.decisions.first().map(|one| one.what.as_str()), Some("move 8"));
    }
}
