//! What draining a store takes, as the placement driver says, and the regions that cannot leave it.

use flotilla_client::PdClient;
use flotilla_types::StoreId;
use flotilla_types::explain::{BlockedRegion, DrainForecast, Explanation, Question};
use serde_json::{Value, json};

use crate::failure::{Failure, Tried};
use crate::output;

/// What draining the store takes as things stand.
pub(super) async fn forecast(
    store: StoreId,
    client: &PdClient,
    what: &str,
) -> Result<DrainForecast, Failure> {
    let told = client.explain(Question::Drain(store)).await.tried(what)?;
    let Explanation::Drain(forecast) = told else { return Err(super::unasked(what)) };
    Ok(forecast)
}

/// A region that cannot leave a store, and why.
pub(super) fn blocked_json(blocked: &BlockedRegion) -> Value {
    json!({ "region_id": blocked.region_id.0, "why": blocked.why })
}

/// Prints nothing if there are none.
pub(super) fn print_blocked(blocked: &[BlockedRegion]) -> Result<(), Failure> {
    if blocked.is_empty() {
        return Ok(());
    }
    let row = |region: &BlockedRegion| vec![region.region_id.to_string(), region.why.clone()];
    let rows = blocked.iter().map(row).collect::<Vec<_>>();
    output::table(&["region", "cannot leave, because"], &rows)
}
