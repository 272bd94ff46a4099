//! What a step of a store's core costs, in true time, by the prices of the seed
//! ([`crate::scenario::CostScenario`]).
//!
//! A step happens in no time; its cost is owed by the thread ([`Debt`]). What a turn puts out
//! leaves after what the turn owes by then, and the next turn begins after what the last one owes.
//! A turn that owes much while it still takes mails waits, so that the rest of the world goes on
//! meanwhile.
//!
//! Prices are rough: rows that a scan skips and work for regions without any output are free.

use flotilla_host::core::message::Body;
use flotilla_store::core::{Answer, Input, Op, Output};
use flotilla_types::dice::Dice;

use crate::scenario::CostScenario;
use crate::time::Micros;

/// Costs below this are shorter than any delay of the network, so they hardly change the order of
/// messages. A turn that owes less takes mails without a pause, and its messages leave at once.
const QUANTUM: Micros = 100;

/// What a thread owes for what it did at the present moment, and until when it is at work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debt {
    owed: Micros,
    busy_until: Micros,
}

impl Debt {
    /// Adds the cost of a step.
    pub fn add(&mut self, cost: Micros) {
        self.owed += cost;
    }

    /// What is owed since the present moment: what leaves now leaves so much later.
    pub fn owed(&self) -> Micros {
        self.owed
    }

    /// True if a turn has to wait before it takes another mail, and a message before it leaves.
    pub fn is_large(&self) -> bool {
        self.owed >= QUANTUM
    }

    /// The thread does nothing more at `now`. Returns when it is done with what it did.
    pub fn settle(&mut self, now: Micros) -> Micros {
        self.busy_until = self.busy_until.max(now) + std::mem::take(&mut self.owed);
        self.busy_until
    }

    /// Until when the thread is at work.
    pub fn busy_until(&self) -> Micros {
        self.busy_until
    }
}

/// The cost of taking an input.
pub fn of_input(prices: &CostScenario, input: &Input) -> Micros {
    match input {
        Input::Envelope(envelope) | Input::SnapshotStaged { envelope, .. } => {
            let entries = match &envelope.body {
                Body::Message(message) => message.entries.len() as Micros,
                Body::Removed | Body::Quiesce { .. } | Body::Beat(_) | Body::Introduction(_) => 0,
            };
            prices.message + entries * prices.row
        }
        Input::Request(request) => match request.op {
            Op::Write(_) => prices.proposal,
            Op::Get(_) | Op::Scan(_) => prices.message,
        },
        _ => prices.message,
    }
}

/// The cost of making outputs.
pub fn of_outputs(prices: &CostScenario, dice: &mut Dice, outputs: &[Output]) -> Micros {
    outputs.iter().map(|output| of_output(prices, dice, output)).sum()
}

fn of_output(prices: &CostScenario, dice: &mut Dice, output: &Output) -> Micros {
    match output {
        Output::Send { .. } => prices.message,
        Output::Append(append) => prices.message * append.then.len() as Micros,
        Output::Reply { result: Ok(answer), .. } => {
            prices.message + of_answer(prices, dice, answer)
        }
        _ => 0,
    }
}

/// The cost of reading an answer's rows.
pub fn of_answer(prices: &CostScenario, dice: &mut Dice, answer: &Answer) -> Micros {
    let rows = match answer {
        Answer::Get(values) => values.len() as Micros,
        Answer::Scan { pairs, .. } => pairs.len() as Micros + 1,
        Answer::Written | Answer::Swapped { .. } => 0,
    };
    let mut cost = rows * prices.row;
    if prices.cold > 0 {
        for _ in 0..rows {
            cost += if dice.chance(prices.cold) { dice.between(0, prices.cold_max) } else { 0 };
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_at_work_until_it_has_paid() {
        let mut debt = Debt::default();
        debt.add(60);
        assert!(!debt.is_large());
        debt.add(60);
        assert!(debt.is_large());
        assert_eq!(debt.settle(1_000), 1_120);
        assert_eq!((debt.owed(), debt.busy_until()), (0, 1_120));
        debt.add(5);
        assert_eq!(debt.settle(1_050), 1_125, "work is done one after another");
    }

    #[test]
    fn rows_cost_more_if_only_the_disk_has_them() {
        let answer = Answer::Get(vec![None; 100]);
        let warm = CostScenario { row: 1, ..CostScenario::default() };
        let cold = CostScenario { cold: 500, cold_max: 1_000, ..warm.clone() };
        let dice = &mut Dice::new(1);
        assert_eq!(of_answer(&warm, dice, &answer), 100);
        assert!(of_answer(&cold, dice, &answer) > 10_000);
        assert_eq!(of_answer(&CostScenario::default(), dice, &answer), 0);
    }
}
