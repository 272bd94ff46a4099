//! The language of the store's scripts, first half: what clients and the placement driver ask,
//! and what is printed. The other half is [`crate::disturb`].
//!
//! ```text
//! stores 3 [region-bytes=N] [checkpoint-bytes=N] [idle-ms=N]
//! bootstrap s1 s2 s3                  region 1 with peers 11, 12, 13 on these stores
//! begin s1 s2 on=s1,s2,s3             the placement driver tells these stores of the first region,
//!                                     region 1 with peers 11, 12, 13 on those of `on`
//! elect s1 [region=1]                 let s1's peer win an election, quietly
//! tick 10 [s1 ...]                    ticks of 100 ms on all stores, or on these
//! put s1 k v [k v ...] | delete s1 k | delete-range s1 a c | cas s1 k old new | get s1 k ...
//! scan s1 [start] [end] [limit=N] [reverse=yes]
//!                                     a client asks; region=, epoch=1.1, deadline=MS override
//!                                     what s1 itself knows
//! fill s1 1000                        so many puts of the key `fill`, each in its own entry
//! split s1 at=m | add-learner s1 s4/14 | promote s1 14 | replace s1 14 12 | remove s1 14
//! transfer s1 12 | destroy s1 11      the placement driver asks; region= and epoch= as above.
//!                                     The first `remove` makes a voter a learner, the next
//!                                     removes it
//! lease s1 100 50                     the placement driver leases s1 50 ids from 100 on
//! regions | dump | tombstones         print the peers | the rows | the tombstones of all stores
//! checkpoints                         print how many checkpoints each store has made
//! heartbeat s1                        print what s1 told the placement driver last
//! requests                            print the requests that are not answered
//! trace on | off | all                print messages; all: heartbeats too
//! ```
//!
//! Each command ends when nothing moves any more.

use flotilla_group::Timing;
use flotilla_store::core::limits::StoreLimits;
use flotilla_store::core::records::load_tombstones;
use flotilla_store::core::worker::{LogKept, WorkerConfig, bootstrap};
use flotilla_store::core::{Input, Request, RequestId};
use flotilla_types::heartbeat::{HeartbeatReply, IdBlock, RegionCommand, Step};
use flotilla_types::{Epoch, KeyRange, Member, MemberRole, PeerId, Region, RegionId, StoreId};

use crate::check;
use crate::requests;
use crate::script::{Command, Runner, number};
use crate::show;
use crate::world::World;

/// Milliseconds in a tick.
const TICK_MS: u64 = 100;

/// When a client gives up, unless it says otherwise.
const DEADLINE_MS: u64 = 10_000;

/// Ticks within which a peer that nobody opposes must have been elected.
const ELECTION_TICKS_MAX: u64 = 20;

impl Runner for World {
    fn run(&mut self, command: &Command, out: &mut Vec<String>) {
        match command.name.as_str() {
            "stores" => self.stores_command(command),
            "bootstrap" => self.bootstrap(command),
            "begin" => self.begin(command),
            "elect" => self.elect(command, out),
            "tick" => self.tick(command.number(0), &stores(&command.words[1..]), out),
            "fill" => self.fill(command),
            "split" | "add-learner" | "promote" | "replace" | "remove" | "transfer" | "destroy" => {
                self.pd_command(command);
            }
            "lease" => self.lease(command),
            "regions" | "dump" | "tombstones" | "checkpoints" | "heartbeat" | "requests" => {
                self.print(command, out);
            }
            "trace" => {
                self.traces = command.word(0) != "off";
                self.shows_heartbeats = command.word(0) == "all";
            }
            _ => match requests::parse(command) {
                Some(op) => self.client_request(command, op),
                None => self.disturb(command, out),
            },
        }
        self.settle(out);
        check::check(self);
        check::check_epochs(self);
    }
}

/// The stores that the words name.
pub fn stores(words: &[String]) -> Vec<StoreId> {
    words.iter().map(|word| StoreId(number(word))).collect()
}

/// Region 1, of all keys, with a voter on each of these stores.
fn first_region(on: &[StoreId]) -> Region {
    let voter = |store: &StoreId| Member::voter(PeerId(10 + store.0), *store);
    Region {
        id: RegionId(1),
        range: KeyRange::all(),
        epoch: Epoch::FIRST,
        members: on.iter().map(voter).collect(),
    }
}

impl World {
    fn stores_command(&mut self, command: &Command) {
        let of = |name: &str, otherwise: u64| {
            command.numbers(name).first().copied().unwrap_or(otherwise)
        };
        let checkpoint_bytes = of("checkpoint-bytes", 1 << 20);
        let checkpoint_bytes = usize::try_from(checkpoint_bytes).expect("a small number");
        self.create(
            command.number(0),
            &WorkerConfig {
                cluster: 1,
                store: StoreId(0),
                timing: Timing::DEFAULT,
                seed: 0,
                idle_ms: of("idle-ms", u64::MAX),
                region_bytes_max: of("region-bytes", 1 << 40),
                checkpoint_bytes,
                log_kept: LogKept::default(),
                limits: StoreLimits::default(),
            },
        );
    }

    fn begin(&mut self, command: &Command) {
        let on: Vec<StoreId> = command.numbers("on").into_iter().map(StoreId).collect();
        let region = first_region(&on);
        let now = self.now;
        for store in self.stores.values_mut().filter(|store| store.is_new()) {
            store.start(now).expect("a new store opens");
        }
        for id in stores(&command.words) {
            let reply = HeartbeatReply { first_region: Some(region.clone()), ..Default::default() };
            self.store(id).inbox.push(Input::HeartbeatReply(Some(reply)));
        }
    }

    fn bootstrap(&mut self, command: &Command) {
        let region = first_region(&stores(&command.words));
        let now = self.now;
        for (id, store) in &mut self.stores {
            bootstrap(&store.state, *id, &region).expect("memory does not fail");
            assert!(store.state.freeze(), "nothing is being flushed");
            store.state.flush().expect("memory does not fail");
            store.start(now).expect("a new store opens");
        }
    }

    fn elect(&mut self, command: &Command, out: &mut Vec<String>) {
        let store = StoreId(command.number(0));
        let region = RegionId(command.numbers("region").first().copied().unwrap_or(1));
        let mut quiet = vec![];
        for _ in 0..ELECTION_TICKS_MAX {
            self.tick(1, &[store], &mut quiet);
            let worker = self.store(store).worker.as_ref();
            if worker.and_then(|worker| worker.peer(region)).is_some_and(|peer| peer.is_leader()) {
                out.extend(quiet.into_iter().filter(|line| line.contains(" leads ")));
                return;
            }
        }
        panic!("s{store} was not elected: {quiet:#?}");
    }

    fn tick(&mut self, ticks: u64, on: &[StoreId], out: &mut Vec<String>) {
        for _ in 0..ticks {
            self.now = self.now.plus(TICK_MS);
            for (id, store) in &mut self.stores {
                let is_meant = on.is_empty() || on.contains(id);
                if is_meant && store.worker.is_some() {
                    store.inbox.push(Input::Tick);
                }
            }
            self.settle(out);
        }
    }

    /// Which region and epoch a command means, for a key or by default what the store knows.
    fn target(&mut self, command: &Command, key: &[u8]) -> (StoreId, RegionId, Epoch) {
        let store = StoreId(command.number(0));
        let worker = self.store(store).worker.as_ref();
        let by_key = worker.and_then(|w| w.range_map().lookup(key)).map(|region| region.id);
        let named = command.numbers("region").first().copied().map(RegionId);
        let region = named.or(by_key).unwrap_or(RegionId(1));
        let known = self.region(store, region).map_or(Epoch::FIRST, |region| region.epoch);
        let epoch = command.pair("epoch").map_or(known, requests::parse_epoch);
        (store, region, epoch)
    }

    fn client_request(&mut self, command: &Command, op: flotilla_store::core::Op) {
        let (store, region, epoch) = self.target(command, &requests::first_key(&op));
        let deadline_ms = command.numbers("deadline").first().copied().unwrap_or(DEADLINE_MS);
        let deadline = self.now.plus(deadline_ms);
        let label = format!("{} {}", command.name, command.words.join(" "));
        let request = Request { id: RequestId(0), region, epoch, deadline, op };
        self.ask(store, label, request);
    }

    fn fill(&mut self, command: &Command) {
        let store = StoreId(command.number(0));
        let mut quiet = vec![];
        for count in 0..command.number(1) {
            let put = Command::parse(&format!("put s{store} fill {count}"));
            let op = requests::parse(&put).expect("a request");
            self.client_request(&put, op);
            self.flush(store, &mut quiet);
            if count % 256 == 0 {
                self.settle(&mut quiet);
            }
        }
        self.settle(&mut quiet);
        assert!(quiet.iter().all(|line| line.ends_with(": ok") || !line.starts_with("  put")));
    }

    fn lease(&mut self, command: &Command) {
        let [store, start, count] = [0, 1, 2].map(|at| number(command.word(at)));
        let ids = Some(IdBlock { start, count });
        let reply = HeartbeatReply { ids, ..Default::default() };
        self.store(StoreId(store)).inbox.push(Input::HeartbeatReply(Some(reply)));
    }

    fn pd_command(&mut self, command: &Command) {
        let key = command.pair("at").unwrap_or_default().to_string();
        let (store, region, epoch) = self.target(command, key.as_bytes());
        let id = |at: usize| PeerId(command.words.get(at).map_or(0, |word| number(word)));
        let step = match command.name.as_str() {
            "split" => Step::Split(key.into()),
            "add-learner" => {
                let (on, peer) = command.word(1).split_once('/').expect("s4/14");
                let peer = Member::learner(PeerId(number(peer)), StoreId(number(on)));
                Step::AddLearner(peer)
            }
            "promote" => Step::Promote(id(1)),
            "replace" => Step::ReplaceVoter { added: id(1), removed: id(2) },
            "remove" => Step::RemovePeer(id(1)),
            "transfer" => Step::TransferLeader(id(1)),
            _ => Step::DestroyPeer(id(1)),
        };
        let command = RegionCommand { region_id: region, epoch, step };
        let reply = HeartbeatReply { commands: vec![command], ..Default::default() };
        self.store(store).inbox.push(Input::HeartbeatReply(Some(reply)));
    }

    fn print(&mut self, command: &Command, out: &mut Vec<String>) {
        match command.name.as_str() {
            "requests" => self.print_open_requests(out),
            "heartbeat" => self.print_heartbeat(StoreId(command.number(0)), out),
            what => {
                for (id, store) in &self.stores {
                    match what {
                        _ if store.worker.is_none() => out.push(format!("  s{id} is down")),
                        "regions" => print_peers(*id, store, out),
                        "dump" => print_rows(*id, store, out),
                        "checkpoints" => {
                            out.push(format!("  s{id} made {}", store.checkpoint_count));
                        }
                        _ => print_tombstones(*id, store, out),
                    }
                }
            }
        }
    }

    fn print_heartbeat(&mut self, id: StoreId, out: &mut Vec<String>) {
        let Some(heartbeat) = self.store(id).heartbeat.clone() else { return };
        let (full, peers) = (heartbeat.is_full, heartbeat.usage.peer_count);
        out.push(format!("  s{id} says full={full} peers={peers}"));
        for report in heartbeat.reports {
            let ids = |peers: &[PeerId]| peers.iter().map(|peer| peer.0).collect::<Vec<u64>>();
            let (lagging, unreachable) = (ids(&report.lagging), ids(&report.unreachable));
            let region = show::members(&report.region);
            out.push(format!("    leads {region} lagging={lagging:?} unreachable={unreachable:?}"));
        }
        for peer in heartbeat.leaderless {
            out.push(format!(
                "    r{}/{} asks whether it was removed",
                peer.region_id, peer.peer_id
            ));
        }
        for peer in heartbeat.tombstoned {
            let (region, peer) = (peer.region_id, peer.peer_id);
            out.push(format!("    r{region}/{peer} is written to and never lives here again"));
        }
    }
}

fn print_peers(id: StoreId, store: &crate::store::Store, out: &mut Vec<String>) {
    let Some(worker) = &store.worker else { return };
    for peer in worker.regions().filter_map(|region| worker.peer(region.id)) {
        let role = peer.group.role();
        let leads = if role.is_leader { " leads" } else { "" };
        let rests = if peer.is_quiescent() { " quiescent" } else { "" };
        let what = if peer.has_state() {
            let me = peer.member(id);
            let learns = if me.role == MemberRole::Learner { "L" } else { "" };
            let region = show::members(&peer.region);
            format!(
                "{}{learns} {region} applied={}@{}",
                peer.id, peer.applied.index, peer.applied.term
            )
        } else {
            format!("{} r{} waits for a snapshot", peer.id, peer.region.id)
        };
        out.push(format!("  s{id}/{what} term={}{leads}{rests}", role.term));
    }
}

fn print_rows(id: StoreId, store: &crate::store::Store, out: &mut Vec<String>) {
    let rows = store.rows(&KeyRange::all()).into_iter();
    let row = |(key, value): (bytes::Bytes, bytes::Bytes)| {
        let key = flotilla_store::core::records::stored_key(&key).to_vec();
        format!("{}={}", show::text(&key), show::text(&value[1..]))
    };
    let rows: Vec<String> = rows.map(row).collect();
    out.push(format!("  s{id} [{}]", rows.join(" ")));
}

fn print_tombstones(id: StoreId, store: &crate::store::Store, out: &mut Vec<String>) {
    let tombstones = load_tombstones(&store.state).expect("memory does not fail");
    for (region, peer) in tombstones {
        out.push(format!("  s{id} buried {peer} of r{region}"));
    }
}
