//! Reads under a permit, as a connection's task makes them beside the worker's thread: a look at
//! the permit, the reading of the state, another look. Time passes between these steps, in which
//! the thread may do anything, or nothing at all.
//!
//! An answer is checked as of the moment in which the state was read, because that is the moment of
//! which the read tells. What the check found counts only if the second look lets the answer out.
//!
//! Scans are such reads in a part of the seeds; in the others they go to the worker, so that floods
//! of them load it.
//!
//! Not here: why such a read is linearizable; see [`flotilla_store::core::permit`].

use flotilla_store::core::{Op, Output, Request, RequestId};
use flotilla_types::Millis;

use crate::check::{Verdict, Violation, lease};
use crate::event::{ClientRequest, Event};
use crate::hub::Hub;
use crate::time::{MS, Micros};

use super::cost;
use super::process::{Mail, Process};
use super::reading::Stage;

/// The greatest time between two steps of most reads; [`SLOW`] in a thousand may take longer.
const USUAL_MAX: Micros = MS;

/// Reads in a thousand that take much longer, in seeds in which some do.
const SLOW: u64 = 150;

/// What the connection's task does with a read before the worker's thread sees it: it answers under
/// a permit, even while that thread stands still or waits for a sync. False if the worker has to.
pub fn begin(
    process: &mut Process,
    hub: &mut Hub,
    request: &ClientRequest,
    deadline: Millis,
) -> Result<bool, Violation> {
    let is_aside = match request.op {
        Op::Get(_) => true,
        Op::Scan(_) => hub.scenario.cost.scans_aside,
        Op::Write(_) => false,
    };
    if process.failed.is_some() || !is_aside {
        return Ok(false);
    }
    let id = process.next_request;
    let ClientRequest { region, epoch, op, .. } = request.clone();
    let read = Request { id, region, epoch, deadline, op };
    let now = process.clock.millis(hub.now());
    let Some(reading) = process.worker.permits().begin(&read, now) else { return Ok(false) };
    process.next_request = RequestId(id.0 + 1);
    hub.checks.note_request(process.id, &read);
    let stage = Stage { reading, read, request: request.clone(), checked: None };
    process.readings.under_way.insert(id, stage);
    if hub.scenario.cost.reading_max == 0 {
        read_state(process, hub, id)?;
        finish(process, hub, id)?;
    } else {
        plan(process, hub, id, 0);
    }
    Ok(true)
}

/// The next step of the read `id` is due.
pub fn go_on(process: &mut Process, hub: &mut Hub, id: RequestId) -> Verdict {
    let Some(stage) = process.readings.under_way.get(&id) else { return Ok(()) };
    if stage.checked.is_some() {
        return finish(process, hub, id);
    }
    let cost = read_state(process, hub, id)?;
    plan(process, hub, id, cost);
    Ok(())
}

fn plan(process: &Process, hub: &mut Hub, id: RequestId, cost: Micros) {
    let most = hub.scenario.cost.reading_max;
    let dice = &mut hub.dice.processes;
    let most = if dice.chance(SLOW) { most } else { most.min(USUAL_MAX) };
    let delay = cost + dice.between(0, most + 1);
    let (store, life) = (process.id, process.life);
    hub.agenda.after(delay, Event::PermitRead { store, life, id });
}

/// Reads the state, and asks the checkers. Returns what the reading costs.
fn read_state(process: &mut Process, hub: &mut Hub, id: RequestId) -> Result<Micros, Violation> {
    let Some(stage) = process.readings.under_way.get_mut(&id) else { return Ok(0) };
    process.worker.permits().read(&mut stage.reading, &stage.read);
    let Some(result) = stage.reading.answer() else {
        stage.checked = Some(Ok(()));
        return Ok(0);
    };
    let cost = result
        .as_ref()
        .map_or(0, |answer| cost::of_answer(&hub.scenario.cost, &mut hub.dice.disks, answer));
    let answer = [Output::Reply { id, result: result.clone() }];
    let store = process.id;
    let checked = hub.checks.note_answers(store, &process.worker, &answer, Some(id));
    let peer = process.worker.peer(stage.read.region);
    let is_there = lease::under_permit(store, &stage.read, peer);
    stage.checked = Some(checked.and(is_there));
    Ok(cost)
}

fn finish(process: &mut Process, hub: &mut Hub, id: RequestId) -> Verdict {
    let Some(stage) = process.readings.under_way.remove(&id) else { return Ok(()) };
    let Stage { reading, read, request, checked } = stage;
    let now = process.clock.millis(hub.now());
    if let Some(result) = reading.finish(now) {
        hub.coverage.hit("reads under a permit");
        if matches!(read.op, Op::Scan(_)) {
            hub.coverage.hit("chunks of scans under a permit");
        }
        checked.unwrap_or(Ok(()))?;
        hub.checks.replies.taken_up(process.id, id, read.deadline);
        hub.checks.load.answered(process.id, id, &result);
        process.answer_to(id, request.attempt);
        return process.reply(hub, id, result);
    }
    hub.coverage.hit("reads whose permit was taken back between the two looks");
    process.put(hub, Mail::Request(Box::new(request), read.deadline));
    Ok(())
}
