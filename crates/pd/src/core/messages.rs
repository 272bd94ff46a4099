//! What other members say: introductions of a new group, messages of Raft, and that this member was
//! removed.

use flotilla_group::{MessageKind, StepError};
use flotilla_host::core::message::{Body, Envelope, Introduction};
use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};

use crate::core::introductions::Heard;
use crate::core::io::{Event, Output};
use crate::core::pd::{Failure, Pd};

impl Pd {
    /// Takes a message of another member.
    pub(crate) fn message(&mut self, now: Millis, envelope: Envelope) -> Result<(), Failure> {
        let from = envelope.from.member;
        if self.members.is_removed(from) && !planted(Mutant::PdRemovedHeard) {
            self.send_removed(from);
            return Ok(());
        }
        let message = match envelope.body {
            Body::Message(message) => message,
            Body::Removed => {
                self.end_as_removed();
                return Ok(());
            }
            Body::Introduction(said) => {
                self.introduced(from, said);
                return Ok(());
            }
            Body::Beat(_) | Body::Quiesce { .. } => return Ok(()),
        };
        if !self.introductions.has_begun() {
            return Ok(());
        }
        self.note_heard(now, from);
        let is_for_us = message.to == self.config.id && message.from == from;
        // A snapshot comes with its rows.
        if !is_for_us || message.kind() == MessageKind::MsgSnapshot {
            return Ok(());
        }
        match self.group.step(now, *message) {
            Ok(()) | Err(StepError::Ignored) => Ok(()),
            Err(lost @ StepError::LostLog { .. }) => {
                Err(Failure::LostLog { reason: lost.to_string() })
            }
        }
    }
    /// Another member tells which directory it has, and asks for the same if it is new.
    fn introduced(&mut self, from: u64, said: Introduction) {
        if !self.members.addrs().contains_key(&from) || from == self.config.id {
            return;
        }
        let others = self.members.others(self.config.id);
        match self.introductions.hear(from, said, others) {
            Heard::Nothing => {}
            Heard::Keep => self.keep_introductions(),
            Heard::Stranger if planted(Mutant::PdStrangerVotes) => {}
            Heard::Stranger => return self.end_as_stranger(from),
        }
        if said.is_new && self.introductions.has_begun() {
            self.introduce_to(from);
        }
    }

    /// Tells all other members which directory this one has, and says what is waited for.
    pub(crate) fn introduce(&mut self, now: Millis) {
        let others: Vec<u64> = self.members.others(self.config.id).collect();
        if let Some(what) = self.introductions.note_awaited(now, others.iter().copied()) {
            self.emit(Output::Event(Event::Awaits { what }));
        }
        others.into_iter().for_each(|member| self.introduce_to(member));
    }

    /// What is said is durable first.
    fn introduce_to(&mut self, member: u64) {
        let envelope =
            self.envelope(member, Body::Introduction(self.introductions.said_to(member)));
        self.log_turn.send_after([envelope]);
    }

    pub(crate) fn keep_introductions(&mut self) {
        self.log_turn.write_synced([self.introductions.keep()]);
    }
}
