//! The routes, one file for each resource.

mod batch;
mod cluster;
mod console;
mod events;
mod files;
mod health;
mod kv;
mod metrics;
mod scan;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};

use crate::app::App;
use crate::guard::guard;
use crate::problem::Problem;

/// Everything that is served.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/kv/{*key}", get(kv::get).put(kv::put).delete(kv::delete))
        .route("/v1/kv", get(scan::list).delete(scan::delete))
        .route("/v1/kv/", any(kv::no_key))
        .route("/v1/batch", post(batch::batch))
        .route("/v1/dump", get(files::dump))
        .route("/v1/load", post(files::load))
        .route("/v1/cluster/status", get(cluster::status))
        .route("/v1/cluster/stores", get(cluster::stores))
        .route("/v1/cluster/regions", get(cluster::regions))
        .route("/v1/cluster/operators", get(cluster::operators))
        .route("/v1/cluster/events", get(events::events))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/", get(console::page))
        .route("/console/{file}", get(console::file))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

async fn no_such_path() -> Problem {
    let title = "There is nothing at this path";
    let detail = "rows are at /v1/kv/{key}, the cluster at /v1/cluster/status";
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", title, detail)
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let title = "The method does not fit the path";
    let detail = format!("{method} is not for this path ({} bytes)", uri.path().len());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", title, detail)
}
