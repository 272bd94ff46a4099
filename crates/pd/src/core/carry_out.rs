//! Carries out what a member puts out: the one place where each [`Output`] becomes a call.
//!
//! The driver, the simulator and the tests implement [`PdIo`] and run this code. The order of a
//! turn is kept by [`flotilla_host::core::carry_out`].

use std::convert::Infallible;

use flotilla_host::core::carry_out::{Core, Io};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{PdError, PdReply};

use crate::core::io::{Event, Input, Output, RequestId};
use crate::core::pd::Pd;

/// The outputs of a member that are not carried out yet.
pub type Outputs = flotilla_host::core::carry_out::Outputs<Pd>;

/// A lone member has nobody to send a message to.
impl Core for Pd {
    type Input = Input;
    type Output = Output;
    type Message = Infallible;

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
    fn checkpoint(&mut self, applied: u64);

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
        Output::Checkpoint { applied } => io.checkpoint(applied),
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
