//! What a process waits for, and when that is said in its log.
//!
//! In: what is awaited now, in words, as often as it is looked at. Out: what is to be said, once
//! for each wait that lasts.

use flotilla_types::Millis;

/// What is awaited for this long is said: a start takes less.
const SAID_AFTER_MS: u64 = 3_000;

/// What is awaited, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    what: Option<String>,
    since: Millis,
    is_said: bool,
}

impl Awaited {
    /// Takes note of what is awaited now. Answers what is to be said: each wait once.
    pub fn note(&mut self, what: Option<String>, now: Millis) -> Option<String> {
        if self.what != what {
            *self = Awaited { what, since: now, is_said: false };
        }
        let is_due = !self.is_said && now.since(self.since) >= SAID_AFTER_MS;
        self.is_said |= is_due;
        self.what.clone().filter(|_| is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_lasts_is_said_once_and_another_one_again() {
        let mut awaited = Awaited::default();
        let mut note = |what: Option<&str>, now| awaited.note(what.map(String::from), Millis(now));
        assert_eq!(note(Some("a store"), 1_000), None);
        assert_eq!(note(Some("a store"), 3_999), None);
        assert_eq!(note(Some("a store"), 4_000).as_deref(), Some("a store"));
        assert_eq!(note(Some("a store"), 9_000), None);
        assert_eq!(note(None, 9_100), None);
        assert_eq!(note(None, 99_000), None);
        assert_eq!(note(Some("a store"), 99_100), None);
        assert_eq!(note(Some("a store"), 102_100).as_deref(), Some("a store"));
    }
}
