//! The thread that owns a core and its log: takes what waits in its inbox, ticks, and ends each
//! turn, at the pace of [`crate::core::pace`].
//!
//! Not here: what a mail means and what a core puts out; see [`crate::core::carry_out`].

use std::time::{Duration, Instant};

use crate::core::pace::{CoreTurns, Pace};

use super::inbox::{InboxReceiver, Waited};

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
    fn run(mut self, inbox: &mut InboxReceiver<Self::Mail>, tick: Duration) {
        let begun = Instant::now();
        let mut pace = Pace::begin(micros(tick), 0);
        self.end_turn();
        while !self.is_over() {
            let left_us = pace.tick_due_us().saturating_sub(micros(begun.elapsed()));
            if inbox.wait(Duration::from_micros(left_us)) == Waited::Closed {
                break;
            }
            pace.turn(&mut Running { thread: &mut self, inbox: &mut *inbox, begun });
        }
        self.end();
    }
}

/// A thread in one of its turns.
struct Running<'a, T: CoreThread> {
    thread: &'a mut T,
    inbox: &'a mut InboxReceiver<T::Mail>,
    begun: Instant,
}

impl<T: CoreThread> CoreTurns for Running<'_, T> {
    fn now_us(&self) -> u64 {
        micros(self.begun.elapsed())
    }

    fn take_mail(&mut self) -> Option<usize> {
        let mail = self.inbox.take()?;
        Some(self.thread.step_mail(mail))
    }

    fn tick(&mut self) {
        self.thread.tick();
    }

    fn end_turn(&mut self) {
        self.thread.end_turn();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
        let (inbox, mut receiver) = inbox(InboxLimits { mails_max: 16, bytes_max: 16 });
        let (lines, told) = channel();
        mails.iter().for_each(|inputs| inbox.report(*inputs));
        drop(inbox);
        Teller { lines, is_over: false }.run(&mut receiver, tick);
        told.into_iter().collect()
    }

    #[test]
    fn each_mail_is_stepped_and_each_turn_ended() {
        let lines = run(&[1, 1, 1, 0], Duration::MAX);
        // How many mails a turn takes depends on how fast this machine is.
        let mails = lines.iter().filter(|line| **line == "mail").count();
        assert_eq!(mails, 4);
        assert_eq!(lines.first(), Some(&"end of turn"));
        assert_eq!(lines.last_chunk(), Some(&["mail", "end of turn", "end"]));
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
