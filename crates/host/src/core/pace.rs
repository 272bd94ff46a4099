//! How a core's thread shares its time: which mails a turn takes, when a tick comes, when the turn
//! ends.
//!
//! A turn takes mails until one of these is true: nothing waits, [`TURN_INPUTS_MAX`] inputs were
//! stepped, or the turn has taken mails for [`TURN_US_MAX`]. Then comes the tick if it is due, and
//! the end of the turn. So a tick waits for [`TURN_US_MAX`], one mail and one end of a turn at
//! most, however many requests wait and whatever they cost.
//!
//! A tick that is due does not cut the turn short: what the members said meanwhile comes first. A
//! leader that ticked before it took their answers, turn after turn, would take them for silent.
//!
//! Invariants:
//! 1. A turn takes at least one mail if one waits, so a thread that is always late still works.
//! 2. Two ticks are at least the tick's length apart: a late tick is not made up for, because
//!    leases count on ticks not coming too fast.
//!
//! The driver and the simulator run this code over clocks of their own. Simulated work takes no
//! time in which the simulator runs, so there a turn can be left in the middle and taken up later.
//!
//! Not here: what a mail means ([`CoreTurns`]), and the order of outputs ([`super::carry_out`]).

/// The most inputs of one turn, roughly: their outputs stay in memory until the turn ends.
pub const TURN_INPUTS_MAX: usize = 4 * 1024;

/// For how long a turn takes mails, in microseconds. What was proposed in a turn waits for its end,
/// so this bounds what waiting adds to a write; a turn of this length still shares one sync among
/// thousands of writes.
pub const TURN_US_MAX: u64 = 20_000;

/// A core's thread, as the pace sees it.
pub trait CoreTurns {
    /// The thread's clock, in microseconds. It never goes back.
    fn now_us(&self) -> u64;

    /// True if work that was begun is not done yet: the turn goes on later. Only where work takes
    /// simulated time.
    fn is_behind(&self) -> bool {
        false
    }

    /// Takes the next mail and steps what it brings. Returns the number of inputs, None if nothing
    /// waits.
    fn take_mail(&mut self) -> Option<usize>;

    /// Steps a tick.
    fn tick(&mut self);

    /// Ends the turn, and the turns that follow from what it made durable.
    fn end_turn(&mut self);
}

/// Why a turn takes no more mails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing waits.
    Drained,
    /// It has stepped enough inputs.
    Inputs,
    /// It has taken mails for long enough.
    Time,
}

/// A turn that takes mails.
#[derive(Clone, Copy, Debug)]
struct Gathering {
    begun_us: u64,
    inputs: usize,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Pace {
    tick_us: u64,
    ticked_us: u64,
    gathering: Option<Gathering>,
}

impl Pace {
    /// A pace whose first tick comes one tick, of `tick_us` microseconds, after `now_us`.
    pub fn begin(tick_us: u64, now_us: u64) -> Pace {
        Pace { tick_us, ticked_us: now_us, gathering: None }
    }

    /// When the next tick is due, by the thread's clock in microseconds.
    pub fn tick_due_us(&self) -> u64 {
        self.ticked_us.saturating_add(self.tick_us)
    }

    /// True in the middle of a turn.
    pub fn is_in_turn(&self) -> bool {
        self.gathering.is_some()
    }

    /// Takes a turn, or goes on with it. Returns why the turn ended; None if it goes on later,
    /// because the thread is behind.
    pub fn turn(&mut self, thread: &mut impl CoreTurns) -> Option<Cut> {
        let cut = self.gather(thread)?;
        self.gathering = None;
        let now_us = thread.now_us();
        if now_us >= self.tick_due_us() {
            self.ticked_us = now_us;
            thread.tick();
        }
        thread.end_turn();
        Some(cut)
    }

    fn gather(&mut self, thread: &mut impl CoreTurns) -> Option<Cut> {
        loop {
            if thread.is_behind() {
                return None;
            }
            let now_us = thread.now_us();
            let fresh = Gathering { begun_us: now_us, inputs: 0 };
            let gathering = *self.gathering.get_or_insert(fresh);
            if let Some(cut) = cut(gathering, now_us) {
                return Some(cut);
            }
            let Some(inputs) = thread.take_mail() else { return Some(Cut::Drained) };
            // A mail without an input counts, too: a turn takes a bounded number of mails.
            let inputs = gathering.inputs + inputs.max(1);
            self.gathering = Some(Gathering { inputs, ..gathering });
        }
    }
}

/// Why a turn that has come so far takes no more mails; None if it takes another.
fn cut(gathering: Gathering, now_us: u64) -> Option<Cut> {
    if gathering.inputs == 0 {
        return None;
    }
    if gathering.inputs >= TURN_INPUTS_MAX {
        return Some(Cut::Inputs);
    }
    (now_us.saturating_sub(gathering.begun_us) >= TURN_US_MAX).then_some(Cut::Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tick of 100 ms.
    const TICK_US: u64 = 100_000;

    /// A thread whose mails are (inputs, microseconds that they cost).
    #[derive(Default)]
    struct Script {
        now_us: u64,
        mails: Vec<(usize, u64)>,
        lines: Vec<String>,
        /// True if costs are paid only when the turn goes on.
        is_simulated: bool,
        owed_us: u64,
    }

    impl Script {
        fn new(mails: &[(usize, u64)]) -> Script {
            let mails = mails.iter().rev().copied().collect();
            Script { mails, ..Script::default() }
        }
    }

    impl CoreTurns for Script {
        fn now_us(&self) -> u64 {
            self.now_us
        }

        fn is_behind(&self) -> bool {
            self.owed_us > 0
        }

        fn take_mail(&mut self) -> Option<usize> {
            let (inputs, cost_us) = self.mails.pop()?;
            self.lines.push(format!("mail at {}", self.now_us));
            if self.is_simulated {
                self.owed_us = cost_us;
            } else {
                self.now_us += cost_us;
            }
            Some(inputs)
        }

        fn tick(&mut self) {
            self.lines.push(format!("tick at {}", self.now_us));
        }

        fn end_turn(&mut self) {
            self.lines.push(format!("end at {}", self.now_us));
        }
    }

    fn turn(script: &mut Script) -> Option<Cut> {
        Pace::begin(TICK_US, 0).turn(script)
    }

    #[test]
    fn a_turn_takes_what_waits_and_fits_it() {
        let mut script = Script::new(&[(1, 0), (TURN_INPUTS_MAX, 0), (1, 0)]);
        let mut pace = Pace::begin(TICK_US, 0);
        assert_eq!(pace.turn(&mut script), Some(Cut::Inputs));
        assert_eq!(script.mails.len(), 1);
        assert_eq!(pace.turn(&mut script), Some(Cut::Drained));
        assert_eq!(pace.turn(&mut script), Some(Cut::Drained), "with nothing to take");
        let ends = ["mail at 0", "mail at 0", "end at 0", "mail at 0", "end at 0", "end at 0"];
        assert_eq!(script.lines, ends);
    }

    #[test]
    fn a_turn_ends_when_it_has_taken_mails_for_long_enough() {
        let mut script = Script::new(&[(1, 15_000), (1, 4_999), (1, 1), (1, 1)]);
        assert_eq!(turn(&mut script), Some(Cut::Time));
        assert_eq!(script.mails.len(), 1);
        assert_eq!(script.lines.last().map(String::as_str), Some("end at 20000"));
    }

    #[test]
    fn a_due_tick_comes_after_the_mails_that_fit_the_turn_and_before_its_end() {
        let mut script = Script::new(&[(1, 5_000), (1, 5_000), (1, 15_000), (1, 1)]);
        script.now_us = 98_000;
        assert_eq!(turn(&mut script), Some(Cut::Time));
        let expected = [
            "mail at 98000",
            "mail at 103000",
            "mail at 108000",
            "tick at 123000",
            "end at 123000",
        ];
        assert_eq!(script.lines, expected);
        assert_eq!(script.mails.len(), 1);
    }

    #[test]
    fn a_thread_that_is_always_late_still_takes_what_fits_a_turn() {
        let mut script = Script::new(&[(1, 1_000); 50]);
        let mut pace = Pace::begin(TICK_US, 0);
        for _ in 0..2 {
            // The end of the last turn took longer than a tick.
            script.now_us += 2 * TICK_US;
            assert_eq!(pace.turn(&mut script), Some(Cut::Time));
        }
        assert_eq!(script.mails.len(), 10);
        assert_eq!(script.lines.iter().filter(|line| line.starts_with("tick")).count(), 2);
        let mut slow = Script::new(&[(1, TICK_US), (1, TICK_US)]);
        assert_eq!(turn(&mut slow), Some(Cut::Time));
        assert_eq!(slow.mails.len(), 1, "one mail, whatever it costs");
    }

    #[test]
    fn a_late_tick_is_not_made_up_for() {
        let mut script = Script { now_us: 350_000, ..Script::default() };
        let mut pace = Pace::begin(TICK_US, 0);
        pace.turn(&mut script);
        assert_eq!(pace.tick_due_us(), 450_000);
        script.now_us = 449_999;
        pace.turn(&mut script);
        assert_eq!(script.lines, ["tick at 350000", "end at 350000", "end at 449999"]);
    }

    #[test]
    fn a_turn_that_is_behind_goes_on_where_it_was_left() {
        let mut script = Script::new(&[(1, 8_000), (1, 13_000), (1, 1)]);
        script.is_simulated = true;
        let mut pace = Pace::begin(TICK_US, 0);
        for _ in 0..2 {
            assert_eq!(pace.turn(&mut script), None);
            assert!(pace.is_in_turn());
            script.now_us += std::mem::take(&mut script.owed_us);
        }
        assert_eq!(pace.turn(&mut script), Some(Cut::Time));
        assert!(!pace.is_in_turn());
        assert_eq!(script.lines, ["mail at 0", "mail at 8000", "end at 21000"]);
    }
}
