//! The routes, one file for each resource.

mod kv;

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};

use crate::app::App;
use crate::guard::guard;
use crate::problem::Problem;

/// Everything that is served.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/kv/{*key}", get(kv::get).put(kv::put).delete(kv::delete))
        .route("/v1/kv/", any(kv::no_key))
        .route("/livez", get(livez))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// The process answers.
async fn livez() -> &'static str {
    "ok\n"
}

async fn no_such_path() -> Problem {
    let title = "There is nothing at this path";
    let detail = "rows are at /v1/kv/{key}";
    Problem::new(StatusCode::NOT_FOUND, "no-such-path", title, detail)
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let title = "The method does not fit the path";
    let detail = format!("{method} is not for this path ({} bytes)", uri.path().len());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-such-method", title, detail)
}
