//! Truncated <= durable <= applied <= committed, on every peer.

use flotilla_store::core::peer::Peer;
use flotilla_types::StoreId;

use super::{Verdict, broken};

/// Checks one peer.
pub fn check(store: StoreId, peer: &Peer) -> Verdict {
    let (applied, durable) = (peer.applied.index, peer.durable_applied);
    let (committed, truncated) = (peer.group.commit_index(), peer.group.truncated().index);
    let is_ordered = durable <= applied && applied <= committed.max(peer.group.applied_index());
    // A new region's log begins at its first index before its state is durable.
    let keeps_log = truncated <= durable.max(flotilla_store::core::records::FIRST_INDEX);
    if is_ordered && keeps_log && applied <= committed {
        return Ok(());
    }
    let what = format!(
        "store {store}, region {}: truncated {truncated}, durable {durable}, applied {applied}, \
         committed {committed}",
        peer.region.id
    );
    broken("truncated <= durable <= applied <= committed", what)
}
