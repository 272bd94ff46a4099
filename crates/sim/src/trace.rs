//! The trace of a run as one number: two runs of one seed must give the same number.
//!
//! With `--trace` the trace is printed in words, too; the words do not enter the number.

use flotilla_types::dice::mix;

use crate::time::Micros;

/// A hash of bytes (FNV-1a, mixed).
pub fn digest(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Where the words of a trace go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// The words are not made.
    #[default]
    Nowhere,
    /// To standard output.
    Output,
    /// To standard error, because standard output carries JSON for a script.
    Errors,
}

/// The trace of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    told: Told,
}

impl Trace {
    /// An empty trace whose words go where `told` says.
    pub fn new(told: Told) -> Trace {
        Trace { hash: 0, told }
    }

    /// Adds numbers that identify what happened.
    pub fn add(&mut self, parts: &[u64]) {
        for part in parts {
            self.hash = mix(self.hash.rotate_left(5) ^ *part);
        }
    }

    /// Prints a line, if the trace is told in words.
    pub fn say(&self, now: Micros, line: impl FnOnce() -> String) {
        let (ms, us) = (now / 1_000, now % 1_000);
        match self.told {
            Told::Nowhere => {}
            Told::Output => println!("{ms:>10}.{us:03} {}", line()),
            Told::Errors => eprintln!("{ms:>10}.{us:03} {}", line()),
        }
    }

    /// The hash of all numbers so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
