//! What the servers count: told by every role, correct after work, documented, and bounded. The
//! dashboard and the alerts in `deploy/` ask for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use flotilla_tests::binary::workspace;
use flotilla_tests::metrics::{Exposition, labels, scrape};
use flotilla_tests::{Cluster, Process, free_port, http, wait_for};

/// A server that has not answered by then has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// The labels that there are, and how many values each may have here.
const LABELS: &[(&str, usize)] = &[
    ("cause", 15),
    ("direction", 2),
    ("event", 8),
    ("health", 5),
    ("id", 3),
    ("kind", 9),
    ("lane", 2),
    ("le", 15),
    ("member", 1),
    ("method", 7),
    ("op", 12),
    ("origin", 3),
    ("part", 9),
    ("result", 7),
    ("role", 3),
    ("route", 20),
    ("stage", 5),
    ("state", 12),
    ("status", 20),
    ("store", 3),
    ("version", 1),
    ("what", 8),
];

/// Rows that the test writes and reads.
const ROWS: u64 = 20;

fn work(addr: &str) {
    for row in 0..ROWS {
        let path = format!("/v1/kv/secret-key-{row}");
        let put = format!("PUT {path}");
        http::request(addr, &put, &[], b"secret-value").expect("an answer").expect(204);
        let get = format!("GET {path}");
        http::request(addr, &get, &[], b"").expect("an answer").expect(200);
    }
    http::request(addr, "GET /nowhere", &[], b"").expect("an answer").expect(404);
}

fn wait_for_http(addr: &str) {
    wait_for("the HTTP API", DEADLINE, || {
        match http::request(addr, "GET /readyz", &[], b"").map(|response| response.status) {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn every_role_tells_what_it_counts_and_the_deployment_asks_for_nothing_else() {
    let mut cluster = Cluster::stopped(3, "64MiB").with_http();
    cluster.start_all();
    let gateway = format!("127.0.0.1:{}", free_port());
    let args = ["gateway", "--addr", &gateway, "--pd", &cluster.pd_addrs()].map(String::from);
    let _gateway = Process::start("gateway", cluster.scratch(), &args);
    cluster.wait_healthy();
    let servers = [cluster.http_addrs(), vec![gateway.clone()]].concat();
    servers.iter().for_each(|addr| wait_for_http(addr));
    // Whatever a server counts by requests is there once it has had one.
    servers.iter().for_each(|addr| work(addr));
    let before: Vec<Exposition> = servers.iter().map(|addr| scrape(addr)).collect();
    work(&gateway);
    let after: Vec<Exposition> = servers.iter().map(|addr| scrape(addr)).collect();
    check_growth(&before, &after);
    check_work(&before, &after);
    check_labels(&after);
    check_pages(&after);
    check_deployment(&after);
}

/// Counters, and what histograms count, never fall.
fn check_growth(before: &[Exposition], after: &[Exposition]) {
    let is_count = |series: &str| {
        let name = labels(series).0;
        ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end))
    };
    let mut grown = 0;
    for (before, after) in before.iter().zip(after) {
        for (series, value) in before.samples.iter().filter(|(series, _)| is_count(series)) {
            let now = after.samples.get(series).unwrap_or_else(|| panic!("{series} is gone"));
            assert!(now >= value, "{series} fell from {value} to {now}");
            grown += usize::from(now > value);
        }
    }
    assert!(grown > 50, "{grown} series grew");
}

/// The work that was done is what was counted.
fn check_work(before: &[Exposition], after: &[Exposition]) {
    let sum = |told: &[Exposition], name: &str, labels: &[(&str, &str)]| -> f64 {
        told.iter().filter_map(|told| told.sum(name, labels)).sum()
    };
    let grown =
        |name: &str, labels: &[(&str, &str)]| sum(after, name, labels) - sum(before, name, labels);
    let rows = ROWS as f64;
    for stage in ["inbox", "log", "quorum", "apply", "whole"] {
        let name = "flotilla_store_write_stage_seconds_count";
        assert_eq!(grown(name, &[("stage", stage)]), rows, "{stage}");
    }
    let reads = grown("flotilla_store_read_seconds_count", &[]);
    assert!(reads >= rows, "{reads} reads");
    let proposals = grown("flotilla_store_proposals_total", &[]);
    assert!((1.0..=rows).contains(&proposals), "{proposals} proposals");
    assert!(grown("flotilla_store_applies_total", &[]) >= 2.0 * proposals, "by a quorum at least");
    let route = [("route", "/v1/kv/{*key}"), ("method", "PUT"), ("status", "204")];
    assert_eq!(grown("flotilla_http_requests_total", &route), rows);
    assert_eq!(sum(after, "flotilla_store_regions", &[]), 3.0, "one region on three stores");
    assert_eq!(sum(after, "flotilla_store_regions", &[("state", "leader")]), 1.0);
    assert_eq!(sum(after, "flotilla_pd_stores", &[("state", "up")]), 3.0);
    assert_eq!(sum(after, "flotilla_pd_is_leader", &[]), 1.0);
    let held = sum(after, "flotilla_store_memory_bytes", &[("part", "write_buffers")]);
    assert!(held > 0.0, "what was written is in memory");
    let bound = sum(after, "flotilla_store_memory_max_bytes", &[("part", "answers")]);
    assert_eq!(bound, 3.0 * f64::from(64 << 20), "an eighth of 512 MiB on each store");
    for told in after {
        assert!(told.sum("process_resident_memory_bytes", &[]) > Some(1e6));
        assert!(told.bytes < 128 * 1024, "{} bytes", told.bytes);
    }
}

/// No label is unknown or has more values than it may, and no key or value is told.
fn check_labels(told: &[Exposition]) {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for series in told.iter().flat_map(|told| told.samples.keys()) {
        assert!(!series.contains("secret"), "{series}");
        for (name, value) in labels(series).1 {
            values.entry(name).or_default().insert(value);
        }
    }
    for (name, values) in values {
        let bound = LABELS.iter().find(|(known, _)| *known == name);
        let (_, bound) = bound.unwrap_or_else(|| panic!("a new label: {name}"));
        assert!(values.len() <= *bound, "{name} has {} values: {values:?}", values.len());
    }
}

/// `docs/metrics.md` has a row for each family, and for no other.
fn check_pages(told: &[Exposition]) {
    let page = fs::read_to_string(workspace().join("docs/metrics.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<&str> = rows.map(|(name, _)| name).collect();
    let mut families: BTreeMap<String, &str> = BTreeMap::new();
    for (name, family) in told.iter().flat_map(|told| &told.families) {
        assert!(family.help.len() > 8, "{name}: {}", family.help);
        for unit in ["seconds", "bytes"] {
            assert_eq!(name.ends_with(unit), family.unit == unit, "{name}: {family:?}");
        }
        let end = if family.kind == "counter" { "_total" } else { "" };
        families.insert(format!("{name}{end}"), &family.help);
    }
    for (name, help) in &families {
        assert!(documented.contains(name.as_str()), "docs/metrics.md lacks | `{name}` | {help} |");
    }
    let is_told = |name: &&&str| families.contains_key(**name);
    let gone: Vec<&&str> = documented.iter().filter(|name| !is_told(name)).collect();
    assert!(gone.is_empty(), "docs/metrics.md has what no server tells: {gone:?}");
}

/// Every query of the dashboard and the alerts names series that exist.
fn check_deployment(told: &[Exposition]) {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect("a file");
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/flotilla.json")).expect("JSON");
    let mut queries = vec![];
    find_queries(&dashboard, &mut queries);
    assert!(queries.len() > 20, "{} queries on the dashboard", queries.len());
    let alerts = read("deploy/prometheus/alerts.yml");
    let exprs = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let before = queries.len();
    queries.extend(exprs.map(String::from));
    assert_eq!(queries.len() - before, alerts.matches("- alert: ").count(), "one line for each");
    assert!(queries.len() - before > 8, "too few alerts");
    for query in &queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty() || query.starts_with("up{"), "{query} names no series");
        for (name, wanted) in selectors {
            let exists = told.iter().flat_map(|told| told.samples.keys()).any(|series| {
                let (known, labels) = labels(series);
                known == name && wanted.iter().all(|wanted| matches(&labels, wanted))
            });
            assert!(exists, "{query}: no server tells {name} with {wanted:?}");
        }
    }
}

fn find_queries(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(|expr| expr.as_str()).map(String::from));
            fields.values().for_each(|value| find_queries(value, found));
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| find_queries(value, found));
        }
        _ => {}
    }
}

/// A label, and the value that it must have if only one will do.
type Wanted<'a> = (&'a str, Option<&'a str>);

fn matches(labels: &[(&str, &str)], (name, value): &Wanted<'_>) -> bool {
    labels.iter().any(|(known, has)| known == name && value.is_none_or(|value| value == *has))
}

/// The series that a query names, each with its labels.
fn selectors(query: &str) -> Vec<(&str, Vec<Wanted<'_>>)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = vec![];
    let mut rest = query;
    while let Some(at) = ["flotilla_", "process_"].iter().filter_map(|begin| rest.find(begin)).min()
    {
        let text = &rest[at..];
        let end = text.find(|letter| !is_name(letter)).unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        let inside = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let (inside, after) = inside.unwrap_or(("", after));
        found.push((name, inside.split(',').filter_map(wanted).collect()));
        rest = after;
    }
    found
}

fn wanted(matcher: &str) -> Option<Wanted<'_>> {
    let (name, rest) = matcher.trim().split_once(['=', '!'])?;
    let exact = rest.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    // A variable of the dashboard stands for any value.
    Some((name, exact.filter(|value| matcher.contains("=\"") && !value.contains('$'))))
}

#[test]
fn the_names_in_a_query_are_found() {
    let query = "sum by (le) (rate(flotilla_a_bucket{stage=\"log\", id=~\"1|2\"}[5m])) / process_b";
    let wanted = vec![("stage", Some("log")), ("id", None)];
    assert_eq!(selectors(query), [("flotilla_a_bucket", wanted), ("process_b", vec![])]);
}

#[test]
fn servers_of_one_process_are_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let http_port = free_port().to_string();
    let args = ["playground", "--stores", "2", "--pd-port", "0", "--http-port", &http_port];
    let mut playground = Process::start("metrics-playground", dir.path(), &args.map(String::from));
    playground.wait_for_line("ready", DEADLINE);
    let told = scrape(&format!("127.0.0.1:{http_port}"));
    for store in ["1", "2"] {
        assert!(told.sum("flotilla_store_regions", &[("store", store)]).is_some(), "{store}");
    }
    assert_eq!(told.sum("flotilla_store_regions", &[("state", "leader")]), Some(1.0));
    assert_eq!(told.sum("flotilla_build_info", &[("role", "playground")]), Some(1.0));
}
