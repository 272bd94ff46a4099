//! What clients ask for: a mix of calls on a small set of keys, each value written once only.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_client::core::item::Item;
use flotilla_types::dice::Dice;
use flotilla_types::keys::{DEFAULT_KEYSPACE, stored_key};
use flotilla_types::{CompareAndSwap, KeyRange, Mutation, Op, WriteOp};

use crate::history::{Outcome, Record};
use crate::scenario::{ClientScenario, Scenario};

/// Keys that get more than their share of calls: a stale value shows only where many look.
const HOT_KEYS: u64 = 4;

/// The rolls, of a hundred, that ask for a swap.
const SWAPS: std::ops::Range<u64> = 82..95;

/// The most keys of a usual batch.
const BATCH_USUAL: u64 = 5;

/// Batches in a thousand that may be as wide as the seed allows, in seeds with wide batches.
const WIDE_BATCHES: u64 = 200;

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
    /// Without values.
    pub keys_only: bool,
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
    /// How many keys of its share the client has written, in seeds with a focus.
    loaded: u64,
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
            | Outcome::Found
            | Outcome::Written
            | Outcome::Swapped { .. } => None,
        };
    }

    /// Chooses the next call.
    pub fn choose(&mut self, scenario: &Scenario, dice: &mut Dice, client: u32) -> Work {
        let (clients, habits) = (&scenario.clients, &scenario.habits);
        if clients.focus > 0 {
            return self.choose_focused(scenario, dice, client);
        }
        let keys = clients.keys;
        let timeout_ms = dice.between(1_000, 8_000);
        let roll = dice.between(0, 100);
        let may_repeat = dice.between(0, 100) < clients.repeats_percent;
        let must_succeed = false;
        let call = |items| Work::Call(CallWork { items, timeout_ms, may_repeat, must_succeed });
        let hot_percent = clients.hot_percent;
        let any = move |dice: &mut Dice| {
            let is_hot = dice.between(0, 100) < hot_percent;
            let count = if is_hot { HOT_KEYS } else { u64::from(keys) };
            dice.between(0, count) as u16
        };
        match roll {
            0..30 => call(vec![Item::Get(stored(any(dice)))]),
            30..36 => call(batch(dice, scenario, &any).into_iter().map(Item::Get).collect()),
            36..68 => call(vec![put(stored(any(dice)), self.fresh(client, scenario))]),
            68..74 => {
                let put = |key| put(key, self.fresh(client, scenario));
                call(batch(dice, scenario, &any).into_iter().map(put).collect())
            }
            74..80 => call(vec![Item::Mutate(Mutation::Delete { key: stored(any(dice)) })]),
            80..82 => {
                let first = any(dice);
                let range = deleted(dice, first, keys, habits.whole_deletes);
                call(vec![Item::Mutate(Mutation::DeleteRange(range))])
            }
            roll if SWAPS.contains(&roll) => {
                let key = any(dice);
                call(vec![self.swap(dice, client, key, scenario)])
            }
            _ => Work::Scan(scan(dice, keys, timeout_ms)),
        }
    }

    /// Writes the client's share of all keys once, then reads and writes a few keys.
    fn choose_focused(&mut self, scenario: &Scenario, dice: &mut Dice, client: u32) -> Work {
        let ClientScenario { count, keys, focus, .. } = scenario.clients;
        let timeout_ms = dice.between(1_000, 8_000);
        let unwritten = u64::from(client) + self.loaded * u64::from(count);
        let (key, writes) = if unwritten < u64::from(keys) {
            self.loaded += 1;
            (unwritten, true)
        } else {
            let of_focus = dice.between(0, u64::from(focus));
            (of_focus * u64::from(keys) / u64::from(focus), dice.chance(400))
        };
        let key = stored(key as u16);
        let item = if writes { put(key, self.fresh(client, scenario)) } else { Item::Get(key) };
        let (may_repeat, must_succeed) = (false, false);
        Work::Call(CallWork { items: vec![item], timeout_ms, may_repeat, must_succeed })
    }

    fn fresh(&mut self, client: u32, scenario: &Scenario) -> Bytes {
        self.values += 1;
        written((u64::from(client) << 32) + self.values, scenario)
    }

    fn swap(&mut self, dice: &mut Dice, client: u32, key: u16, scenario: &Scenario) -> Item {
        let seen = self.seen.get(&key).copied().flatten();
        let expected = seen.filter(|_| dice.chance(900)).map(|number| written(number, scenario));
        let new = (!dice.chance(100)).then(|| self.fresh(client, scenario));
        let swap = CompareAndSwap { key: stored(key), expected, new };
        Item::Whole(Op::Write(WriteOp::CompareAndSwap(swap)))
    }
}

/// The bytes of the value that a number names, whoever wrote it.
fn written(number: u64, scenario: &Scenario) -> Bytes {
    value(number, scenario.habits.value_bytes(number, scenario.clients.value_bytes))
}

fn scan(dice: &mut Dice, keys: u16, timeout_ms: u64) -> ScanWork {
    let bound = |dice: &mut Dice| dice.between(0, u64::from(keys) + 1) as u16;
    let (a, b) = (bound(dice), bound(dice));
    let range = KeyRange::new(stored(a.min(b)), stored(a.max(b)));
    let limit = if dice.chance(300) { dice.between(1, 10) } else { 0 };
    let is_reverse = dice.chance(400);
    let keys_only = dice.chance(200);
    ScanWork { range, limit, is_reverse, keys_only, timeout_ms }
}

/// The range of a delete that begins at `first`: a few keys, any number of keys, or all of the key
/// space `whole` times in a thousand.
fn deleted(dice: &mut Dice, first: u16, keys: u16, whole: u64) -> KeyRange {
    let roll = dice.between(0, 1_000);
    if roll < whole {
        let end = stored_key(DEFAULT_KEYSPACE + 1, b"");
        return KeyRange::new(stored_key(DEFAULT_KEYSPACE, b""), end);
    }
    let most = if roll < 700 { 5 } else { u64::from(keys) };
    let last = u64::from(first) + 1 + dice.between(0, most);
    KeyRange::new(stored(first), stored(last.min(u64::from(keys)) as u16))
}

/// The keys of a batch: a few, or some multiple of what a region holds.
fn batch(dice: &mut Dice, scenario: &Scenario, any: &dyn Fn(&mut Dice) -> u16) -> Vec<Bytes> {
    let most = scenario.habits.batch_max;
    if most > BATCH_USUAL && dice.chance(WIDE_BATCHES) {
        let keys = u64::from(scenario.clients.keys);
        let wanted = dice.between_inclusive(2, most);
        return distinct(dice, wanted, &|dice| dice.between(0, keys) as u16);
    }
    let wanted = dice.between_inclusive(2, BATCH_USUAL);
    distinct(dice, wanted, any)
}

fn distinct(dice: &mut Dice, wanted: u64, any: &dyn Fn(&mut Dice) -> u16) -> Vec<Bytes> {
    let mut keys: Vec<u16> = (0..wanted).map(|_| any(dice)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(stored).collect()
}
