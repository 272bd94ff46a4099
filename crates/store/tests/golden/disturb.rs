//! The language of the store's scripts, second half: what goes wrong.
//!
//! ```text
//! hold s1->s3 [Snapshot] [region=1]   keep messages of a link (of a kind) waiting; `*` is any
//! release [s1->s3 Snapshot]           deliver what waits because of all holds, or of this one
//! drop s1->s3 [Append]                lose what waits
//! waiting                             print what waits
//! isolate s3 | heal                   lose all messages to and from s3 | no more
//! pause s3 | resume                   s3 takes no turns; then it takes all in one turn
//! hold-log s1 | release-log s1        keep writes to the log from being carried out
//! hold-checkpoints s3                 keep checkpoints from being carried out
//! checkpoint s3                       carry out the one that waits, or five seconds pass and one
//!                                     begins
//! checkpoint s3 crash                 the same, and s3 crashes before it learns that it is done
//! hand-over s1                        s1 is told that it is about to stop
//! crash s2 | stop s2 | restart s2     lose what is not durable | lose nothing | open again
//! wait 300                            let milliseconds pass
//! ```

use flotilla_store::core::Input;
use flotilla_types::{RegionId, StoreId};

use crate::script::{Command, number};
use crate::world::{Filter, World};

/// Milliseconds after which a checkpoint begins by itself.
const CHECKPOINT_MS: u64 = 5_000;

impl World {
    /// Carries out a command of this half.
    pub fn disturb(&mut self, command: &Command, out: &mut Vec<String>) {
        match command.name.as_str() {
            "hold" => self.held.push(filter(command)),
            "release" if command.words.is_empty() => self.held.clear(),
            "release" => {
                let released = filter(command);
                self.held.retain(|held| *held != released);
            }
            "drop" => self.lose(&filter(command), out),
            "waiting" => self.print_held(out),
            "heal" => self.isolated.clear(),
            "resume" => self.paused.clear(),
            "wait" => self.now = self.now.plus(command.number(0)),
            _ => self.disturb_store(StoreId(command.number(0)), command, out),
        }
    }

    fn disturb_store(&mut self, id: StoreId, command: &Command, out: &mut Vec<String>) {
        let now = self.now;
        match command.name.as_str() {
            "isolate" => drop(self.isolated.insert(id)),
            "pause" => drop(self.paused.insert(id)),
            "hold-log" => self.store(id).holds_log = true,
            "release-log" => {
                let result = self.store(id).release_log(now);
                self.take_result(id, result, out);
            }
            "hold-checkpoints" => self.store(id).holds_checkpoints = true,
            "checkpoint" => self.checkpoint(id, command.words.len() > 1, out),
            "crash" => self.crash(id),
            "hand-over" => self.store(id).inbox.push(Input::HandOver),
            "stop" => {
                self.store(id).stop(now);
                self.crash(id);
            }
            "restart" => match self.store(id).start(now) {
                Ok(()) => self.flush(id, out),
                Err(reason) => out.push(format!("  s{id} does not start: {reason}")),
            },
            name => panic!("no command {name:?}"),
        }
    }

    fn crash(&mut self, id: StoreId) {
        let World { stores, history, .. } = self;
        let store = stores.get_mut(&id).unwrap_or_else(|| panic!("no store {id}"));
        history.forget(store);
        store.crash();
    }

    fn checkpoint(&mut self, id: StoreId, crashes: bool, out: &mut Vec<String>) {
        if !self.store(id).carry_out_checkpoint() {
            self.now = self.now.plus(CHECKPOINT_MS);
            self.store(id).holds_checkpoints = true;
            self.flush(id, out);
            if !self.store(id).carry_out_checkpoint() {
                out.push(format!("  s{id} has nothing to make durable"));
            }
        }
        self.store(id).holds_checkpoints = false;
        if crashes {
            self.crash(id);
        }
    }
}

/// `s1->s3 Append region=1`.
fn filter(command: &Command) -> Filter {
    let side = |side: &str| (side != "*").then(|| StoreId(number(side)));
    let link = command.words.first().map_or("*->*", String::as_str);
    let (from, to) = link.split_once("->").expect("a link is two stores");
    Filter {
        from: side(from),
        to: side(to),
        region: command.numbers("region").first().copied().map(RegionId),
        kind: command.words.get(1).cloned().unwrap_or_default(),
    }
}
