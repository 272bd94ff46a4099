//! What every request must pass, and what every response carries.
//!
//! A request is served if it calls this server by a name of its own ([`crate::hosts`]) and, if a
//! page sent it, the page is this server's own: else a page of any site could write rows through
//! the browser of someone who can reach this server. A response says that it is to be taken as what
//! its type says, so that a value which looks like a page is not shown as one. Each request is
//! counted, by route and status, and told under its name ([`crate::trace`]).

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::hosts::{Hosts, is_same_origin};
use crate::problem::Problem;
use crate::trace;

/// What a browser may do with a response that is no page of ours.
const POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

/// Around every route.
pub(crate) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let mut response = match check(&app.hosts, &request) {
        Ok(()) => {
            let id = trace::named(request.headers());
            let pattern = route.as_ref().map_or("none", MatchedPath::as_str);
            trace::told((method.as_str(), pattern), id, next.run(request)).await
        }
        Err(problem) => problem.into_response(),
    };
    let route = route.as_ref().map(MatchedPath::as_str);
    app.metrics.answered(route, &method, response.status(), begun.elapsed());
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A value that is shown all the same runs nothing, and loads nothing.
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    // A cache asks before it answers: reads are linearizable.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

fn check<B>(hosts: &Hosts, request: &axum::http::Request<B>) -> Result<(), Problem> {
    let host = host(request)?;
    if let Some(host) = host.filter(|host| !hosts.serve(host)) {
        let detail = format!(
            "this server is not called {host:?}; call it by an address or localhost, or start it \
             with --http-host"
        );
        let status = StatusCode::MISDIRECTED_REQUEST;
        return Err(Problem::new(status, "unknown-host", "The host is not known here", detail));
    }
    let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
    match (origin.to_str(), host) {
        (Ok(origin), Some(host)) if is_same_origin(origin, host) => Ok(()),
        _ => {
            let title = "Pages of other sites are not served";
            let detail = "the request was sent by a page that is not this server's";
            Err(Problem::new(StatusCode::FORBIDDEN, "other-origin", title, detail))
        }
    }
}

/// The name that the request calls the server by. A request of HTTP/1.0, which no browser sends,
/// may have none.
fn host<B>(request: &axum::http::Request<B>) -> Result<Option<&str>, Problem> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.as_str()));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
        (Some(Ok(host)), None) => Ok(Some(host)),
        (None, None) if request.version() == Version::HTTP_10 => Ok(None),
        _ => Err(Problem::bad_request("a request has one Host header")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn status(uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let refused = check(&Hosts::new(["db.example"]), &request).err();
        refused.map_or(200, |problem| problem.into_response().status().as_u16())
    }

    #[test]
    fn a_name_of_another_site_is_refused() {
        assert_eq!(status("/v1/kv/a", &[("host", "localhost:8080")]), 200);
        assert_eq!(status("/v1/kv/a", &[("host", "db.example")]), 200);
        assert_eq!(status("/v1/kv/a", &[("host", "evil.example")]), 421);
        assert_eq!(status("/v1/kv/a", &[]), 400);
        assert_eq!(status("/v1/kv/a", &[("host", "localhost"), ("host", "evil.example")]), 400);
        assert_eq!(status("http://evil.example/a", &[("host", "localhost")]), 421);
        let old = Request::builder().version(Version::HTTP_10).uri("/livez").body(());
        assert_eq!(check(&Hosts::default(), &old.expect("a request")), Ok(()));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let from = |origin: &str| status("/", &[("host", "localhost:8080"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8080"), 200);
        assert_eq!(from("http://evil.example"), 403);
        assert_eq!(from("null"), 403);
    }
}
