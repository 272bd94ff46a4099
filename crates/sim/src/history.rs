//! What clients asked for and what they were told, one record for each key of each call.

/// What was asked of a key. Values are the numbers that name them; None is an absent key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its value.
    Read,
    /// To have this value, or none.
    Write(Option<u64>),
    /// To have `new` if it has `expected`.
    Swap {
        /// The value expected.
        expected: Option<u64>,
        /// The value wanted.
        new: Option<u64>,
    },
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Open,
    /// That it had no effect and never will; of a read, nothing.
    Failed,
    /// That it may have had an effect, or may yet.
    Undetermined,
    /// The value.
    Read(Option<u64>),
    /// That it was written.
    Written,
    /// How the comparison ended.
    Swapped {
        /// True if the new value was set.
        swapped: bool,
        /// The value found.
        previous: Option<u64>,
    },
}

/// One key of one call. Stamps order all invocations and answers in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: u16,
    /// Who asked.
    pub client: u32,
    /// What was asked.
    pub kind: Kind,
    /// What was answered.
    pub outcome: Outcome,
    /// When it was asked.
    pub invoked: u64,
    /// When it was answered.
    pub returned: u64,
    /// Of a write: attempts that had an effect, may have had one, or may yet.
    pub attempts: u32,
}

/// All records, in the order in which they began.
#[derive(Debug, Default)]
pub struct History {
    /// The records.
    pub records: Vec<Record>,
}

impl History {
    /// A call begins; answers where its record is.
    pub fn begin(&mut self, client: u32, key: u16, kind: Kind, stamp: u64) -> usize {
        let (outcome, invoked, returned) = (Outcome::Open, stamp, u64::MAX);
        let attempts = 0;
        self.records.push(Record { key, client, kind, outcome, invoked, returned, attempts });
        self.records.len() - 1
    }

    /// A call has ended.
    pub fn end(&mut self, at: usize, outcome: Outcome, stamp: u64) {
        if let Some(record) = self.records.get_mut(at) {
            record.outcome = outcome;
            record.returned = stamp;
        }
    }

    /// A request that asks for it is sent.
    pub fn attempted(&mut self, at: usize) {
        if let Some(record) = self.records.get_mut(at) {
            record.attempts += 1;
        }
    }

    /// A request turned out to have no effect, and never will.
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
