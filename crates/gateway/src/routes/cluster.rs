//! `/v1/cluster`: what the placement driver knows. Read-only; a store joins by being started.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::app::App;
use crate::limits::REGIONS_PAGE_MAX;
use crate::openapi::{ClusterStatus, Operators, Refused, Regions, Stores, Unanswered};
use crate::problem::Problem;
use crate::query::Query;
use crate::views;

/// The cluster as a whole, and why it is not healthy: 200.
#[utoipa::path(
    get,
    path = "/v1/cluster/status",
    tag = "cluster",
    operation_id = "cluster_status",
    responses(
        (status = 200, description = "The cluster as a whole", body = ClusterStatus),
        Refused, Unanswered,
    ),
)]
pub(crate) async fn status(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri, &[])?;
    Ok(respond(&views::status(&app.pd.cluster_status().await?)))
}

/// The stores: 200.
#[utoipa::path(
    get,
    path = "/v1/cluster/stores",
    tag = "cluster",
    operation_id = "cluster_stores",
    responses(
        (status = 200, description = "The stores", body = Stores),
        Refused, Unanswered,
    ),
)]
pub(crate) async fn stores(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri, &[])?;
    let stores = app.pd.stores().await?;
    Ok(respond(&json!({ "stores": stores.iter().map(views::store).collect::<Vec<_>>() })))
}

/// A page of the range map, from the region that holds the stored key `start` on: 200.
#[utoipa::path(
    get,
    path = "/v1/cluster/regions",
    tag = "cluster",
    operation_id = "cluster_regions",
    params(
        ("start" = Option<String>, Query, pattern = "^([0-9a-fA-F]{2})*$",
            description = "The stored key in whose region the page begins, in hex digits"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "Regions at most"),
    ),
    responses(
        (status = 200, description = "A page of the range map", body = Regions),
        Refused, Unanswered,
    ),
)]
pub(crate) async fn regions(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let (start, limit) = page(&uri)?;
    Ok(respond(&views::regions(&app.pd.regions(start, limit).await?)))
}

/// The operators under way: 200.
#[utoipa::path(
    get,
    path = "/v1/cluster/operators",
    tag = "cluster",
    operation_id = "cluster_operators",
    responses(
        (status = 200, description = "The operators under way", body = Operators),
        Refused, Unanswered,
    ),
)]
pub(crate) async fn operators(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    Query::of(&uri, &[])?;
    let operators = app.pd.operators().await?;
    let operators = operators.iter().map(views::operator).collect::<Vec<_>>();
    Ok(respond(&json!({ "operators": operators })))
}

fn page(uri: &Uri) -> Result<(Vec<u8>, u64), Problem> {
    let query = Query::of(uri, &["start", "limit"])?;
    let start = hex::decode(query.bytes("start").unwrap_or_default()).map_err(|_| {
        Problem::bad_request("start is hex digits, as in the page before under \"next\"")
    })?;
    let limit = query.count("limit")?.unwrap_or(REGIONS_PAGE_MAX).min(REGIONS_PAGE_MAX);
    Ok((start, limit))
}

fn respond(value: &Value) -> Response {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (headers, format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded() {
        let of = |query: &str| page(&format!("/v1/cluster/regions{query}").parse().expect("a URI"));
        assert_eq!(of(""), Ok((vec![], REGIONS_PAGE_MAX)));
        assert_eq!(of("?start=00ff&limit=2"), Ok((vec![0, 255], 2)));
        assert_eq!(of("?limit=999999999"), Ok((vec![], REGIONS_PAGE_MAX)));
        assert!(of("?start=x").is_err() && of("?limit=0").is_err());
    }
}
