//! What a store tells of its load is what it has answered to clients: its heartbeats have the
//! number of reads and writes that its process has answered well, and their bytes, as counted here
//! from the requests and the answers themselves.
//!
//! Of rates only a bound is checked: a rate is over nine tenths of a second at least, so no more
//! than all that was done can have been done in that time.
//!
//! Not here: that the placement driver shows what it was told ([`super::admin`]), and that the load
//! of a cluster that nobody uses is told as none ([`super::placement`]).

use std::collections::BTreeMap;

use flotilla_store::core::{Answer, Op, Output, Request, RequestId};
use flotilla_types::wire::entry_bytes;
use flotilla_types::{Load, RegionError, StoreId};

use super::{Verdict, broken};

/// The least time of which a rate tells.
const PERIOD_MS_MIN: u64 = 900;

/// What the stores have done.
#[derive(Debug, Default)]
pub struct Loads {
    stores: BTreeMap<StoreId, Done>,
}

/// What one store's process has done.
#[derive(Debug, Default)]
struct Done {
    load: Load,
    /// The bytes of the writes that were not answered.
    writes: BTreeMap<RequestId, u64>,
}

impl Loads {
    /// A store's process has started anew: it has done nothing.
    pub fn reborn(&mut self, store: StoreId) {
        self.stores.remove(&store);
    }

    /// A store takes a request up.
    pub fn taken_up(&mut self, store: StoreId, request: &Request) {
        if let Op::Write(op) = &request.op {
            let done = self.stores.entry(store).or_default();
            done.writes.insert(request.id, entry_bytes(op) as u64);
        }
    }

    /// A store has an answer, which is let out.
    pub fn answered(
        &mut self,
        store: StoreId,
        id: RequestId,
        result: &Result<Answer, RegionError>,
    ) {
        let done = self.stores.entry(store).or_default();
        let written_bytes = done.writes.remove(&id);
        let Ok(answer) = result else { return };
        let read_bytes: usize = match answer {
            Answer::Get(values) => values.iter().flatten().map(|value| value.len()).sum(),
            Answer::Scan { pairs, .. } => {
                pairs.iter().map(|(key, row)| key.len() + row.len()).sum()
            }
            Answer::Written | Answer::Swapped { .. } => {
                done.load.writes += 1;
                done.load.written_bytes += written_bytes.unwrap_or_default();
                return;
            }
        };
        done.load.reads += 1;
        done.load.read_bytes += read_bytes as u64;
    }

    /// A store's core has put this out.
    pub fn put_out(&mut self, store: StoreId, outputs: &[Output]) -> Verdict {
        for output in outputs {
            match output {
                Output::Reply { id, result } => self.answered(store, *id, result),
                Output::Heartbeat(heartbeat) if !heartbeat.is_stopping => {
                    let done = self.stores.entry(store).or_default().load;
                    let told = heartbeat.usage.load.unwrap_or_default();
                    if told.total != done {
                        let what = format!("store {store} tells {told:?}, and has done {done:?}");
                        return broken("a store tells what it has done", what);
                    }
                    if !is_within(told.per_second, done.per_second(PERIOD_MS_MIN)) {
                        let what = format!("store {store} tells {told:?}, and has done {done:?}");
                        return broken("no store did more in a second than ever", what);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_within(load: Load, most: Load) -> bool {
    load.reads <= most.reads
        && load.read_bytes <= most.read_bytes
        && load.writes <= most.writes
        && load.written_bytes <= most.written_bytes
}

#[cfg(test)]
mod tests {
    use flotilla_types::heartbeat::{StoreHeartbeat, StoreUsage};
    use flotilla_types::load::StoreLoad;
    use flotilla_types::{Epoch, Millis, Mutation, RegionId, WriteOp};

    use super::*;

    const STORE: StoreId = StoreId(1);

    fn told(total: Load, per_second: Load) -> [Output; 1] {
        let load = Some(StoreLoad { total, per_second, ..StoreLoad::default() });
        let usage = StoreUsage { load, ..StoreUsage::default() };
        [Output::Heartbeat(StoreHeartbeat { usage, ..StoreHeartbeat::default() })]
    }

    #[test]
    fn a_store_that_tells_less_or_faster_than_it_answered_is_found() {
        let mut loads = Loads::default();
        let op = WriteOp::Mutate(vec![Mutation::Put { key: "k".into(), value: "v".into() }]);
        let bytes = entry_bytes(&op) as u64;
        let (region, epoch, deadline) = (RegionId(1), Epoch::FIRST, Millis(9));
        let id = RequestId(4);
        loads.taken_up(STORE, &Request { id, region, epoch, deadline, op: Op::Write(op) });
        let read = Ok(Answer::Get(vec![Some("abc".into()), None]));
        let replies = [
            Output::Reply { id, result: Ok(Answer::Written) },
            Output::Reply { id: RequestId(5), result: read },
        ];
        assert!(loads.put_out(STORE, &replies).is_ok());
        let done = Load { reads: 1, read_bytes: 3, writes: 1, written_bytes: bytes };
        let none = Load::default();
        assert!(loads.put_out(STORE, &told(done, none)).is_ok());
        assert!(loads.put_out(STORE, &told(Load { reads: 0, ..done }, none)).is_err());
        assert!(loads.put_out(STORE, &told(done, Load { writes: 3, ..none })).is_err());
        loads.reborn(STORE);
        assert!(loads.put_out(STORE, &told(none, none)).is_ok());
    }
}
