//! One member of the cluster: a group, the log that it writes to, and a state machine.
//!
//! The state machine is a list of commands. What is applied is volatile; a `checkpoint` makes it
//! durable, and a crash goes back to it. The log is synced at once, as the owner must.

use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::{LogBatch, LogOp, LogStore, MemLog};
use flotilla_group::{
    Committed, CommittedBody, Group, GroupConfig, GroupError, GroupLimits, GroupReady,
    MemberChange, Membership, Opening, Position, Timing, snapshot_membership,
};
use flotilla_types::Millis;
use flotilla_types::proto::RaftMessage;

/// The number of the group in the log.
const GROUP: u64 = 1;

/// What a member has applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last applied entry.
    pub applied: Position,
    /// The configuration as of it.
    pub membership: Membership,
    /// The commands, in order.
    pub data: Vec<String>,
}

impl State {
    fn encode(&self) -> Bytes {
        self.data.join(" ").into()
    }
}

/// See the module's documentation.
pub struct Member {
    pub id: u64,
    /// None while it is crashed.
    pub group: Option<Group>,
    pub log: MemLog,
    pub state: State,
    pub durable: State,
    /// True if the member is to crash when its next snapshot is durable and the log is still the
    /// old one.
    pub crashes_at_install: bool,
    limits: GroupLimits,
    /// The role that was last printed.
    role: (u64, u64, bool),
}

impl Member {
    /// A member with an empty log over `state`, not started.
    pub fn new(id: u64, state: State, limits: GroupLimits) -> Member {
        let durable = state.clone();
        Member {
            id,
            group: None,
            log: MemLog::default(),
            state,
            durable,
            crashes_at_install: false,
            limits,
            role: (0, 0, false),
        }
    }

    /// Opens the group over the durable state and the log.
    pub fn start(&mut self, now: Millis, is_restart: bool) -> Result<(), GroupError> {
        self.state = self.durable.clone();
        let config = GroupConfig {
            group: GROUP,
            peer: self.id,
            seed: self.id,
            timing: Timing::DEFAULT,
            limits: self.limits,
        };
        let opening = Opening {
            applied: self.state.applied,
            membership: self.state.membership.clone(),
            is_restart,
        };
        let (group, repairs) = Group::open(config, Arc::new(self.log.clone()), opening, now)?;
        self.write(repairs);
        let role = group.role();
        self.role = (role.term, role.leader, role.is_leader);
        self.group = Some(group);
        Ok(())
    }

    /// Loses everything but the log and the durable state.
    pub fn crash(&mut self) {
        self.group = None;
        self.log.crash();
    }

    /// The group; the script must not ask a crashed member for it.
    pub fn group(&mut self) -> &mut Group {
        let id = self.id;
        self.group.as_mut().unwrap_or_else(|| panic!("member {id} is down"))
    }

    /// Carries out the group's readies until there is none. Messages go to `sent`.
    pub fn work(&mut self, sent: &mut Vec<RaftMessage>, out: &mut Vec<String>) {
        while let Some(ready) = self.group.as_mut().and_then(Group::ready) {
            self.carry_out(ready, sent, out);
        }
        let Some(group) = self.group.as_mut() else { return };
        if group.snapshot_wanted().is_some() && group.role().is_leader {
            let State { applied, membership, .. } = &self.state;
            group.offer_snapshot(*applied, membership, self.state.encode());
            out.push(format!("  {} offers a snapshot at {}", self.id, show(*applied)));
        }
        self.print_role(out);
    }

    fn carry_out(&mut self, ready: GroupReady, sent: &mut Vec<RaftMessage>, out: &mut Vec<String>) {
        let id = self.id;
        sent.extend(ready.messages);
        if let Some(meta) = ready.snapshot {
            self.state = State {
                applied: Position { index: meta.index, term: meta.term },
                membership: snapshot_membership(&meta),
                data: text(&meta.data).split(' ').map(str::to_string).collect(),
            };
            self.durable = self.state.clone();
            out.push(format!("  {id} installs the snapshot at {}", show(self.state.applied)));
            if std::mem::take(&mut self.crashes_at_install) {
                out.push(format!("  {id} crashes"));
                self.crash();
                return;
            }
            let begun_anew = self.group().snapshot_installed();
            return self.carry_out(begun_anew, sent, out);
        }
        self.print_appended(&ready.log, out);
        self.write(ready.log);
        self.group().persisted(ready.number);
        sent.extend(ready.persisted_messages);
        for committed in ready.committed {
            self.apply(committed, out);
        }
        for read in ready.reads {
            out.push(format!("  {id} may serve ticket {} at {}", read.ticket.0, read.index));
        }
    }

    fn print_appended(&self, ops: &[LogOp], out: &mut Vec<String>) {
        for op in ops {
            let LogOp::Append { entries, .. } = op else { continue };
            for entry in entries {
                let at = Position { index: entry.index, term: entry.term };
                let over = self.entry(entry.index).map(|held| format!(" over {}", show(held)));
                let over = over.unwrap_or_default();
                out.push(format!("  {} logs {}{over}", self.id, show(at)));
            }
        }
    }

    fn write(&self, ops: Vec<LogOp>) {
        self.log.write(LogBatch { ops }, true).expect("memory does not fail");
    }

    fn apply(&mut self, committed: Committed, out: &mut Vec<String>) {
        let Committed { position, body } = committed;
        self.state.applied = position;
        let what = match body {
            CommittedBody::Empty => "nothing".to_string(),
            CommittedBody::Command(data) => {
                self.state.data.push(text(&data));
                text(&data)
            }
            CommittedBody::Membership(context) => {
                let changes = parse_changes(&text(&context));
                let changed = self.group().apply_membership(&changes);
                self.state.membership = changed.expect("what was proposed is possible");
                show_membership(&self.state.membership)
            }
        };
        out.push(format!("  {} applies {}: {what}", self.id, show(position)));
        self.group().applied(position.index);
    }

    fn print_role(&mut self, out: &mut Vec<String>) {
        let role = self.group().role();
        let now = (role.term, role.leader, role.is_leader);
        if now == self.role {
            return;
        }
        self.role = now;
        let what = match (role.is_leader, role.leader) {
            (true, _) => "leads".to_string(),
            (false, 0) => "knows no leader".to_string(),
            (false, leader) => format!("follows {leader}"),
        };
        out.push(format!("  {} {what} in term {}", self.id, role.term));
    }

    /// Where the log's entry at `index` stands, if it is held.
    pub fn entry(&self, index: u64) -> Option<Position> {
        let bounds = self.log.bounds(GROUP)?;
        if index < bounds.first || index > bounds.last {
            return None;
        }
        let entries = self.log.entries(GROUP, index, index + 1, usize::MAX).ok()?;
        entries.first().map(|entry| Position { index: entry.index, term: entry.term })
    }

    /// The entries held.
    pub fn entries(&self) -> Vec<Position> {
        let Some(bounds) = self.log.bounds(GROUP) else { return vec![] };
        (bounds.first..=bounds.last).filter_map(|index| self.entry(index)).collect()
    }

    /// The disk loses the entries after `after`, as a broken one might.
    pub fn lose_entries(&self, after: u64) {
        let bounds = self.log.bounds(GROUP).expect("a log with entries");
        let kept = self.log.entries(GROUP, bounds.first, after + 1, usize::MAX);
        let entries = kept.expect("memory does not fail");
        let state = self.log.state(GROUP).expect("memory does not fail").expect("a hard state");
        let clear = LogOp::Clear { group: GROUP };
        self.write(vec![
            clear,
            LogOp::SetState { group: GROUP, state },
            LogOp::Append { group: GROUP, entries },
        ]);
    }

    /// Forgets log entries up to `through`.
    pub fn truncate(&mut self, through: u64) {
        let ops = self.group().truncate(through);
        self.write(ops);
    }
}

/// `7@2` for index 7 of term 2.
pub fn show(at: Position) -> String {
    format!("{}@{}", at.index, at.term)
}

/// `voters 1,2 learners 3`.
pub fn show_membership(membership: &Membership) -> String {
    let list = |name: &str, ids: &[u64]| {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        if ids.is_empty() { String::new() } else { format!(" {name} {}", ids.join(",")) }
    };
    let Membership { voters, outgoing, learners } = membership;
    let parts = [("voters", voters), ("outgoing", outgoing), ("learners", learners)];
    parts.iter().map(|(name, ids)| list(name, ids)).collect::<String>().trim_start().to_string()
}

/// The changes that an entry's context or a command names: `learner:4`, `voter:4`, `remove:2`.
pub fn parse_changes(context: &str) -> Vec<MemberChange> {
    let parse = |word: &str| {
        let (kind, peer) = word.split_once(':').unwrap_or_else(|| panic!("{word:?}: no change"));
        let peer = super::script::number(peer);
        match kind {
            "learner" => MemberChange::AddLearner(peer),
            "voter" => MemberChange::AddVoter(peer),
            "remove" => MemberChange::Remove(peer),
            _ => panic!("{word:?}: no change"),
        }
    };
    context.split_whitespace().map(parse).collect()
}

fn text(data: &Bytes) -> String {
    String::from_utf8_lossy(data).into_owned()
}
