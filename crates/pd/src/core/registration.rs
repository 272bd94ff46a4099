//! Registration of stores, and ids.
//!
//! A store registers in two proposals: its record (unless that is there already, unchanged), then a
//! block of ids. The reply follows the second.

use flotilla_types::StoreId;
use flotilla_types::heartbeat::IdBlock;
use flotilla_types::limits::is_address;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{PdError, PdReply, RegisterStore, Registration};

use crate::core::command::PdCommand;
use crate::core::context::{Action, LeaderContext};
use crate::core::errors::{busy, refused};
use crate::core::io::RequestId;
use crate::core::limits::ID_BLOCK;
use crate::core::records::{StoreMode, StoreRecord};
use crate::core::state::{Refusal, State};
use crate::core::waiting::{Waiter, Waiting};

/// The most ids in one AllocateIds: a hundred blocks of the usual length, so that a mistyped count
/// does no harm.
pub const IDS_PER_REQUEST_MAX: u64 = 100 * ID_BLOCK;

/// A store whose last heartbeat is not older lives, so another address for it is a copy's.
const ALIVE_MS: u64 = 3_000;

/// The most bytes of labels of one store, keys and values together. They are part of a record.
pub const LABEL_BYTES_MAX: usize = 4096;

/// Registers a store: writes its record if that is new, and leases ids. A store that has an id says
/// of which cluster.
pub(crate) fn register_store(
    context: &LeaderContext<'_>,
    id: RequestId,
    request: RegisterStore,
    names_cluster: bool,
) -> Result<Action, PdError> {
    let RegisterStore { store_id, addr, labels } = request;
    let record = StoreRecord { id: store_id, addr, labels, mode: StoreMode::Up };
    check_record(&record)?;
    let record = if record.id.0 == 0 {
        admit_new(context, record)?
    } else if names_cluster && context.state.store(record.id).is_none() {
        admit_unknown(context, record)?
    } else {
        admit_known(context, record)?
    };
    let store = record.id;
    if context.state.store(store) == Some(&record) {
        return Ok(lease_ids(context, id, store));
    }
    Ok(Action::Propose(PdCommand::PutStore(record), Waiter::Register { id, store }))
}

/// Leases ids to a store whose record is committed; its registration is answered with them.
/// While no ids may be leased, the answer has an empty block, and the store gets its ids with a
/// heartbeat.
pub(crate) fn lease_ids(context: &LeaderContext<'_>, id: RequestId, store: StoreId) -> Action {
    if !context.may_lease_ids() {
        let registration = registration(context.state, store, IdBlock::default());
        return Action::Answer(Ok(PdReply::RegisterStore(registration)));
    }
    Action::Propose(
        PdCommand::TakeIds { count: context.limits().id_block },
        Waiter::RegisterIds { id, store },
    )
}

/// What a store is told once it is registered and has ids.
pub(crate) fn registration(state: &State, store_id: StoreId, ids: IdBlock) -> Registration {
    Registration { cluster_id: state.cluster_id(), store_id, ids }
}

/// Leases ids to anyone.
pub(crate) fn allocate_ids(
    context: &LeaderContext<'_>,
    id: RequestId,
    count: u64,
) -> Result<Action, PdError> {
    if count == 0 || count > IDS_PER_REQUEST_MAX {
        let reason = format!("{count} ids asked for; from 1 to {IDS_PER_REQUEST_MAX} are given");
        return Err(refused(reason));
    }
    if !context.may_lease_ids() {
        return Err(busy("not all stores have told which ids they use"));
    }
    Ok(Action::Propose(PdCommand::TakeIds { count }, Waiter::Ids { id }))
}

/// A store's record is replaced as a whole, so two changes at once would lose one.
pub(crate) fn check_not_changing(waiting: &Waiting, store: StoreId) -> Result<(), PdError> {
    if waiting.is_changing(store) {
        return Err(busy(format!("another change of store {store} is being written")));
    }
    Ok(())
}

fn check_record(record: &StoreRecord) -> Result<(), PdError> {
    if !is_address(&record.addr) {
        return Err(refused(format!("'{}' is not an address HOST:PORT", record.addr)));
    }
    let label_bytes: usize = record.labels.iter().map(|(k, v)| k.len() + v.len()).sum();
    if label_bytes > LABEL_BYTES_MAX {
        let reason = format!("{label_bytes} bytes of labels; the most is {LABEL_BYTES_MAX}");
        return Err(refused(reason));
    }
    Ok(())
}

/// The address may be that of a store whose registration was answered and whose reply was lost.
/// Such a store has sent no heartbeat; whether it may have its id again is decided when the
/// command is applied.
fn admit_new(context: &LeaderContext<'_>, record: StoreRecord) -> Result<StoreRecord, PdError> {
    let reports = &context.leader.reports;
    let other = context.state.store_at(&record.addr);
    match other.filter(|other| reports.last_heartbeat_at(other.id).is_some()) {
        Some(other) => Err(Refusal::AddrTaken { addr: record.addr, store: other.id }.into()),
        None => Ok(record),
    }
}

/// The record to be written for a store of this cluster of which this member knows nothing: the
/// member was put back from a copy that is older than the store.
fn admit_unknown(context: &LeaderContext<'_>, record: StoreRecord) -> Result<StoreRecord, PdError> {
    check_not_changing(context.waiting, record.id)?;
    Ok(record)
}

/// The record to be written for a store that was registered before. What is checked here is checked
/// again when the command is applied.
fn admit_known(context: &LeaderContext<'_>, record: StoreRecord) -> Result<StoreRecord, PdError> {
    let known = context.state.store(record.id).ok_or(Refusal::UnknownStore(record.id))?;
    if known.mode == StoreMode::Removed && !planted(Mutant::RemovedReturns) {
        return Err(Refusal::RemovedStore(record.id).into());
    }
    check_not_changing(context.waiting, record.id)?;
    let last = context.leader.reports.last_heartbeat_at(known.id);
    let is_alive = last.is_some_and(|last| context.now.since(last) < ALIVE_MS)
        && !context.leader.reports.has_stopped(known.id);
    if known.addr != record.addr && is_alive {
        return Err(refused(format!(
            "store {} is alive at {}; stop it there first, and wait {ALIVE_MS} ms (a copy of a \
             store's directory must never run beside the store)",
            known.id, known.addr
        )));
    }
    Ok(StoreRecord { mode: known.mode, ..record })
}
