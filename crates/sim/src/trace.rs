//! What happened, as one number: two runs of one seed must give the same.
//!
//! With `--trace` it is told in words, too.

use flotilla_types::dice::mix;

use crate::time::Micros;

/// A number that stands for bytes (FNV-1a, mixed).
pub fn digest(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Where the words go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Nobody reads them.
    #[default]
    Nowhere,
    /// To standard output.
    Output,
    /// To standard error, for standard output is a script's.
    Errors,
}

/// The trace of a run.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    hash: u64,
    told: Told,
}

impl Trace {
    /// A trace that is told line by line.
    pub fn new(told: Told) -> Trace {
        Trace { hash: 0, told }
    }

    /// Adds numbers that tell what happened.
    pub fn add(&mut self, parts: &[u64]) {
        for part in parts {
            self.hash = mix(self.hash.rotate_left(5) ^ *part);
        }
    }

    /// Adds a line for people.
    pub fn say(&self, now: Micros, line: impl FnOnce() -> String) {
        let (ms, us) = (now / 1_000, now % 1_000);
        match self.told {
            Told::Nowhere => {}
            Told::Output => println!("{ms:>10}.{us:03} {}", line()),
            Told::Errors => eprintln!("{ms:>10}.{us:03} {}", line()),
        }
    }

    /// The number.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
