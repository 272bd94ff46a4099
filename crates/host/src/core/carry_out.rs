//! The loop around a core: which of its outputs is carried out when.
//!
//! A turn steps some inputs and ends with [`Outputs::end_turn`]: the core decides on everything
//! that was stepped, and its outputs are carried out one by one. The core is flushed again after
//! each batch of outputs that wrote the log, until nothing comes out. The process that ships and
//! the simulator run this code; they differ in their [`Io`].
//!
//! Invariants:
//! 1. Messages that were put out before an append leave before the log is written.
//! 2. Messages that wait for an append leave after it is as durable as it was asked to be.
//! 3. The core learns that an append is persisted after those messages have left and before any
//!    other input is stepped. So no answer to one of those messages is stepped earlier.
//! 4. While an append is awaited, no output is carried out.
//! 5. After a failure, no output is carried out.
//!
//! Not here: which inputs a turn takes and when a tick is due ([`super::pace`]), and what the other
//! outputs of a core ask for; each core has a function that carries those out and calls
//! [`Outputs::append`].

use std::collections::VecDeque;

use flotilla_engine::LogBatch;
use flotilla_types::mutant::{Mutant, planted};

/// A deterministic state machine that owns Raft groups.
pub trait Core {
    /// What the core is told.
    type Input;
    /// What the core wants done.
    type Output;
    /// A message to another process, with its receiver.
    type Message;

    /// The input that ends a turn.
    fn flush() -> Self::Input;

    /// The input by which the core learns that the append of `turn` is durable.
    fn persisted(turn: u64) -> Self::Input;
}

/// What became of a write to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The write is done, and synced if that was asked for.
    Done,
    /// The disk is at work. [`Outputs::written`] is to be called when the write is done.
    Later,
    /// The write failed; the process cannot go on. The text says why.
    Failed(String),
}

/// What the loop needs of the process around a core, whatever the core replicates.
pub trait Io<C: Core> {
    /// Steps the core at the present time. Outputs are appended to `out`.
    fn step(&mut self, input: C::Input, out: &mut Vec<C::Output>);

    /// Sends a message, which may be lost. It may wait for [`Io::flush_messages`].
    fn send(&mut self, message: C::Message);

    /// Lets the messages leave that were sent before.
    fn flush_messages(&mut self);

    /// Writes `batch` of `turn` to the log, and syncs the log if `sync`.
    fn write_log(&mut self, turn: u64, batch: LogBatch, sync: bool) -> Written;

    /// The process cannot go on.
    fn fail(&mut self, reason: String);

    /// True once the process has failed.
    fn has_failed(&self) -> bool;
}

/// An append that the disk has not finished.
struct Awaited<M> {
    turn: u64,
    then: Vec<M>,
}

/// The outputs of a core that are not carried out yet. See the module's documentation.
pub struct Outputs<C: Core> {
    /// Put out since `current` was taken.
    next: Vec<C::Output>,
    /// What is being carried out, in order.
    current: VecDeque<C::Output>,
    /// True if the log was written since the last flush.
    has_appended: bool,
    awaited: Option<Awaited<C::Message>>,
}

impl<C: Core> Default for Outputs<C> {
    fn default() -> Outputs<C> {
        Outputs { next: vec![], current: VecDeque::new(), has_appended: false, awaited: None }
    }
}

impl<C: Core> Outputs<C> {
    /// True if an append is awaited.
    pub fn is_waiting(&self) -> bool {
        self.awaited.is_some()
    }

    /// True if there is nothing to carry out and no append is awaited.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty() && self.current.is_empty() && self.awaited.is_none()
    }

    /// Steps an input of the present turn.
    pub fn step<I: Io<C>>(&mut self, io: &mut I, input: C::Input) {
        io.step(input, &mut self.next);
    }

    /// Ends the turn, and the turns that follow from what it made durable. Stops early if an append
    /// is awaited or the process fails. `carry_out` is the core's own function for one output.
    pub fn end_turn<I: Io<C>>(
        &mut self,
        io: &mut I,
        carry_out: fn(&mut Outputs<C>, &mut I, C::Output),
    ) {
        self.step(io, C::flush());
        self.settle(io, carry_out);
    }

    /// The awaited append is as durable as it was asked to be; the turn goes on. Nothing happens if
    /// no append is awaited.
    pub fn written<I: Io<C>>(
        &mut self,
        io: &mut I,
        carry_out: fn(&mut Outputs<C>, &mut I, C::Output),
    ) {
        if let Some(Awaited { turn, then }) = self.awaited.take() {
            self.report_written(io, turn, then);
            self.settle(io, carry_out);
        }
    }

    /// Carries out what the core has put out; the core is flushed again only after an append.
    pub fn settle<I: Io<C>>(
        &mut self,
        io: &mut I,
        carry_out: fn(&mut Outputs<C>, &mut I, C::Output),
    ) {
        loop {
            while !self.is_waiting() && !io.has_failed() {
                let Some(output) = self.current.pop_front() else { break };
                carry_out(self, io, output);
            }
            io.flush_messages();
            if self.is_waiting() || io.has_failed() {
                return;
            }
            if std::mem::take(&mut self.has_appended) {
                self.step(io, C::flush());
            }
            if self.next.is_empty() {
                return;
            }
            self.current = std::mem::take(&mut self.next).into();
        }
    }

    /// Writes an append of the core to the log, then sends what waits for it.
    pub fn append<I: Io<C>>(&mut self, io: &mut I, append: Append<C::Message>) {
        let Append { turn, batch, sync, mut then } = append;
        if planted(Mutant::ThenBeforeSync) {
            std::mem::take(&mut then).into_iter().for_each(|message| io.send(message));
        }
        io.flush_messages();
        match io.write_log(turn, batch, sync) {
            Written::Done => self.report_written(io, turn, then),
            Written::Later => self.awaited = Some(Awaited { turn, then }),
            Written::Failed(reason) => io.fail(reason),
        }
    }

    fn report_written<I: Io<C>>(&mut self, io: &mut I, turn: u64, then: Vec<C::Message>) {
        self.has_appended = true;
        then.into_iter().for_each(|message| io.send(message));
        io.flush_messages();
        if !io.has_failed() {
            self.step(io, C::persisted(turn));
        }
    }
}

/// One write to the log, and what waits for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Append<M> {
    /// Names the write: [`Core::persisted`] has it.
    pub turn: u64,
    /// The changes, in order.
    pub batch: LogBatch,
    /// True if the changes must survive a crash before the write counts as done.
    pub sync: bool,
    /// Messages that imply that the changes are durable.
    pub then: Vec<M>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core that puts out what it is told to.
    struct Script;

    #[derive(Clone, Debug, PartialEq)]
    enum Told {
        Outputs(Vec<Put>),
        Flush,
        Persisted(u64),
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Put {
        Send(&'static str),
        Append(Append<&'static str>),
        Fatal,
    }

    impl Core for Script {
        type Input = Told;
        type Output = Put;
        type Message = &'static str;

        fn flush() -> Told {
            Told::Flush
        }

        fn persisted(turn: u64) -> Told {
            Told::Persisted(turn)
        }
    }

    /// Takes note of what happens, in order.
    #[derive(Default)]
    struct Notes {
        lines: Vec<String>,
        written: Option<Written>,
        has_failed: bool,
    }

    impl Io<Script> for Notes {
        fn step(&mut self, input: Told, out: &mut Vec<Put>) {
            match input {
                Told::Outputs(outputs) => out.extend(outputs),
                Told::Flush => self.lines.push("flush".into()),
                Told::Persisted(turn) => self.lines.push(format!("persisted {turn}")),
            }
        }

        fn send(&mut self, message: &'static str) {
            self.lines.push(message.into());
        }

        fn flush_messages(&mut self) {
            if self.lines.last().is_some_and(|line| line != "messages leave") {
                self.lines.push("messages leave".into());
            }
        }

        fn write_log(&mut self, turn: u64, _: LogBatch, sync: bool) -> Written {
            self.lines.push(format!("write {turn} {sync}"));
            self.written.clone().unwrap_or(Written::Done)
        }

        fn fail(&mut self, reason: String) {
            self.lines.push(reason);
            self.has_failed = true;
        }

        fn has_failed(&self) -> bool {
            self.has_failed
        }
    }

    fn carry_out(outputs: &mut Outputs<Script>, io: &mut Notes, output: Put) {
        match output {
            Put::Send(message) => io.send(message),
            Put::Append(append) => outputs.append(io, append),
            Put::Fatal => io.fail("fatal".into()),
        }
    }

    fn append(turn: u64) -> Put {
        let batch = LogBatch::default();
        Put::Append(Append { turn, batch, sync: true, then: vec!["then"] })
    }

    fn run(written: Option<Written>, outputs: Vec<Put>) -> (Outputs<Script>, Notes) {
        let mut notes = Notes { written, ..Notes::default() };
        let mut all = Outputs::default();
        all.step(&mut notes, Told::Outputs(outputs));
        all.end_turn(&mut notes, carry_out);
        (all, notes)
    }

    #[test]
    fn messages_surround_the_write_that_they_precede_or_wait_for() {
        let (outputs, notes) = run(None, vec![Put::Send("before"), append(1), Put::Send("after")]);
        let expected = [
            "flush",
            "messages leave",
            "before",
            "messages leave",
            "write 1 true",
            "then",
            "messages leave",
            "persisted 1",
            "after",
            "messages leave",
            "flush",
        ];
        assert_eq!(notes.lines, expected);
        assert!(outputs.is_empty());
    }

    #[test]
    fn nothing_is_carried_out_while_an_append_is_awaited() {
        let outputs = vec![append(1), Put::Send("after")];
        let (mut outputs, mut notes) = run(Some(Written::Later), outputs);
        assert!(outputs.is_waiting());
        assert_eq!(notes.lines.last().map(String::as_str), Some("messages leave"));
        assert!(!notes.lines.iter().any(|line| line == "then" || line == "after"));
        notes.lines.clear();
        outputs.written(&mut notes, carry_out);
        let expected =
            ["then", "messages leave", "persisted 1", "after", "messages leave", "flush"];
        assert_eq!(notes.lines, expected);
        assert!(outputs.is_empty());
    }

    #[test]
    fn nothing_is_carried_out_after_a_failure() {
        let outputs = vec![append(1), Put::Send("after")];
        let (_, notes) = run(Some(Written::Failed("disk".into())), outputs);
        assert!(!notes.lines.iter().any(|line| line == "then" || line == "after"));
        let (_, notes) = run(None, vec![Put::Fatal, append(2)]);
        assert!(!notes.lines.iter().any(|line| line.starts_with("write")));
    }
}
