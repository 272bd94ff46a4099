//! Carries out what a member puts out: the one place where each [`Output`] becomes a call.
//!
//! The driver, the simulator and the tests implement [`PdIo`] and run this code. The order of a
//! turn is kept by [`flotilla_host::core::carry_out`].

use std::collections::BTreeMap;

use flotilla_host::core::carry_out::{Core, Io};
use flotilla_host::core::message::{Envelope, StagedId};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{PdError, PdReply};

use crate::core::io::{Event, Input, Output, RequestId};
use crate::core::pd::Pd;

/// The outputs of a member that are not carried out yet.
pub type Outputs = flotilla_host::core::carry_out::Outputs<Pd>;

impl Core for Pd {
    type Input = Input;
    type Output = Output;
    type Message = Envelope;

    fn flush() -> Input {
        Input::Flush
    }

    fn persisted(turn: u64) -> Input {
        Input::Persisted { turn }
    }
}

/// What a member needs of the process around it. What each method is to do stands at the
/// [`Output`] of the same name.
pub trait PdIo: Io<Pd> {
    /// [`Output::Reply`].
    fn reply(&mut self, id: RequestId, reply: Result<PdReply, PdError>);

    /// [`Output::Checkpoint`]; must not wait for the disk.
    fn checkpoint(&mut self, applied: u64, exports: bool, install: Option<StagedId>);

    /// [`Output::SendSnapshot`].
    fn send_snapshot(&mut self, envelope: Envelope, number: u64);

    /// [`Output::DropExport`].
    fn drop_export(&mut self);

    /// [`Output::DiscardStaged`].
    fn discard_staged(&mut self, staged: StagedId);

    /// [`Output::MemberAddrs`].
    fn member_addrs(&mut self, addrs: BTreeMap<u64, String>);

    /// [`Output::Removed`].
    fn removed(&mut self);

    /// [`Output::Stranger`].
    fn stranger(&mut self, known_by: u64);

    /// [`Output::Event`].
    fn event(&mut self, event: &Event);
}

/// Ends the turn: see [`flotilla_host::core::carry_out::Outputs::end_turn`].
pub fn end_turn(outputs: &mut Outputs, io: &mut impl PdIo) {
    outputs.end_turn(io, carry_out);
}

/// The awaited append is done: see [`flotilla_host::core::carry_out::Outputs::written`].
pub fn written(outputs: &mut Outputs, io: &mut impl PdIo) {
    outputs.written(io, carry_out);
}

/// Steps [`Input::Stop`] and carries out what the member still wants done.
pub fn stop(outputs: &mut Outputs, io: &mut impl PdIo) {
    outputs.step(io, Input::Stop);
    outputs.settle(io, carry_out);
}

fn carry_out<I: PdIo>(outputs: &mut Outputs, io: &mut I, output: Output) {
    match output {
        Output::Append(append) => outputs.append(io, append),
        Output::Send(envelope) => io.send(envelope),
        Output::Checkpoint { applied, exports, install } => {
            io.checkpoint(applied, exports, install);
        }
        Output::SendSnapshot { envelope, number } => io.send_snapshot(envelope, number),
        Output::DropExport => io.drop_export(),
        Output::DiscardStaged { staged } => io.discard_staged(staged),
        Output::MemberAddrs(addrs) => io.member_addrs(addrs),
        Output::Removed => io.removed(),
        Output::Stranger { known_by } => io.stranger(known_by),
        Output::Reply { id, reply } => {
            if planted(Mutant::ReplyTwice) {
                io.reply(id, reply.clone());
            }
            io.reply(id, reply);
        }
        Output::Event(event) => io.event(&event),
        Output::Failed { reason } => io.fail(reason),
    }
}
