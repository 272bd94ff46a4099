//! The clients' requests: the mixes of operations, and each client's endless stream.
//!
//! Values are random bytes, so that compression gains nothing. Each is a slice of one block that
//! all clients share, so that making a value costs nothing.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flotilla_types::dice::Dice;

use crate::keys::{Chooser, Distribution, key};

/// Bytes of the block that values are cut from. So long that neighbouring values differ.
const BLOCK_BYTES_MIN: usize = 1 << 20;

/// The operations of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Overwrites of existing keys.
    Put,
    /// Reads of existing keys.
    Get,
    /// Short scans from an existing key on.
    Scan,
    /// Half reads, half updates.
    YcsbA,
    /// 95 % reads, 5 % updates.
    YcsbB,
    /// Reads.
    YcsbC,
    /// 95 % reads of the latest keys, 5 % inserts.
    YcsbD,
    /// 95 % short scans, 5 % inserts.
    YcsbE,
    /// Half reads, half read-modify-writes.
    YcsbF,
}

impl Op {
    /// All, in the order of their names.
    pub const ALL: [Op; 9] = [
        Op::Put,
        Op::Get,
        Op::Scan,
        Op::YcsbA,
        Op::YcsbB,
        Op::YcsbC,
        Op::YcsbD,
        Op::YcsbE,
        Op::YcsbF,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get",
            Op::Scan => "scan",
            Op::YcsbA => "ycsb-a",
            Op::YcsbB => "ycsb-b",
            Op::YcsbC => "ycsb-c",
            Op::YcsbD => "ycsb-d",
            Op::YcsbE => "ycsb-e",
            Op::YcsbF => "ycsb-f",
        }
    }

    /// The percentages of the kinds of requests.
    pub fn mix(self) -> Mix {
        let (read, update, insert, scan, swap) = match self {
            Op::Put => (0, 100, 0, 0, 0),
            Op::Get | Op::YcsbC => (100, 0, 0, 0, 0),
            Op::Scan => (0, 0, 0, 100, 0),
            Op::YcsbA => (50, 50, 0, 0, 0),
            Op::YcsbB => (95, 5, 0, 0, 0),
            Op::YcsbD => (95, 0, 5, 0, 0),
            Op::YcsbE => (0, 0, 5, 95, 0),
            Op::YcsbF => (50, 0, 0, 0, 50),
        };
        Mix { read, update, insert, scan, swap }
    }

    /// The default distribution: YCSB's for its workloads, else uniform.
    pub fn distribution(self) -> Distribution {
        match self {
            Op::Put | Op::Get | Op::Scan => Distribution::Uniform,
            Op::YcsbA | Op::YcsbB | Op::YcsbC | Op::YcsbE | Op::YcsbF => Distribution::Zipfian,
            Op::YcsbD => Distribution::Latest,
        }
    }

    /// True if the length of each scan is rolled, as in YCSB E.
    fn rolls_scan_rows(self) -> bool {
        self == Op::YcsbE
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(name: &str) -> Result<Op, String> {
        Op::ALL.into_iter().find(|op| op.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Op::ALL.iter().map(|op| op.name()).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// Percentages of the kinds of requests; they sum to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Reads of one key.
    pub read: u64,
    /// Overwrites of one key.
    pub update: u64,
    /// Puts of a new key.
    pub insert: u64,
    /// Scans.
    pub scan: u64,
    /// A read, and a compare-and-swap from the value read.
    pub swap: u64,
}

/// One request, in the terms that every system under test has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A linearizable read.
    Get(Bytes),
    /// A durable write of an existing key, or of a new one.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// True for a key that no earlier request has put.
        new: bool,
    },
    /// Rows in key order.
    Scan {
        /// The first key.
        start: Bytes,
        /// How many rows at most.
        rows: u64,
    },
    /// Read the key, then set it to `value` unless another client has set it in between.
    Swap {
        /// The key.
        key: Bytes,
        /// The new value.
        value: Bytes,
    },
}

/// The keys and values that all clients of one run share.
#[derive(Debug)]
pub struct Space {
    keys: u64,
    block: Bytes,
    value_bytes: usize,
    inserts_begun: AtomicU64,
    inserts_done: AtomicU64,
}

impl Space {
    /// `keys` keys exist, at least 1; values have `value_bytes` bytes.
    pub fn new(keys: u64, value_bytes: usize, seed: u64) -> Space {
        let mut dice = Dice::of_lane(seed, u64::MAX);
        let words = (BLOCK_BYTES_MIN.max(2 * value_bytes)).div_ceil(8);
        let block: Vec<u8> = (0..words).flat_map(|_| dice.roll().to_le_bytes()).collect();
        Space {
            keys,
            block: block.into(),
            value_bytes,
            inserts_begun: AtomicU64::new(0),
            inserts_done: AtomicU64::new(0),
        }
    }

    /// A random value.
    pub fn value(&self, dice: &mut Dice) -> Bytes {
        let room = self.block.len() - self.value_bytes;
        let start = dice.below(room as u64 + 1) as usize;
        self.block.slice(start..start + self.value_bytes)
    }

    /// Notes that an insert was acknowledged: its key may be chosen from now on. While inserts are
    /// under way, a key may be chosen before its own insert is done; such a read finds no value.
    pub fn inserted(&self) {
        self.inserts_done.fetch_add(1, Ordering::Relaxed);
    }

    fn existing(&self) -> u64 {
        self.keys + self.inserts_done.load(Ordering::Relaxed)
    }

    fn new_key(&self) -> Bytes {
        key(self.keys + self.inserts_begun.fetch_add(1, Ordering::Relaxed))
    }
}

/// One client's requests.
#[derive(Debug)]
pub struct Stream {
    op: Op,
    scan_rows: u64,
    space: Arc<Space>,
    chooser: Chooser,
    dice: Dice,
}

impl Stream {
    /// The requests of a client whose dice these are.
    pub fn new(op: Op, scan_rows: u64, space: Arc<Space>, chooser: Chooser, dice: Dice) -> Stream {
        Stream { op, scan_rows, space, chooser, dice }
    }

    /// The next request.
    pub fn request(&mut self) -> Request {
        let mix = self.op.mix();
        let mut roll = self.dice.below(100);
        let mut within = |percent: u64| {
            let hit = roll < percent;
            roll = roll.saturating_sub(percent);
            hit
        };
        if within(mix.read) {
            Request::Get(self.existing_key())
        } else if within(mix.update) {
            let key = self.existing_key();
            Request::Put { key, value: self.space.value(&mut self.dice), new: false }
        } else if within(mix.insert) {
            let key = self.space.new_key();
            Request::Put { key, value: self.space.value(&mut self.dice), new: true }
        } else if within(mix.scan) {
            Request::Scan { start: self.existing_key(), rows: self.rows() }
        } else {
            let key = self.existing_key();
            Request::Swap { key, value: self.space.value(&mut self.dice) }
        }
    }

    fn existing_key(&mut self) -> Bytes {
        key(self.chooser.choose(&mut self.dice, self.space.existing()))
    }

    fn rows(&mut self) -> u64 {
        if self.op.rolls_scan_rows() { 1 + self.dice.below(self.scan_rows) } else { self.scan_rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(op: Op, count: usize) -> Vec<Request> {
        let space = Arc::new(Space::new(1000, 100, 1));
        let chooser = Chooser::new(op.distribution(), 1000);
        let mut stream = Stream::new(op, 50, space, chooser, Dice::of_lane(1, 0));
        (0..count).map(|_| stream.request()).collect()
    }

    #[test]
    fn every_mix_sums_to_a_hundred_and_every_name_leads_back() {
        for op in Op::ALL {
            let Mix { read, update, insert, scan, swap } = op.mix();
            assert_eq!(read + update + insert + scan + swap, 100, "{}", op.name());
            assert_eq!(op.name().parse(), Ok(op));
        }
        assert!("ycsb-g".parse::<Op>().is_err());
    }

    #[test]
    fn requests_come_as_often_as_the_mix_says() {
        for op in Op::ALL {
            let mix = op.mix();
            let mut seen = [0_u64; 5];
            for request in requests(op, 10_000) {
                let kind = match request {
                    Request::Get(_) => 0,
                    Request::Put { new: false, .. } => 1,
                    Request::Put { new: true, .. } => 2,
                    Request::Scan { .. } => 3,
                    Request::Swap { .. } => 4,
                };
                seen[kind] += 1;
            }
            let wanted = [mix.read, mix.update, mix.insert, mix.scan, mix.swap];
            for (count, percent) in seen.into_iter().zip(wanted) {
                assert!(count.abs_diff(percent * 100) < 200, "{}: {seen:?}", op.name());
                assert!(percent != 0 || count == 0, "{}: {seen:?}", op.name());
            }
        }
    }

    #[test]
    fn inserted_keys_are_new_and_scans_are_short() {
        let all = requests(Op::YcsbE, 2_000);
        let mut new = Vec::new();
        for request in &all {
            match request {
                Request::Put { key, new: true, value } => {
                    assert_eq!(value.len(), 100);
                    new.push(key.clone());
                }
                Request::Scan { rows, .. } => assert!((1..=50).contains(rows)),
                other => panic!("not in the mix: {other:?}"),
            }
        }
        assert_eq!(new.first(), Some(&key(1000)));
        assert!(new.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
