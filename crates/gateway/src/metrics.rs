//! What a gateway counts: requests by route, and what its client of the cluster does.
//!
//! A route is counted by its pattern, such as `/v1/kv/{*key}`: never by a path, which holds a key.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use flotilla_client::{Client, ClientStats};
use flotilla_metrics::{Counter, Histogram, Registry};
use tokio::sync::{Semaphore, watch};

use crate::limits::BODIES_BYTES_MAX;

/// The route of requests for paths that there are not.
const NO_ROUTE: &str = "none";

/// The series of one gateway.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    pub(crate) registry: Registry,
    requests: RwLock<BTreeMap<(String, &'static str, u16), Requests>>,
}

/// Requests of one route, method and status.
#[derive(Clone, Debug)]
struct Requests {
    count: Counter,
    time: Histogram,
}

impl HttpMetrics {
    /// Registers its series in `registry`.
    pub(crate) fn new(
        registry: Registry,
        client: &watch::Receiver<Option<Client>>,
        budget: &Arc<Semaphore>,
    ) -> HttpMetrics {
        register_client(&registry, client);
        let budget = budget.clone();
        registry.computed(
            "flotilla_http_budget_used_bytes",
            "Bodies of requests and answers in memory",
            &[],
            move || BODIES_BYTES_MAX.saturating_sub(budget.available_permits()) as f64,
        );
        registry.computed(
            "flotilla_http_budget_bytes",
            "Bodies of requests and answers that may be in memory",
            &[],
            || BODIES_BYTES_MAX as f64,
        );
        HttpMetrics { registry, requests: RwLock::default() }
    }

    /// A request was answered after so long. `route` is the pattern of its path, if there is one.
    pub(crate) fn answered(
        &self,
        route: Option<&str>,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let (route, status) = (route.unwrap_or(NO_ROUTE), status.as_u16());
        let key = (route.to_string(), method_name(method), status);
        let known = self.requests.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let series = known.unwrap_or_else(|| {
            let mut requests = self.requests.write().unwrap_or_else(PoisonError::into_inner);
            requests.entry(key.clone()).or_insert_with(|| self.series(&key)).clone()
        });
        series.count.inc();
        series.time.observe(took);
    }

    fn series(&self, (route, method, status): &(String, &'static str, u16)) -> Requests {
        let status = status.to_string();
        let labels = [("route", route.as_str()), ("method", *method)];
        let by_status = [&labels[..], &[("status", status.as_str())]].concat();
        Requests {
            count: self.registry.counter(
                "flotilla_http_requests_total",
                "HTTP requests that were answered, by the pattern of their path and their status",
                &by_status,
            ),
            time: self.registry.histogram(
                "flotilla_http_request_seconds",
                "Time from an HTTP request to the head of its answer",
                &labels,
            ),
        }
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What the gateway's client does; nothing until it is connected.
fn register_client(registry: &Registry, client: &watch::Receiver<Option<Client>>) {
    let stats = |client: &watch::Receiver<Option<Client>>| {
        let stats = client.borrow().as_ref().map(Client::stats);
        stats.unwrap_or_default()
    };
    let own = client.clone();
    registry.computed(
        "flotilla_client_calls_total",
        "Calls of this process's client of the cluster, without scans",
        &[],
        move || stats(&own).calls as f64,
    );
    for cause in ClientStats::causes() {
        let own = client.clone();
        registry.computed(
            "flotilla_client_failed_attempts_total",
            "Attempts of the client that failed, by cause; it tries again after most of them",
            &[("cause", cause)],
            move || stats(&own).failed_attempts.get(cause).copied().unwrap_or(0) as f64,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_pattern_and_status() {
        let registry = Registry::default();
        let budget = Arc::new(Semaphore::new(BODIES_BYTES_MAX));
        let metrics = HttpMetrics::new(registry.clone(), &watch::channel(None).1, &budget);
        for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::OK] {
            metrics.answered(Some("/v1/kv/{*key}"), &Method::GET, status, Duration::ZERO);
        }
        let strange = Method::from_bytes(b"BREW").expect("a method");
        metrics.answered(None, &strange, StatusCode::NOT_FOUND, Duration::ZERO);
        let text = registry.scrape().await;
        for line in [
            "_total{route=\"/v1/kv/{*key}\",method=\"GET\",status=\"200\"} 2",
            "_total{route=\"none\",method=\"other\",status=\"404\"} 1",
            "flotilla_client_failed_attempts_total{cause=\"not_leader\"} 0",
            "flotilla_http_budget_used_bytes 0.0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
