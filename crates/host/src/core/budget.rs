//! A budget of bytes: what may be held at once of one kind of thing, counted where it is held.
//!
//! In: how much is held. Out: a [`Held`] that gives it back when it is dropped, so that no way out
//! can forget to. Any thread may ask and take.
//!
//! What is weighed only after it was made (an answer that was read) is taken whatever is left, and
//! the next one finds no room: a budget is exceeded by at most one such thing for each thread.
//!
//! Not here: what whoever finds no room does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module's documentation.
#[derive(Debug)]
pub struct ByteBudget {
    bytes_max: usize,
    held: AtomicUsize,
}

impl ByteBudget {
    /// A budget of which nothing is held.
    pub fn new(bytes_max: usize) -> Arc<ByteBudget> {
        Arc::new(ByteBudget { bytes_max, held: AtomicUsize::new(0) })
    }

    /// The most bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// True while less is held than may be.
    pub fn has_room(&self) -> bool {
        self.held() < self.bytes_max
    }

    /// Holds so many bytes, whatever is left.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Held { budget: self.clone(), bytes }
    }

    /// Holds so many bytes if they fit, or if nothing is held.
    pub fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let fits = |held| (held == 0 || held + bytes <= self.bytes_max).then_some(held + bytes);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Held { budget: self.clone(), bytes })
    }
}

/// Bytes of a budget that somebody holds.
#[derive(Debug)]
pub struct Held {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl Held {
    /// How many.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds so many more, whatever is left.
    pub fn grow(&mut self, bytes: usize) {
        self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let budget = ByteBudget::new(100);
        let mut first = budget.take(60);
        assert!(budget.has_room());
        assert!(budget.try_take(41).is_none());
        let second = budget.try_take(40);
        assert!(second.is_some() && !budget.has_room());
        first.grow(10);
        assert_eq!((first.bytes(), budget.held()), (70, 110));
        drop(second);
        assert!(budget.has_room());
        drop(first);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn one_thing_of_any_size_fits_an_empty_budget() {
        let budget = ByteBudget::new(100);
        let held = budget.try_take(101);
        assert!(held.is_some() && budget.try_take(1).is_none());
    }
}
