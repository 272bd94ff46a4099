//! The HTTP API, over real processes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use flotilla_tests::http::{self, Response};
use flotilla_tests::{Cluster, Process, command, data, free_port, wait_for};
use serde_json::Value;

/// A server that does not listen by then has failed.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Longer than stores and placement drivers take to notice that others are gone.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The largest value, as the README says.
const VALUE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// A running server with an HTTP API.
struct Api {
    addr: String,
    process: Process,
}

impl Api {
    /// Starts a gateway of the cluster.
    fn of(cluster: &Cluster, name: &str) -> Api {
        let addr = format!("127.0.0.1:{}", free_port());
        let args = ["gateway", "--addr", &addr, "--pd", &cluster.pd_addrs()].map(String::from);
        let process = Process::start(name, cluster.scratch(), &args);
        wait_for_http(&addr);
        Api { addr, process }
    }

    fn send(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        http::request(&self.addr, line, headers, body)
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn get(&self, key: &str) -> Response {
        self.send(&format!("GET /v1/kv/{key}"), &[], b"")
    }

    fn put(&self, key: &str, value: &str) -> Response {
        self.send(&format!("PUT /v1/kv/{key}"), &[], value.as_bytes())
    }

    /// The lines of a response, each JSON.
    fn lines(&self, path: &str) -> Vec<Value> {
        let body = self.send(&format!("GET {path}"), &[], b"").expect(200).body;
        let text = String::from_utf8(body).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The keys of a scan, page by page, each of at most so many rows.
    fn keys_by_page(&self, range: &str, limit: usize) -> Vec<String> {
        let mut keys = vec![];
        let mut cursor = String::new();
        loop {
            let page = self.lines(&format!("/v1/kv?{range}&limit={limit}{cursor}"));
            let (end, rows) = page.split_last().expect("a last line");
            assert!(rows.len() <= limit && end["rows"] == rows.len(), "{end}");
            keys.extend(rows.iter().map(|row| row["key"].as_str().expect("text").to_string()));
            match end["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => {
                    assert_eq!(end["done"], true, "{end}");
                    return keys;
                }
            }
        }
    }

    fn raw(&self, text: &str) -> Response {
        http::raw(&self.addr, text.as_bytes(), false).unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }
}

fn wait_for_http(addr: &str) {
    wait_for(&format!("an HTTP API at {addr}"), START_DEADLINE, || {
        match http::request(addr, "GET /livez", &[], b"") {
            Ok(response) if response.status == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn a_row_is_put_read_and_deleted() {
    let cluster = Cluster::start(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    api.get("apple").expect(404);
    let put = api.put("apple", "red").expect(204);
    let got = api.get("apple").expect(200);
    assert_eq!((got.body.as_slice(), got.etag()), (&b"red"[..], put.etag()));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    let head = api.send("HEAD /v1/kv/apple", &[], b"").expect(200);
    assert_eq!((head.header("content-length"), head.etag()), (Some("3"), put.etag()));
    assert!(head.body.is_empty(), "{head:?}");
    api.send("HEAD /v1/kv/pear", &[], b"").expect(404);
    api.send("GET /v1/kv/apple", &[("If-None-Match", &put.etag())], b"").expect(304);
    assert_eq!(cluster.run(&["kv", "get", "apple"]).ok().text(), "red", "the same rows");
    for _ in 0..2 {
        api.send("DELETE /v1/kv/apple", &[], b"").expect(204);
    }
    let absent = api.get("apple").expect(404);
    assert_eq!(absent.header("content-type"), Some("application/problem+json"));
    assert_eq!(absent.json()["type"], "urn:flotilla:problem:absent");
    api.process.assert_no_panic();
}

#[test]
fn keys_and_values_are_any_bytes() {
    let cluster = Cluster::start(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    let every: Vec<u8> = (0..=u8::MAX).collect();
    let escaped: String = every.iter().map(|byte| format!("%{byte:02x}")).collect();
    api.send(&format!("PUT /v1/kv/{escaped}"), &[], &every).expect(204);
    assert_eq!(api.get(&escaped).expect(200).body, every);
    let hex: String = every.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(cluster.run(&["kv", "get", &hex, "--hex"]).ok().text(), hex);
    api.put("a/b", "slash").expect(204);
    assert_eq!(api.get("a%2Fb").expect(200).body, b"slash");
    api.put("empty", "").expect(204);
    assert_eq!(api.get("empty").expect(200).body, b"");

    let page = b"<html><script>alert(1)</script></html>";
    api.send("PUT /v1/kv/page", &[("Content-Type", "text/html")], page).expect(204);
    let page = api.get("page").expect(200);
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("content-type"), Some("application/octet-stream"));

    let largest = vec![b'v'; VALUE_BYTES_MAX];
    api.send("PUT /v1/kv/largest", &[], &largest).expect(204);
    assert_eq!(api.get("largest").expect(200).body.len(), VALUE_BYTES_MAX);
    api.process.assert_no_panic();
}

#[test]
fn a_condition_holds_or_nothing_is_written() {
    let cluster = Cluster::start(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    let put = |value: &str, condition: (&str, &str)| {
        api.send("PUT /v1/kv/key", &[condition], value.as_bytes())
    };
    let none = put("0", ("If-Match", "*")).expect(412).json();
    assert_eq!(none["current_etag"], Value::Null);
    let first = put("1", ("If-None-Match", "*")).expect(201).etag();
    let refused = put("2", ("If-None-Match", "*")).expect(412).json();
    assert_eq!(
        (&refused["current_etag"], &refused["undetermined"]),
        (&first.clone().into(), &false.into())
    );
    let second = put("2", ("If-Match", &first)).expect(204).etag();
    put("3", ("If-Match", &first)).expect(412);
    put("3", ("If-None-Match", &second)).expect(412);
    assert_eq!(api.get("key").body, b"2");
    put("3", ("If-Match", &format!("\"other\", {second}"))).expect(204);
    put("4", ("If-Match", "*")).expect(204);
    let delete = |tag: &str| api.send("DELETE /v1/kv/key", &[("If-Match", tag)], b"");
    delete(&second).expect(412);
    assert_eq!(api.get("key").body, b"4");
    delete(&api.get("key").etag()).expect(204);
    delete("*").expect(412);
    api.get("key").expect(404);
    api.process.assert_no_panic();
}

/// Writers of one key through two gateways, each write on condition of what it read: of those that
/// read one value, one wins.
#[test]
fn of_two_writers_with_one_tag_one_wins() {
    const WRITERS: u64 = 4;
    const WINS_EACH: u64 = 20;
    let cluster = Cluster::start(3, "96MiB");
    let gateways = [Api::of(&cluster, "gateway1"), Api::of(&cluster, "gateway2")];
    gateways[0].send("PUT /v1/kv/n", &[("If-None-Match", "*")], b"0").expect(201);
    let count = |api: &Api| {
        let (mut won, mut lost) = (0, 0);
        while won < WINS_EACH {
            let read = api.get("n").expect(200);
            let number: u64 = String::from_utf8_lossy(&read.body).parse().expect("a number");
            let next = (number + 1).to_string();
            let put = api.send("PUT /v1/kv/n", &[("If-Match", &read.etag())], next.as_bytes());
            match put.status {
                204 => won += 1,
                412 => lost += 1,
                _ => panic!("{put:?}"),
            }
        }
        lost
    };
    let lost: u64 = std::thread::scope(|scope| {
        let writer = |index: u64| {
            let api = &gateways[index as usize % gateways.len()];
            scope.spawn(move || count(api))
        };
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        writers.into_iter().map(|writer| writer.join().expect("no panic")).sum()
    });
    println!("{lost} writes lost their race");
    let expected = (WRITERS * WINS_EACH).to_string();
    assert_eq!(gateways[1].get("n").expect(200).body, expected.as_bytes());

    let created = std::thread::scope(|scope| {
        let create = |index: usize| {
            let api = &gateways[index % gateways.len()];
            scope.spawn(|| api.send("PUT /v1/kv/new", &[("If-None-Match", "*")], b"x").status)
        };
        let writers: Vec<_> = (0..4).map(create).collect();
        writers.into_iter().map(|writer| writer.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(created.iter().filter(|status| **status == 201).count(), 1, "{created:?}");
    assert_eq!(created.iter().filter(|status| **status == 412).count(), 3, "{created:?}");
}

#[test]
fn bad_input_gets_a_clear_status_and_changes_nothing() {
    let cluster = Cluster::start(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    api.put("kept", "value").expect(204);
    let long_key = "k".repeat(9 * 1024);
    for (line, headers, status) in [
        ("GET /v1/kv/", &[][..], 400),
        ("PUT /v1/kv/", &[], 400),
        ("PUT /v1/kv/%4", &[], 400),
        ("PUT /v1/kv/a%zz", &[], 400),
        ("GET /v1/kv/kept?limit=1", &[], 400),
        (&format!("PUT /v1/kv/{long_key}"), &[], 414),
        ("GET /v2/kv/kept", &[], 404),
        ("PATCH /v1/kv/kept", &[], 405),
        ("PUT /v1/kv/kept", &[("If-Match", "unquoted")], 400),
        ("PUT /v1/kv/kept", &[("If-Match", "*"), ("If-None-Match", "*")], 400),
        ("DELETE /v1/kv/kept", &[("If-Match", "\"a\""), ("If-None-Match", "\"a\"")], 400),
        ("GET /v1/kv/kept", &[("Host", "evil.example")], 421),
        ("DELETE /v1/kv/kept", &[("Host", "evil.example:8080")], 421),
        ("DELETE /v1/kv/kept", &[("Origin", "http://evil.example")], 403),
    ] {
        let response = api.send(line, headers, b"").expect(status);
        let problem = response.json();
        assert_eq!((&problem["status"], &problem["undetermined"]), (&status.into(), &false.into()));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{line}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
    }
    assert!(api.raw("nonsense\r\n\r\n").status == 400);
    assert_eq!(api.raw("GET /v1/kv/kept HTTP/1.1\r\nConnection: close\r\n\r\n").status, 400);
    assert_eq!(api.get("kept").expect(200).body, b"value");
    assert_eq!(cluster.dump(), b"kept\tvalue\n");
    api.process.assert_no_panic();
}

#[test]
fn a_body_over_the_limit_or_without_end_is_refused() {
    let cluster = Cluster::start(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    // Announced, and never sent: the refusal does not wait for it.
    let head = format!(
        "PUT /v1/kv/large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        VALUE_BYTES_MAX + 1
    );
    let refused = api.raw(&head).expect(413).json();
    assert_eq!(refused["max"], VALUE_BYTES_MAX);

    let mut stream = TcpStream::connect(&api.addr).expect("it listens");
    let head = "PUT /v1/kv/large HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the head is taken");
    let chunk = [format!("{:x}\r\n", 64 * 1024).as_bytes(), &[b'v'; 64 * 1024], b"\r\n"].concat();
    let mut sent = 0;
    while stream.write_all(&chunk).is_ok() {
        sent += 64 * 1024;
        assert!(sent < 64 * VALUE_BYTES_MAX, "the server takes a body without end");
    }
    let mut answer = Vec::new();
    // The answer may be lost with the connection.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    api.get("large").expect(404);
    api.put("small", "works").expect(204);
    api.process.assert_no_panic();
}

#[test]
fn rows_are_scanned_in_order_page_by_page() {
    let cluster = Cluster::start(1, "64KiB");
    let api = Api::of(&cluster, "gateway");
    cluster.run(&["kv", "load", &data::path().display().to_string()]).ok();
    let dump = String::from_utf8(cluster.dump()).expect("text");
    let all: Vec<&str> = dump.lines().filter_map(|line| line.split('\t').next()).collect();
    assert!(all.len() > 1000 && cluster.regions().len() > 1, "{} rows", all.len());

    assert_eq!(api.keys_by_page("keys_only", 700), all);
    let mut down = api.keys_by_page("reverse&keys_only", 700);
    down.reverse();
    assert_eq!(down, all);
    let some: Vec<&str> = all.iter().copied().filter(|key| key.starts_with("1F6")).collect();
    assert!(some.len() > 50);
    assert_eq!(api.keys_by_page("prefix=1F6", 33), some);
    assert_eq!(api.keys_by_page("prefix=1F6", some.len()), some, "no page more than there is");
    let between: Vec<&str> = all.iter().copied().filter(|k| ("1F60".."1F61").contains(k)).collect();
    assert_eq!(api.keys_by_page("start=1F60&end=1F61&prefix=1F", 1000), between);
    let first = &api.lines("/v1/kv?limit=1&hex")[0];
    assert_eq!(first["key"], all[0].bytes().map(|byte| format!("{byte:02x}")).collect::<String>());

    for (query, status) in [
        ("?limit=0", 400),
        ("?limits=1", 400),
        ("?start=b&end=a", 400),
        ("?cursor=made-up", 400),
        ("?cursor=01000000000000000061", 400),
        ("?prefix=%zz", 400),
    ] {
        api.send(&format!("GET /v1/kv{query}"), &[], b"").expect(status);
    }
    for query in ["", "?prefix=", "?start=a"] {
        api.send(&format!("DELETE /v1/kv{query}"), &[], b"").expect(400);
    }
    api.send("DELETE /v1/kv?prefix=1F6", &[], b"").expect(204);
    assert_eq!(api.keys_by_page("prefix=1F6", 10), Vec::<String>::new());
    assert_eq!(api.keys_by_page("", 5000).len(), all.len() - some.len());
    api.process.assert_no_panic();
}

#[test]
fn a_dump_loads_back() {
    let cluster = Cluster::start(1, "64KiB");
    let api = Api::of(&cluster, "gateway");
    let rows = std::fs::read(data::path()).expect("the test data");
    let loaded = api.send("POST /v1/load", &[], &rows).expect(200).json();
    let lines = rows.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(loaded["rows"], lines);
    let dump = api.send("GET /v1/dump", &[], b"").expect(200);
    assert_eq!(dump.body, cluster.dump());

    api.put("odd", "a\nb").expect(204);
    let refused = api.send("GET /v1/dump?prefix=odd", &[], b"").expect(409).json();
    assert_eq!(refused["type"], "urn:flotilla:problem:does-not-fit");
    let hex = api.send("GET /v1/dump?hex", &[], b"").expect(200).body;
    api.send("DELETE /v1/kv?prefix=odd", &[], b"").expect(204);
    api.send("POST /v1/load?hex", &[], &hex).expect(200);
    assert_eq!(api.get("odd").expect(200).body, b"a\nb");

    let bad = api.send("POST /v1/load", &[], b"x1\t1\nx2\t2\nno tab\nx3\t3\n").expect(400).json();
    assert_eq!((&bad["line"], &bad["rows_acknowledged"]), (&3.into(), &2.into()));
    api.get("x2").expect(200);
    api.get("x3").expect(404);
    api.process.assert_no_panic();
}

#[test]
fn many_rows_go_into_one_request() {
    let cluster = Cluster::start(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    let batch = |body: &str| api.send("POST /v1/batch", &[], body.as_bytes());
    batch(r#"{"put":[{"key":"a","value":"1"},{"key_hex":"00ff","value_hex":"fe"}]}"#).expect(204);
    let got = batch(r#"{"get":[{"key":"a"},{"key":"b"},{"key_hex":"00ff"}]}"#).expect(200).json();
    let expected = serde_json::json!({"rows": [
        {"key": "a", "value": "1"}, {"key": "b", "value": null},
        {"key_hex": "00ff", "value_hex": "fe"},
    ]});
    assert_eq!(got, expected);
    batch(r#"{"delete":[{"key":"a"},{"key":"b"}]}"#).expect(204);
    api.get("a").expect(404);
    for bad in ["", "{}", r#"{"put":[{"key":"","value":"1"}]}"#, r#"{"get":[],"delete":[]}"#] {
        batch(bad).expect(400);
    }
    let long = format!(r#"{{"put":[{{"key":"{}","value":""}}]}}"#, "k".repeat(9 * 1024));
    batch(&long).expect(414);
    api.process.assert_no_panic();
}

#[test]
fn the_clusters_state_can_be_read() {
    let cluster = Cluster::start(3, "96MiB");
    let api = Api::of(&cluster, "gateway");
    let read = |path: &str| api.send(&format!("GET {path}"), &[], b"").expect(200).json();
    let status = read("/v1/cluster/status");
    assert_eq!((&status["healthy"], &status["stores"]), (&true.into(), &3.into()), "{status}");
    assert_eq!(read("/v1/cluster/stores")["stores"].as_array().map(Vec::len), Some(3));
    let regions = read("/v1/cluster/regions?limit=1");
    assert_eq!(regions["regions"].as_array().map(Vec::len), Some(1), "{regions}");
    let told: Vec<Value> = cluster.regions().iter().map(|region| region["id"].clone()).collect();
    assert_eq!(regions["regions"][0]["id"], told[0]);
    assert!(read("/v1/cluster/operators")["operators"].is_array());
    api.send("GET /v1/cluster/regions?start=x", &[], b"").expect(400);
    api.send("POST /v1/cluster/stores", &[], b"").expect(405);
    api.process.assert_no_panic();
}

#[test]
fn a_gateway_is_ready_while_its_requests_can_succeed() {
    let mut cluster = Cluster::start(3, "96MiB");
    let api = Api::of(&cluster, "gateway");
    let ready = |status: u16, kind: Option<&str>| {
        wait_for(&format!("/readyz to say {status} {kind:?}"), READY_DEADLINE, || {
            let said = api.send("GET /readyz", &[], b"");
            let reasons = said.json()["reasons"].as_array().cloned().unwrap_or_default();
            let kinds: Vec<&Value> = reasons.iter().map(|reason| &reason["kind"]).collect();
            let is_told = kind.is_none_or(|kind| kinds.contains(&&Value::from(kind)));
            if said.status == status && is_told { Ok(()) } else { Err(format!("{said:?}")) }
        });
    };
    ready(200, None);
    cluster.kill_pd();
    ready(200, Some("pd-silent"));
    cluster.start_pd();
    cluster.kill_store(0);
    ready(200, Some("under-replicated"));
    cluster.kill_store(1);
    ready(503, Some("unavailable"));
    let refused = api.put("key", "value");
    let problem = refused.json();
    // A write that was sent before the leader was known to be gone may yet take effect.
    assert_eq!(problem["undetermined"], refused.status == 504, "{refused:?}");
    assert!(matches!(refused.status, 503 | 504), "{refused:?}");
    api.send("GET /livez", &[], b"").expect(200);
    cluster.start_store(0);
    ready(200, None);
    api.process.assert_no_panic();
}

#[test]
fn a_gateway_that_drains_serves_on_and_is_not_ready() {
    let cluster = Cluster::start(1, "96MiB");
    let addr = format!("127.0.0.1:{}", free_port());
    let pd = cluster.pd_addrs();
    let args = ["gateway", "--addr", &addr, "--pd", &pd, "--drain-time", "4s"].map(String::from);
    let process = Process::start("gateway", cluster.scratch(), &args);
    wait_for_http(&addr);
    let mut api = Api { addr, process };
    api.put("key", "value").expect(204);
    api.process.signal("TERM");
    wait_for("the gateway to drain", START_DEADLINE, || {
        let said = api.send("GET /readyz", &[], b"");
        if said.status == 503 { Ok(()) } else { Err(format!("{said:?}")) }
    });
    api.get("key").expect(200);
    let status = api.process.wait(START_DEADLINE).expect("it stops in time");
    assert!(status.success(), "{status}: {}", api.process.stderr());
}

#[test]
fn idle_connections_give_way_to_a_request() {
    /// More than are served at a time, and fewer than a process may open by default.
    const IDLE: usize = 800;
    /// Well below the time after which an idle connection is closed anyway.
    const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
    let cluster = Cluster::start(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    api.put("key", "value").expect(204);
    let connect = |_| TcpStream::connect(&api.addr).expect("it listens");
    let idle: Vec<TcpStream> = (0..IDLE).map(connect).collect();
    let start = Instant::now();
    api.get("key").expect(200);
    let took = start.elapsed();
    println!("a request beside {IDLE} idle connections took {took:?}");
    assert!(took < ANSWER_TIME_MAX, "it waited {took:?} for idle connections");
    drop(idle);
    api.process.assert_no_panic();
}

#[test]
fn a_gateway_waits_for_its_cluster_and_says_so() {
    let mut cluster = Cluster::stopped(1, "96MiB");
    let api = Api::of(&cluster, "gateway");
    let refused = api.get("apple").expect(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        (&refused.json()["retryable"], &refused.json()["undetermined"]),
        (&true.into(), &false.into())
    );
    cluster.start_all();
    cluster.wait_healthy();
    wait_for("the gateway to reach its cluster", START_DEADLINE, || {
        let put = api.put("apple", "red");
        if put.status == 204 { Ok(()) } else { Err(format!("{put:?}")) }
    });
    api.process.signal("TERM");
    let mut process = api.process;
    let status = process.wait(START_DEADLINE).expect("it stops in time");
    assert!(status.success(), "{status}: {}", process.stderr());
}

#[test]
fn every_server_serves_the_same_rows_if_it_is_asked_to() {
    let mut cluster = Cluster::stopped(1, "96MiB").with_http();
    cluster.start_all();
    cluster.wait_healthy();
    let addrs = cluster.http_addrs();
    assert_eq!(addrs.len(), 2);
    for addr in &addrs {
        wait_for_http(addr);
        let line = format!("PUT /v1/kv/{addr}");
        http::request(addr, &line, &[], addr.as_bytes()).expect("an answer").expect(204);
    }
    for (reader, written) in [(&addrs[0], &addrs[1]), (&addrs[1], &addrs[0])] {
        let line = format!("GET /v1/kv/{written}");
        let read = http::request(reader, &line, &[], b"").expect("an answer").expect(200);
        assert_eq!(read.body, written.as_bytes());
    }
    for server in 0..2 {
        let process = if server == 0 { cluster.store(0) } else { cluster.member(0) };
        process.signal("TERM");
        let status = process.wait(START_DEADLINE).expect("it stops in time");
        assert!(status.success(), "{status}: {}", process.stderr());
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = taken.local_addr().expect("bound").to_string();
    command::run(&["gateway", "--addr", &addr]).expect_code(3).expect_stderr(&["error: ", &addr]);
}

/// Everything that names requests, in the three places where a request is told.
const NAMED: &str = "flotilla_gateway=debug,flotilla_client=debug,flotilla_store=debug,info";

/// What is in a log of the request of this name and has these words.
fn told(log: &str, name: &str, words: &str) -> bool {
    log.lines().any(|line| line.contains(&format!("trace={name}")) && line.contains(words))
}

#[test]
fn a_write_has_one_name_from_the_request_to_its_apply() {
    let mut cluster = Cluster::stopped(1, "96MiB");
    cluster.start_pd();
    let logs = cluster.scratch().to_path_buf();
    let mut store = Process::start_logging("named", &logs, &cluster.store_args(0), NAMED);
    let addr = format!("127.0.0.1:{}", free_port());
    let args = ["gateway", "--addr", &addr, "--pd", &cluster.pd_addrs()].map(String::from);
    let process = Process::start_logging("gateway", &logs, &args, NAMED);
    wait_for_http(&addr);
    let api = Api { addr, process };
    wait_for("a cluster that serves", READY_DEADLINE, || {
        let ready = http::request(&api.addr, "GET /readyz", &[], b"");
        if ready.as_ref().is_ok_and(|it| it.status == 200) {
            Ok(())
        } else {
            Err(format!("{ready:?}"))
        }
    });
    let put = api.send("PUT /v1/kv/pear", &[("X-Request-Id", "order-42")], b"green").expect(204);
    assert_eq!(put.header("x-request-id"), Some("order-42"));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let get = api.send("GET /v1/kv/pear", &[("traceparent", parent)], b"").expect(200);
    assert_eq!(get.header("x-request-id"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    let unnamed = api.get("pear").expect(200);
    assert!(unnamed.header("x-request-id").is_some_and(|id| id.len() == 16), "{unnamed:?}");

    wait_for("the write in both logs", Duration::from_secs(5), || {
        let (gateway, store) = (api.process.stderr(), store.stderr());
        let is_told = told(&gateway, "order-42", "answered status=204")
            && told(&gateway, "order-42", "done")
            && told(&store, "order-42", "taken")
            && told(&store, "order-42", "applied")
            && told(&store, "order-42", "region=");
        if is_told { Ok(()) } else { Err(format!("{gateway}\n{store}")) }
    });

    // A call that tries again and again says why each time, under its name.
    store.kill();
    let args = ["kv", "get", "pear", "--request-timeout", "1s", "--pd", &cluster.pd_addrs()];
    let args = args.map(String::from);
    let mut client = Process::start_logging("client", &logs, &args, NAMED);
    client.wait(START_DEADLINE).expect("an end");
    let log = client.stderr();
    let failed = log.lines().filter(|line| line.contains("an attempt failed"));
    let failed: Vec<&str> = failed.collect();
    assert!(failed.len() > 1 && failed[0].contains("cause=\"connect_failed\""), "{log}");
    assert!(failed.iter().all(|line| line.contains("trace=")), "{log}");
}
