//! `/openapi.json`: what there is, for programs.

use axum::Extension;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::OpenApi;

use crate::openapi::{self, Refused};

/// The text of the description, made once.
#[derive(Clone, Debug)]
pub(super) struct Description(Bytes);

impl Description {
    pub(super) fn of(described: &OpenApi) -> Description {
        Description(openapi::text(described).into())
    }
}

/// This description (OpenAPI 3.1): 200.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "process",
    operation_id = "description",
    responses(
        (status = 200, description = "This description", body = Object),
        Refused,
    ),
)]
pub(crate) async fn description(Extension(Description(text)): Extension<Description>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}
