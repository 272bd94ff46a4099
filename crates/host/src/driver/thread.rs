//! The thread that owns a core and its log: drains the inbox, ticks, and ends each turn.
//!
//! A turn takes the mails that are there, up to about [`TURN_INPUTS_MAX`] inputs, ticks if a tick
//! is due, and ends. A late tick is not made up for: leases count on ticks not coming too fast.
//!
//! Not here: what a mail means and what a core puts out; see [`crate::core::carry_out`].

use std::time::{Duration, Instant};

use crate::core::carry_out::TURN_INPUTS_MAX;

use super::inbox::{InboxReceiver, Received};

/// A core and what it needs, as its thread runs them.
pub trait CoreThread: Sized {
    /// What reaches the thread.
    type Mail;

    /// Steps what a mail brings; answers how many inputs that were.
    fn step_mail(&mut self, mail: Self::Mail) -> usize;

    /// A tick of time has passed.
    fn tick(&mut self);

    /// Ends the turn, and the turns that follow from what it made durable.
    fn end_turn(&mut self);

    /// True if the thread was asked to stop, or the core cannot go on.
    fn is_over(&self) -> bool;

    /// The last thing that the thread does, in whatever way it ends.
    fn end(self);

    /// Runs until the thread is over, or nobody can reach it any more. Ticks come every `tick`.
    fn run(mut self, inbox: &InboxReceiver<Self::Mail>, tick: Duration) {
        let mut ticked = Instant::now();
        self.end_turn();
        while !self.is_over() {
            match inbox.wait(tick.saturating_sub(ticked.elapsed())) {
                Received::Mail(mail) => self.drain(mail, inbox),
                Received::Nothing => {}
                Received::Closed => break,
            }
            if ticked.elapsed() >= tick {
                ticked = Instant::now();
                self.tick();
            }
            self.end_turn();
        }
        self.end();
    }

    /// Steps the mails that are there, as far as they fit one turn.
    fn drain(&mut self, first: Self::Mail, inbox: &InboxReceiver<Self::Mail>) {
        let mut inputs = self.step_mail(first);
        while inputs < TURN_INPUTS_MAX
            && let Some(mail) = inbox.take()
        {
            inputs += self.step_mail(mail);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::super::inbox::{InboxLimits, inbox};
    use super::*;

    /// Tells what happens to it. A mail is a number of inputs; zero stops the thread.
    struct Teller {
        lines: Sender<&'static str>,
        is_over: bool,
    }

    impl Teller {
        fn tell(&self, line: &'static str) {
            self.lines.send(line).expect("the test listens");
        }
    }

    impl CoreThread for Teller {
        type Mail = usize;

        fn step_mail(&mut self, inputs: usize) -> usize {
            self.is_over |= inputs == 0;
            self.tell("mail");
            inputs
        }

        fn tick(&mut self) {
            self.tell("tick");
        }

        fn end_turn(&mut self) {
            self.tell("end of turn");
        }

        fn is_over(&self) -> bool {
            self.is_over
        }

        fn end(self) {
            self.tell("end");
        }
    }

    fn run(mails: &[usize], tick: Duration) -> Vec<&'static str> {
        let (inbox, receiver) = inbox(InboxLimits { mails_max: 16, bytes_max: 16 });
        let (lines, told) = channel();
        mails.iter().for_each(|inputs| inbox.report(*inputs));
        drop(inbox);
        Teller { lines, is_over: false }.run(&receiver, tick);
        told.into_iter().collect()
    }

    #[test]
    fn a_turn_takes_the_mails_that_are_there_and_fit_it() {
        let lines = run(&[1, TURN_INPUTS_MAX, 1, 0], Duration::MAX);
        let expected =
            ["end of turn", "mail", "mail", "end of turn", "mail", "mail", "end of turn", "end"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_thread_that_nobody_can_reach_ends() {
        assert_eq!(run(&[], Duration::MAX), ["end of turn", "end"]);
    }

    #[test]
    fn a_due_tick_comes_before_the_end_of_the_turn() {
        let lines = run(&[0], Duration::ZERO);
        assert_eq!(lines, ["end of turn", "mail", "tick", "end of turn", "end"]);
    }
}
