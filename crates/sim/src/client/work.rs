//! What clients ask for: a mix of calls on a small set of keys, each value written once only.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_client::core::item::Item;
use flotilla_types::dice::Dice;
use flotilla_types::keys::{DEFAULT_KEYSPACE, stored_key};
use flotilla_types::{CompareAndSwap, KeyRange, Mutation, Op, WriteOp};

use crate::history::{Outcome, Record};
use crate::hub::Hub;

/// Keys that get more than their share of calls: a stale value shows only where many look.
const HOT_KEYS: u64 = 4;

/// The rolls, of a hundred, that ask for a swap.
const SWAPS: std::ops::Range<u64> = 82..95;

/// A point or batch call.
#[derive(Clone, Debug)]
pub struct CallWork {
    /// What is asked.
    pub items: Vec<Item>,
    /// The call's time limit.
    pub timeout_ms: u64,
    /// True if a write whose outcome is not known may be sent again.
    pub may_repeat: bool,
    /// True if it is an error that it does not succeed.
    pub must_succeed: bool,
}

/// A scan.
#[derive(Clone, Debug)]
pub struct ScanWork {
    /// Stored keys.
    pub range: KeyRange,
    /// Rows; 0 for no limit.
    pub limit: u64,
    /// From the end downwards.
    pub is_reverse: bool,
    /// The time limit.
    pub timeout_ms: u64,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub enum Work {
    /// A point or batch call.
    Call(CallWork),
    /// A scan.
    Scan(ScanWork),
}

/// What a client remembers of its work.
#[derive(Debug, Default)]
pub struct Worked {
    values: u64,
    seen: BTreeMap<u16, Option<u64>>,
}

/// The stored form of a key.
pub fn stored(key: u16) -> Bytes {
    stored_key(DEFAULT_KEYSPACE, format!("k{key:03}").as_bytes())
}

/// The key of a stored form.
pub fn key_of(stored: &Bytes) -> u16 {
    let digits = stored.get(5..).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(u16::MAX)
}

/// The bytes of the value that a number names.
pub fn value(number: u64, bytes: usize) -> Bytes {
    let mut value = BytesMut::with_capacity(8 + bytes);
    value.put_u64(number);
    value.put_bytes(b'v', bytes);
    value.freeze()
}

/// Sets a key.
pub fn put(key: Bytes, value: Bytes) -> Item {
    Item::Mutate(Mutation::Put { key, value })
}

/// A value for the liveness phase, which no client writes otherwise.
pub fn final_value(key: u16) -> u64 {
    (1 << 62) + u64::from(key)
}

impl Worked {
    /// Takes note of what a key was.
    pub fn saw(&mut self, record: &Record) {
        match record.outcome {
            Outcome::Read(value) => self.seen.insert(record.key, value),
            Outcome::Swapped { swapped: false, previous } => self.seen.insert(record.key, previous),
            Outcome::Open
            | Outcome::Failed
            | Outcome::Undetermined
            | Outcome::Written
            | Outcome::Swapped { .. } => None,
        };
    }

    /// Chooses the next call.
    pub fn choose(&mut self, hub: &mut Hub, client: u32) -> Work {
        let (keys, bytes) = (hub.scenario.clients.keys, hub.scenario.clients.value_bytes);
        let hot_percent = hub.scenario.clients.hot_percent;
        let timeout_ms = hub.dice.clients.between(1_000, 8_000);
        let repeats_percent = hub.scenario.clients.repeats_percent;
        let dice = &mut hub.dice.clients;
        let roll = dice.between(0, 100);
        let may_repeat = dice.between(0, 100) < repeats_percent;
        let must_succeed = false;
        let call = |items| Work::Call(CallWork { items, timeout_ms, may_repeat, must_succeed });
        let any = move |dice: &mut Dice| {
            let is_hot = dice.between(0, 100) < hot_percent;
            let count = if is_hot { HOT_KEYS } else { u64::from(keys) };
            dice.between(0, count) as u16
        };
        match roll {
            0..30 => call(vec![Item::Get(stored(any(dice)))]),
            30..36 => {
                let wanted = dice.between(2, 6);
                call(distinct(dice, wanted, &any).into_iter().map(Item::Get).collect())
            }
            36..68 => call(vec![put(stored(any(dice)), self.fresh(client, bytes))]),
            68..74 => {
                let wanted = dice.between(2, 6);
                let keys = distinct(dice, wanted, &any);
                let put = |key| put(key, self.fresh(client, bytes));
                call(keys.into_iter().map(put).collect())
            }
            74..80 => call(vec![Item::Mutate(Mutation::Delete { key: stored(any(dice)) })]),
            80..82 => {
                let first = any(dice);
                let last = (first + 1 + dice.between(0, 5) as u16).min(keys);
                let range = KeyRange::new(stored(first), stored(last));
                call(vec![Item::Mutate(Mutation::DeleteRange(range))])
            }
            roll if SWAPS.contains(&roll) => {
                let key = any(dice);
                call(vec![self.swap(dice, client, key, bytes)])
            }
            _ => self.scan(dice, keys, timeout_ms),
        }
    }

    fn fresh(&mut self, client: u32, bytes: usize) -> Bytes {
        self.values += 1;
        value((u64::from(client) << 32) + self.values, bytes)
    }

    fn swap(&mut self, dice: &mut Dice, client: u32, key: u16, bytes: usize) -> Item {
        let seen = self.seen.get(&key).copied().flatten();
        let expected = seen.filter(|_| dice.chance(900)).map(|number| value(number, bytes));
        let new = (!dice.chance(100)).then(|| self.fresh(client, bytes));
        let swap = CompareAndSwap { key: stored(key), expected, new };
        Item::Whole(Op::Write(WriteOp::CompareAndSwap(swap)))
    }

    fn scan(&mut self, dice: &mut Dice, keys: u16, timeout_ms: u64) -> Work {
        let bound = |dice: &mut Dice| dice.between(0, u64::from(keys) + 1) as u16;
        let (a, b) = (bound(dice), bound(dice));
        let range = KeyRange::new(stored(a.min(b)), stored(a.max(b)));
        let limit = if dice.chance(300) { dice.between(1, 10) } else { 0 };
        let is_reverse = dice.chance(400);
        Work::Scan(ScanWork { range, limit, is_reverse, timeout_ms })
    }
}

fn distinct(dice: &mut Dice, wanted: u64, any: &dyn Fn(&mut Dice) -> u16) -> Vec<Bytes> {
    let mut keys: Vec<u16> = (0..wanted).map(|_| any(dice)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(stored).collect()
}
