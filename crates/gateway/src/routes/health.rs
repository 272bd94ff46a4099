//! `/livez` and `/readyz`: for supervisors and load balancers.
//!
//! A gateway is ready if requests that it gets can succeed: it does not drain, it has reached its
//! cluster, and some region has a quorum. One region of many that is unavailable does not make it
//! unready, for that would take every gateway away from the other regions' users; it is told as a
//! reason. While no placement driver answers, a read of one row shows whether stores do.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use flotilla_types::proto::{ClusterStatus, HealthKind};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::{App, PROBED_KEY};
use crate::limits::READY_TIME_MAX;
use crate::openapi::{self, Refused};
use crate::problem::Problem;
use crate::views;

/// The process answers: 200.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "process",
    operation_id = "livez",
    responses(
        (status = 200, description = "The process answers", body = String),
        Refused,
    ),
)]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Requests can succeed: 200, else 503; with reasons.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "process",
    operation_id = "readyz",
    responses(
        (status = 200, description = "Requests can succeed", body = openapi::Readiness),
        (status = 503, description = "They cannot", body = openapi::Readiness),
        Refused,
    ),
)]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let ready = look(&app).await;
    let status = if ready.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = json!({ "ready": ready.is_ready, "reasons": ready.reasons }).to_string() + "\n";
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (status, headers, text).into_response()
}

/// Whether requests can succeed, and what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Readiness {
    is_ready: bool,
    reasons: Vec<Value>,
}

impl Readiness {
    fn of(is_ready: bool, kind: &str, what: &str) -> Readiness {
        Readiness { is_ready, reasons: vec![json!({ "kind": kind, "what": what })] }
    }
}

async fn look(app: &App) -> Readiness {
    if app.is_draining() {
        return Readiness::of(false, "draining", "the gateway is about to stop");
    }
    if !app.is_connected() {
        let what = "neither a placement driver nor a store has answered yet";
        return Readiness::of(false, "connecting", what);
    }
    match timeout(READY_TIME_MAX, app.pd.cluster_status()).await {
        Ok(Ok(status)) => judge(&status),
        Ok(Err(_)) | Err(_) => probe(app).await,
    }
}

fn judge(status: &ClusterStatus) -> Readiness {
    let of_kind = |kind| status.reasons.iter().filter(move |reason| reason.kind() == kind);
    let unavailable: u64 = of_kind(HealthKind::Unavailable).map(|reason| reason.region_count).sum();
    let is_ready = unavailable < status.region_count;
    Readiness { is_ready, reasons: status.reasons.iter().map(views::reason).collect() }
}

/// Reads a row, whether or not there is one.
async fn probe(app: &App) -> Readiness {
    let read = async { Ok::<_, Problem>(app.client().await?.get(PROBED_KEY).await?) };
    match timeout(READY_TIME_MAX, read).await {
        Ok(Ok(_)) => Readiness::of(true, "pd-silent", "no placement driver answers; stores do"),
        Ok(Err(_)) | Err(_) => {
            Readiness::of(false, "unavailable", "neither placement drivers nor stores answer")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::proto::HealthReason;

    fn status(regions: u64, reasons: &[(HealthKind, u64)]) -> ClusterStatus {
        let reason = |(kind, region_count): &(HealthKind, u64)| HealthReason {
            kind: (*kind).into(),
            region_count: *region_count,
            ..HealthReason::default()
        };
        let reasons = reasons.iter().map(reason).collect();
        ClusterStatus { region_count: regions, reasons, ..ClusterStatus::default() }
    }

    #[test]
    fn a_cluster_of_which_some_region_has_a_quorum_is_ready() {
        let ready = |regions, reasons: &[_]| judge(&status(regions, reasons)).is_ready;
        assert!(ready(3, &[]));
        assert!(ready(3, &[(HealthKind::UnderReplicated, 3)]));
        assert!(ready(3, &[(HealthKind::Unavailable, 2)]));
        assert!(!ready(3, &[(HealthKind::Unavailable, 1), (HealthKind::Unavailable, 2)]));
        assert!(!ready(0, &[(HealthKind::Beginning, 0)]));
        assert_eq!(judge(&status(3, &[(HealthKind::Unavailable, 2)])).reasons.len(), 1);
    }

    #[tokio::test]
    async fn a_gateway_that_has_not_reached_its_cluster_is_not_ready() {
        let readiness = look(&App::alone()).await;
        assert!(!readiness.is_ready);
        assert_eq!(readiness.reasons[0]["kind"], "connecting");
    }
}
