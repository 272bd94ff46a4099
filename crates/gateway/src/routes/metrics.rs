//! `/metrics`: everything that the process counts, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use flotilla_metrics::registry;

use crate::app::App;
use crate::openapi::Refused;

/// The text of all series, in the format of OpenMetrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "process",
    operation_id = "metrics",
    responses(
        (status = 200, description = "All series", body = String,
            content_type = registry::CONTENT_TYPE),
        Refused,
    ),
)]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.registry.scrape().await;
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(registry::CONTENT_TYPE))];
    (headers, text).into_response()
}
