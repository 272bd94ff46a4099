//! The routes, one file for each resource.

mod batch;
mod cluster;
mod console;
mod description;
mod events;
mod files;
mod health;
mod kv;
mod metrics;
mod scan;

use std::sync::Arc;

use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use axum::{Extension, Router};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::guard::guard;
use crate::openapi;
use crate::problem::Problem;
use description::Description;

/// Everything that is served.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (router, described) = described().split_for_parts();
    let description = Description::of(&described);
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(Extension(description))
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// The routes, each with its description.
fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(kv::get, kv::put, kv::delete))
        .routes(routes!(scan::list, scan::delete))
        // A key of no bytes: described as one that is too short.
        .route("/v1/kv/", any(kv::no_key))
        .routes(routes!(batch::batch))
        .routes(routes!(files::dump))
        .routes(routes!(files::load))
        .routes(routes!(cluster::status))
        .routes(routes!(cluster::stores))
        .routes(routes!(cluster::regions))
        .routes(routes!(cluster::operators))
        .routes(routes!(events::events))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
        .routes(routes!(description::description))
        .routes(routes!(console::page))
        .routes(routes!(console::file))
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        let text = openapi::text(described().get_openapi());
        serde_json::from_str(&text).expect("JSON")
    }

    /// The methods that a path is described with, in capital letters.
    fn methods(item: &Value) -> BTreeSet<String> {
        item.as_object().expect("an object").keys().map(|name| name.to_uppercase()).collect()
    }

    /// The methods that a path is served with: what a method that no route has is answered with.
    async fn served(path: &str) -> BTreeSet<String> {
        let service = TowerToHyperService::new(router(Arc::new(App::alone())));
        let request = axum::http::Request::builder().method("BREW").uri(path);
        let request = request.header("host", "localhost").body(axum::body::Body::empty());
        let response = service.call(request.expect("a request")).await.expect("an answer");
        assert_eq!(response.status(), 405, "{path}");
        let allowed = response.headers().get("allow").expect("what is allowed");
        allowed.to_str().expect("text").split(',').map(str::to_string).collect()
    }

    #[tokio::test]
    async fn what_is_served_is_described() {
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        for (path, item) in paths {
            let example = path.replace("{key}", "a/b").replace("{file}", "map.js");
            assert_eq!(methods(item), served(&example).await, "{path}");
        }
        // Routes are added in one place, and each but the one for no key by its description.
        let source = include_str!("mod.rs").split("mod tests").next().expect("some");
        assert_eq!(source.matches(".route(").count(), 1);
        assert_eq!(source.matches(".routes(").count(), paths.len());
    }

    #[test]
    fn each_operation_has_a_name_of_its_own_and_tells_its_problems() {
        let document = document();
        let mut names = BTreeMap::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let name = operation["operationId"].as_str().expect("a name").to_string();
                assert_eq!(names.insert(name, path), None, "{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()));
                let responses = operation["responses"].as_object().expect("responses");
                for (status, response) in responses {
                    let is_problem = response["content"].get(openapi::PROBLEM_JSON).is_some();
                    let has_body = method != "head" && path != "/readyz";
                    assert!(
                        status.as_str() < "400" || is_problem || !has_body,
                        "{method} {path} {status}"
                    );
                }
                assert!(responses.contains_key("400"), "{method} {path}");
                for place in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                    let name = place.trim_end_matches('}');
                    let named = |parameter: &Value| parameter["name"] == name;
                    let parameters = operation["parameters"].as_array().expect("parameters");
                    assert!(parameters.iter().any(named), "{method} {path}");
                }
            }
        }
        assert!(document["components"]["schemas"].get(openapi::BATCH).is_some());
        assert!(document["components"]["schemas"].get("Problem").is_some());
    }
}
