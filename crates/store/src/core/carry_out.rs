//! Carries out what a worker puts out: the one place where each [`Output`] becomes a call.
//!
//! The driver, the simulator, the crash sweep and the golden scripts implement [`StoreIo`] and run
//! this code. The order of a turn is kept by [`flotilla_host::core::carry_out`].

use flotilla_host::core::carry_out::{Core, Io};
use flotilla_host::core::message::Envelope;
use flotilla_types::heartbeat::{StoreAddr, StoreHeartbeat};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{RegionError, RegionId, StoreId};

use super::worker::Worker;
use super::{Answer, Event, Input, Install, Output, RequestId, StagedId};

/// The outputs of a worker that are not carried out yet.
pub type Outputs = flotilla_host::core::carry_out::Outputs<Worker>;

impl Core for Worker {
    type Input = Input;
    type Output = Output;
    type Message = (StoreId, Envelope);

    fn flush() -> Input {
        Input::Flush
    }

    fn persisted(turn: u64) -> Input {
        Input::Persisted { turn }
    }
}

/// What a worker needs of the process around it. What each method is to do stands at the
/// [`Output`] of the same name.
pub trait StoreIo: Io<Worker> {
    /// [`Output::Reply`].
    fn reply(&mut self, id: RequestId, result: Result<Answer, RegionError>);

    /// [`Output::Checkpoint`]; must not wait for the disk.
    fn checkpoint(&mut self, number: u64, exports: Vec<RegionId>, installs: Vec<Install>);

    /// [`Output::SendSnapshot`].
    fn send_snapshot(&mut self, to: StoreId, envelope: Envelope, number: u64);

    /// [`Output::DropExport`].
    fn drop_export(&mut self, region: RegionId);

    /// [`Output::DiscardStaged`].
    fn discard_staged(&mut self, staged: StagedId);

    /// [`Output::Heartbeat`].
    fn heartbeat(&mut self, heartbeat: StoreHeartbeat);

    /// [`Output::StoreAddrs`].
    fn store_addrs(&mut self, addrs: Vec<StoreAddr>);

    /// [`Output::HandedOver`].
    fn handed_over(&mut self);

    /// [`Output::Event`].
    fn event(&mut self, event: &Event);
}

/// Ends the turn: see [`flotilla_host::core::carry_out::Outputs::end_turn`].
pub fn end_turn(outputs: &mut Outputs, io: &mut impl StoreIo) {
    outputs.end_turn(io, carry_out);
}

/// The awaited append is done: see [`flotilla_host::core::carry_out::Outputs::written`].
pub fn written(outputs: &mut Outputs, io: &mut impl StoreIo) {
    outputs.written(io, carry_out);
}

/// Steps [`Input::Stop`] and carries out what the worker still wants done.
pub fn stop(outputs: &mut Outputs, io: &mut impl StoreIo) {
    outputs.step(io, Input::Stop);
    outputs.settle(io, carry_out);
}

fn carry_out<I: StoreIo>(outputs: &mut Outputs, io: &mut I, output: Output) {
    match output {
        Output::Reply { id, result } => {
            if planted(Mutant::ReplyTwice) {
                io.reply(id, result.clone());
            }
            io.reply(id, result);
        }
        Output::Send { to, envelope } => io.send((to, envelope)),
        Output::Append(append) => outputs.append(io, append),
        Output::Checkpoint { number, exports, installs } => {
            io.checkpoint(number, exports, installs);
        }
        Output::SendSnapshot { to, envelope, number } => io.send_snapshot(to, envelope, number),
        Output::DropExport { region } => io.drop_export(region),
        Output::DiscardStaged { staged } => io.discard_staged(staged),
        Output::Heartbeat(heartbeat) => io.heartbeat(heartbeat),
        Output::StoreAddrs(addrs) => io.store_addrs(addrs),
        Output::HandedOver => io.handed_over(),
        Output::Event(event) => io.event(&event),
        Output::Fatal { reason } => io.fail(reason),
    }
}
