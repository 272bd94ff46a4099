//! The history: what clients asked and what they were told, one record for each key of each call.
//! The checkers judge the history; nothing here does.

/// The request of a record. A value stands as the number that names it; None is an absent key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read the key's value.
    Read,
    /// Set the key to this value, or delete the key.
    Write(Option<u64>),
    /// Set the key to `new` if the key has the value `expected`.
    Swap {
        /// The value expected.
        expected: Option<u64>,
        /// The value wanted.
        new: Option<u64>,
    },
}

/// The outcome that the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call is under way.
    Open,
    /// A write that has no effect and never will have one; a read without an answer.
    Failed,
    /// A write that may have had an effect, or may have one later.
    Undetermined,
    /// The value that was read.
    Read(Option<u64>),
    /// The key had some value, of which the read did not ask.
    Found,
    /// The write took effect.
    Written,
    /// The swap compared, and found this.
    Swapped {
        /// True if the new value was set.
        swapped: bool,
        /// The value before the swap.
        previous: Option<u64>,
    },
}

/// One key of one call. Stamps order all invocations and answers in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: u16,
    /// The client.
    pub client: u32,
    /// The request.
    pub kind: Kind,
    /// The outcome.
    pub outcome: Outcome,
    /// The stamp at which the call began.
    pub invoked: u64,
    /// The stamp at which the call ended; `u64::MAX` while it is under way.
    pub returned: u64,
    /// For a write, the number of attempts that had, may have had or may still have an effect.
    pub attempts: u32,
}

/// All records, in the order in which they began.
#[derive(Debug, Default)]
pub struct History {
    /// The records.
    pub records: Vec<Record>,
}

impl History {
    /// Begins a call. Returns the place of the call's record.
    pub fn begin(&mut self, client: u32, key: u16, kind: Kind, stamp: u64) -> usize {
        let (outcome, invoked, returned) = (Outcome::Open, stamp, u64::MAX);
        let attempts = 0;
        self.records.push(Record { key, client, kind, outcome, invoked, returned, attempts });
        self.records.len() - 1
    }

    /// Ends a call.
    pub fn end(&mut self, at: usize, outcome: Outcome, stamp: u64) {
        if let Some(record) = self.records.get_mut(at) {
            record.outcome = outcome;
            record.returned = stamp;
        }
    }

    /// Counts an attempt: a request of the call is sent.
    pub fn attempted(&mut self, at: usize) {
        if let Some(record) = self.records.get_mut(at) {
            record.attempts += 1;
        }
    }

    /// Takes an attempt back: its request has no effect and never will have one.
    pub fn refused(&mut self, at: usize) {
        if let Some(record) = self.records.get_mut(at) {
            record.attempts = record.attempts.saturating_sub(1);
        }
    }

    /// The records of one key.
    pub fn of_key(&self, key: u16) -> Vec<Record> {
        self.records.iter().filter(|record| record.key == key).copied().collect()
    }
}
