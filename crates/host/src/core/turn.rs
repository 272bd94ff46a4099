//! What a turn gathers for the log: one batch of all groups, the messages that imply it, and the
//! readies that the groups are told of when it is durable.
//!
//! Groups and members are numbers here, and messages are not looked into.
//!
//! Invariants: the numbers of the turns that are written only grow; a message leaves after the
//! batch of its turn, and of all turns before it, is durable; a group's readies are reported in
//! order, and none of them after the group was opened anew.
//!
//! Not here: who carries an append out ([`super::carry_out`]).

use std::collections::VecDeque;

use flotilla_engine::{LogBatch, LogOp};

use super::carry_out::Append;

/// A ready of a group whose log writes are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentReady {
    /// The group.
    pub group: u64,
    /// The member whose ready it is: by the time it is durable another one may live here.
    pub member: u64,
    /// The ready's number.
    pub number: u64,
}

/// What a turn comes to.
#[derive(Debug, PartialEq)]
pub enum Ended<M> {
    /// Nothing was gathered.
    Empty,
    /// The turn writes nothing and no earlier turn is on its way: everything may happen at once.
    Durable {
        /// Messages that may leave.
        messages: Vec<M>,
        /// Readies to report.
        readies: Vec<SentReady>,
    },
    /// The log is to be written. Its turn comes back in [`LogTurn::persisted`].
    Append(Append<M>),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LogTurn<M> {
    number: u64,
    batch: LogBatch,
    is_synced: bool,
    messages: Vec<M>,
    readies: Vec<SentReady>,
    /// Turns that are being written, oldest first.
    unpersisted: VecDeque<(u64, Vec<SentReady>)>,
}

impl<M> Default for LogTurn<M> {
    fn default() -> LogTurn<M> {
        LogTurn {
            number: 1,
            batch: LogBatch::default(),
            is_synced: false,
            messages: vec![],
            readies: vec![],
            unpersisted: VecDeque::new(),
        }
    }
}

impl<M> LogTurn<M> {
    /// Adds log changes that nothing waits for.
    pub fn write(&mut self, ops: impl IntoIterator<Item = LogOp>) {
        self.batch.ops.extend(ops);
    }

    /// Adds log changes that the end of the turn must make durable.
    pub fn write_synced(&mut self, ops: impl IntoIterator<Item = LogOp>) {
        self.is_synced = true;
        self.write(ops);
    }

    /// Sends messages when the turn, and all before it, is durable.
    pub fn send_after(&mut self, messages: impl IntoIterator<Item = M>) {
        self.messages.extend(messages);
    }

    /// Reports a ready when the turn, and all before it, is durable.
    pub fn report_after(&mut self, ready: SentReady) {
        self.readies.push(ready);
    }

    /// The group is opened anew and numbers its readies from the beginning: earlier ones are not
    /// reported.
    pub fn forget_group(&mut self, group: u64) {
        let earlier = self.unpersisted.iter_mut().map(|(_, readies)| readies);
        for readies in earlier.chain([&mut self.readies]) {
            readies.retain(|ready| ready.group != group);
        }
    }

    /// Ends the turn.
    pub fn end(&mut self) -> Ended<M> {
        let then = std::mem::take(&mut self.messages);
        let readies = std::mem::take(&mut self.readies);
        let batch = std::mem::take(&mut self.batch);
        let sync = std::mem::take(&mut self.is_synced);
        if batch.ops.is_empty() && then.is_empty() && readies.is_empty() {
            return Ended::Empty;
        }
        let turn = self.number;
        self.number += 1;
        if batch.ops.is_empty() && self.unpersisted.is_empty() {
            return Ended::Durable { messages: then, readies };
        }
        self.unpersisted.push_back((turn, readies));
        Ended::Append(Append { turn, batch, sync, then })
    }

    /// The log of `turn`, and of all before it, is durable: answers the readies to report, oldest
    /// first.
    pub fn persisted(&mut self, turn: u64) -> Vec<SentReady> {
        let mut readies = vec![];
        while self.unpersisted.front().is_some_and(|(front, _)| *front <= turn) {
            readies.extend(self.unpersisted.pop_front().into_iter().flat_map(|(_, of)| of));
        }
        readies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(group: u64, number: u64) -> SentReady {
        SentReady { group, member: 1, number }
    }

    fn append(turn: &mut LogTurn<&'static str>) -> Append<&'static str> {
        match turn.end() {
            Ended::Append(append) => append,
            other @ (Ended::Empty | Ended::Durable { .. }) => {
                panic!("an append was expected: {other:?}")
            }
        }
    }

    fn clear(group: u64) -> Vec<LogOp> {
        vec![LogOp::Clear { group }]
    }

    #[test]
    fn a_turn_without_writes_is_durable_unless_an_earlier_one_is_not() {
        let mut turn = LogTurn::default();
        assert_eq!(turn.end(), Ended::Empty);
        turn.send_after(["at once"]);
        let messages = vec!["at once"];
        assert_eq!(turn.end(), Ended::Durable { messages, readies: vec![] });
        turn.write(clear(1));
        let first = append(&mut turn);
        assert!(!first.sync);
        turn.send_after(["after the first"]);
        let second = append(&mut turn);
        assert!(second.turn > first.turn && second.batch.ops.is_empty());
        assert_eq!(turn.persisted(second.turn), []);
        turn.send_after(["at once"]);
        assert!(matches!(turn.end(), Ended::Durable { .. }));
    }

    #[test]
    fn a_durable_turn_reports_the_readies_of_all_before_it() {
        let mut turn: LogTurn<&'static str> = LogTurn::default();
        turn.write_synced(clear(1));
        turn.report_after(ready(1, 5));
        assert!(append(&mut turn).sync);
        turn.write(clear(2));
        turn.report_after(ready(2, 6));
        let last = append(&mut turn).turn;
        assert_eq!(turn.persisted(last), [ready(1, 5), ready(2, 6)]);
        assert_eq!(turn.persisted(last), []);
    }

    #[test]
    fn a_group_that_is_opened_anew_hears_of_no_earlier_ready() {
        let mut turn: LogTurn<&'static str> = LogTurn::default();
        turn.write(clear(1));
        turn.report_after(ready(1, 5));
        turn.report_after(ready(2, 6));
        let number = append(&mut turn).turn;
        turn.report_after(ready(1, 7));
        turn.forget_group(1);
        assert_eq!(turn.persisted(number), [ready(2, 6)]);
        assert_eq!(turn.end(), Ended::Empty);
    }
}
