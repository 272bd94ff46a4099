//! A call for one key, as long as its first attempt succeeds: nearly every call there is.
//!
//! In: the key and the router. Out: where the first attempt goes, which is where a
//! [`Plan`](super::plan::Plan) of that one item would send it.
//!
//! Deliberately not here: failures. The first of any kind, a hole in the cache included, goes to a
//! plan ([`Plan::begun`](super::plan::Plan::begun)), so that there is one way to retry.

use flotilla_types::StoreId;

use super::router::{Destination, Router, RoutingHints};

/// Where a plan would send its first attempt about `key`; None if something must be looked up.
pub fn destination(
    router: &Router,
    avoid: &dyn Fn(StoreId) -> bool,
    key: &[u8],
) -> Option<Destination> {
    let region = router.region_at(key)?;
    router.destination(region, &RoutingHints { last: None, hint: None, avoid }).ok()
}

#[cfg(test)]
#[path = "single_tests.rs"]
mod tests;
