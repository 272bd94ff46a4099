//! The clients: each asks one thing after another, with a pause between, until the run is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flotilla_client::{Client, Error};
use flotilla_history::{Kind, Outcome};
use flotilla_types::dice::Dice;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::appends::{self, Appends};
use super::batches::{self, Torn};
use super::registers::{Registers, read_outcome, write_outcome};
use super::scans::{self, ROWS, Scans};
use super::set::{self, Sets};
use super::{End, Stamps, Tally, http};

/// Clients that use the HTTP API.
pub const HTTP_CLIENTS: u32 = 4;

/// How long a call of a client may take.
const CALL_MAX: Duration = Duration::from_secs(4);

/// How long the last reads may take, after which nothing is cut or down any more.
const LAST_CALL_MAX: Duration = Duration::from_secs(60);

/// The longest pause of a client between two calls.
const PAUSE_MS_MAX: u64 = 30;

/// All workloads.
pub struct Shared {
    /// Single keys.
    pub registers: Registers,
    /// Groups of keys.
    pub batches: Registers,
    /// Reads of groups that saw parts.
    pub torn: Torn,
    /// Elements.
    pub sets: Sets,
    /// Lists.
    pub appends: Appends,
    /// Rows.
    pub scans: Scans,
    /// The order of calls.
    pub stamps: Stamps,
    /// How calls ended.
    pub tally: Tally,
    /// Where stores serve the HTTP API.
    pub http_addrs: Vec<String>,
    is_over: AtomicBool,
    clients: u32,
}

impl Shared {
    /// Nothing was asked yet.
    pub fn new(clients: u32, http_addrs: Vec<String>) -> Shared {
        Shared {
            registers: Registers::new("register"),
            batches: Registers::new("batch"),
            torn: Torn::default(),
            sets: Sets::default(),
            appends: Appends::default(),
            scans: Scans::default(),
            stamps: Stamps::default(),
            tally: Tally::default(),
            http_addrs,
            is_over: AtomicBool::new(false),
            clients,
        }
    }

    /// Clients end after the call that they are in.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

/// Writes the rows that scans expect.
pub async fn prepare(shared: &Shared, client: &Client) -> Result<(), Error> {
    let rows: Vec<(u64, u64)> = (0..ROWS).map(|row| (row, shared.scans.begin_write(row))).collect();
    client.batch_put(rows.iter().map(|(row, value)| (scans::key(*row), value.to_string()))).await?;
    for (row, value) in rows {
        shared.scans.end_write(row, value, End::Ok);
    }
    Ok(())
}

/// A client of the cluster.
pub async fn connect(pds: &[String], limit: Duration) -> Result<Client, Error> {
    Client::builder().endpoints(pds.iter().cloned()).request_timeout(limit).connect().await
}

/// Starts all clients.
pub fn start(shared: &Arc<Shared>, pds: &[String], seed: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for number in 0..shared.clients {
        let (shared, pds) = (Arc::clone(shared), pds.to_vec());
        tasks.spawn(by_client(shared, pds, number, Dice::of_lane(seed, u64::from(number))));
    }
    for number in shared.clients..shared.clients + HTTP_CLIENTS {
        let (shared, dice) = (Arc::clone(shared), Dice::of_lane(seed, u64::from(number)));
        tasks.spawn(by_http(shared, number, dice));
    }
    tasks
}

async fn by_http(shared: Arc<Shared>, number: u32, mut dice: Dice) {
    while !shared.is_over() {
        http::register(&shared, number, &mut dice).await;
        sleep(Duration::from_millis(dice.below(2 * PAUSE_MS_MAX))).await;
    }
}

async fn by_client(shared: Arc<Shared>, pds: Vec<String>, number: u32, mut dice: Dice) {
    while !shared.is_over() {
        let Ok(client) = connect(&pds, CALL_MAX).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while !shared.is_over() {
            one_call(&shared, &client, number, &mut dice).await;
            sleep(Duration::from_millis(dice.below(PAUSE_MS_MAX))).await;
        }
    }
}

async fn one_call(shared: &Shared, client: &Client, number: u32, dice: &mut Dice) {
    match dice.below(100) {
        0..58 => register(shared, client, number, dice).await,
        58..68 => batch(shared, client, number, dice).await,
        68..78 => add(shared, client).await,
        78..80 => read_set(shared, client, shared.sets.present()).await,
        80..88 => append(shared, client, dice).await,
        88..95 => write_row(shared, client, number, dice).await,
        _ => scan(shared, client, dice).await,
    }
}

fn number_of(value: &Bytes) -> u64 {
    // No workload writes 0.
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

async fn register(shared: &Shared, client: &Client, number: u32, dice: &mut Dice) {
    let registers = &shared.registers;
    let (key, new) = (registers.pick(dice), registers.new_value());
    let name = registers.name(key);
    match dice.below(10) {
        0..4 => drop(read_register(shared, client, (number, key)).await),
        4..7 => {
            let begun = registers.begin(number, key, Kind::Write(Some(new)), &shared.stamps);
            let end = End::of(&client.put(&name, new.to_string()).await);
            registers.end(begun, write_outcome(end), &shared.stamps);
            shared.tally.count("put", end);
        }
        7 => {
            let begun = registers.begin(number, key, Kind::Write(None), &shared.stamps);
            let end = End::of(&client.delete(&name).await);
            registers.end(begun, write_outcome(end), &shared.stamps);
            shared.tally.count("delete", end);
        }
        _ => {
            let Ok(expected) = read_register(shared, client, (number, key)).await else { return };
            let kind = Kind::Swap { expected, new: Some(new) };
            let begun = registers.begin(number, key, kind, &shared.stamps);
            let from = expected.map(|value| value.to_string());
            let answer = client.compare_and_swap(&name, from, Some(new.to_string())).await;
            let end = End::of(&answer);
            let outcome = match &answer {
                Ok(told) => {
                    let previous = told.previous.as_ref().map(number_of);
                    Outcome::Swapped { swapped: told.swapped, previous }
                }
                Err(_) => write_outcome(end),
            };
            registers.end(begun, outcome, &shared.stamps);
            shared.tally.count("swap", end);
        }
    }
}

/// Reads a register by a call of its own.
pub async fn read_register(
    shared: &Shared,
    client: &Client,
    (number, key): (u32, u16),
) -> Result<Option<u64>, Error> {
    let begun = shared.registers.begin(number, key, Kind::Read, &shared.stamps);
    let answer = client.get(shared.registers.name(key)).await;
    let answer = answer.map(|value| value.as_ref().map(number_of));
    let (end, outcome) = read_outcome(&answer);
    shared.registers.end(begun, outcome, &shared.stamps);
    shared.tally.count("get", end);
    answer
}

async fn batch(shared: &Shared, client: &Client, number: u32, dice: &mut Dice) {
    let group = shared.batches.pick(dice);
    if dice.chance(500) {
        read_batch(shared, client, (number, group)).await;
        return;
    }
    let new = shared.batches.new_value();
    let begun = shared.batches.begin(number, group, Kind::Write(Some(new)), &shared.stamps);
    let pairs = batches::keys(group).map(|key| (key, new.to_string()));
    let end = End::of(&client.batch_put(pairs).await);
    shared.batches.end(begun, write_outcome(end), &shared.stamps);
    shared.tally.count("batch_put", end);
}

async fn read_batch(shared: &Shared, client: &Client, (number, group): (u32, u16)) {
    let begun = shared.batches.begin(number, group, Kind::Read, &shared.stamps);
    let answer = client.batch_get(batches::keys(group)).await;
    let end = End::of(&answer);
    let values = answer.unwrap_or_default();
    let values: Vec<_> = values.iter().map(|value| value.as_ref().map(number_of)).collect();
    let seen = if end == End::Ok { shared.torn.whole(group, &values) } else { None };
    let outcome = seen.map_or(Outcome::Failed, Outcome::Read);
    shared.batches.end(begun, outcome, &shared.stamps);
    shared.tally.count("batch_get", end);
}

async fn add(shared: &Shared, client: &Client) {
    let element = shared.sets.begin(&shared.stamps);
    let end = End::of(&client.put(Sets::row(element), element.to_string()).await);
    shared.sets.end(element, end, &shared.stamps);
    shared.tally.count("add", end);
}

async fn read_set(shared: &Shared, client: &Client, set: u64) {
    let invoked = shared.stamps.next();
    let prefix = set::prefix(set);
    let range = format!("{prefix}/")..format!("{prefix}0");
    let answer = client.scan(range, u64::MAX).await;
    shared.tally.count("read_set", End::of(&answer));
    if let Ok(rows) = answer {
        let rows = rows.iter().filter(|(key, _)| !is_probe(key));
        let found: BTreeSet<u64> = rows.map(|(_, value)| number_of(value)).collect();
        shared.sets.scanned(set, invoked, found, &shared.stamps);
    }
}

async fn append(shared: &Shared, client: &Client, dice: &mut Dice) {
    let (list, element) = shared.appends.begin(dice.below(appends::ACTIVE), &shared.stamps);
    let mut end = End::Failed;
    for _ in 0..3 {
        let Some(found) = read_list(shared, client, list).await else { break };
        let mut longer = appends::decode(found.as_deref().unwrap_or_default());
        longer.push(element);
        let longer = Bytes::from(appends::encode(&longer));
        let answer = client.compare_and_swap(appends::key(list), found, Some(longer)).await;
        end = End::of(&answer);
        shared.tally.count("append", end);
        match answer {
            // Another client was faster; nothing was appended.
            Ok(told) if !told.swapped => end = End::Failed,
            Ok(_) | Err(_) => break,
        }
    }
    shared.appends.end(list, element, end, &shared.stamps);
}

async fn read_list(shared: &Shared, client: &Client, list: u64) -> Option<Option<Bytes>> {
    let invoked = shared.stamps.next();
    let answer = client.get(appends::key(list)).await;
    shared.tally.count("read_list", End::of(&answer));
    let found = answer.ok()?;
    let elements = appends::decode(found.as_deref().unwrap_or_default());
    shared.appends.told(list, invoked, elements, &shared.stamps);
    Some(found)
}

/// Raises the value of a row that only this client writes.
async fn write_row(shared: &Shared, client: &Client, number: u32, dice: &mut Dice) {
    let clients = u64::from(shared.clients);
    let row = u64::from(number) + clients * dice.below(ROWS / clients);
    let value = shared.scans.begin_write(row);
    let end = End::of(&client.put(scans::key(row), value.to_string()).await);
    shared.scans.end_write(row, value, end);
    shared.tally.count("write_row", end);
}

async fn scan(shared: &Shared, client: &Client, dice: &mut Dice) {
    let start = dice.below(ROWS);
    let end = start + 1 + dice.below(ROWS - start);
    let asked = shared.scans.begin(start..end, dice.chance(300));
    let range = scans::key(start)..scans::key(end);
    let answer = match asked.is_reverse {
        false => client.scan(range, u64::MAX).await,
        true => client.reverse_scan(range, u64::MAX).await,
    };
    shared.tally.count("scan", End::of(&answer));
    if let Ok(rows) = answer {
        let row = |(key, value): &(Bytes, Bytes)| Some((scans::row(key)?, number_of(value)));
        let told: Vec<(u64, u64)> = rows.iter().filter_map(row).collect();
        shared.scans.told(&asked, &told);
    }
}

/// The end of keys that the nemesis writes to see whether a region serves.
pub const PROBE: &[u8] = b"\0probe";

fn is_probe(key: &[u8]) -> bool {
    key.ends_with(PROBE)
}

/// Reads everything once more, when nothing is down or cut any more. Answers what could not be
/// read.
pub async fn read_all(shared: &Shared, pds: &[String]) -> Result<(), Error> {
    let client = &connect(pds, LAST_CALL_MAX).await?;
    let reader = shared.clients + HTTP_CLIENTS;
    for key in 0..shared.registers.len() {
        read_register(shared, client, (reader, key)).await?;
    }
    for group in 0..shared.batches.len() {
        read_batch(shared, client, (reader, group)).await;
    }
    for set in 0..=shared.sets.present() {
        read_set(shared, client, set).await;
    }
    for list in 0..shared.appends.len() {
        read_list(shared, client, list).await;
    }
    let asked = shared.scans.begin(0..ROWS, false);
    let rows = client.scan("scan/".."scan0", u64::MAX).await?;
    let row = |(key, value): &(Bytes, Bytes)| Some((scans::row(key)?, number_of(value)));
    let told: Vec<(u64, u64)> = rows.iter().filter_map(row).collect();
    shared.scans.told(&asked, &told);
    Ok(())
}
