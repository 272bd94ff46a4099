//! What hostile clients of the HTTP API send gets a clear status or a closed connection, in bounded
//! memory and at nobody else's cost.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use flotilla_tests::process::descriptors_max;
use flotilla_tests::{Cluster, Process, free_port, http, wait_for};

/// A server that does not listen by then has failed.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// What a gateway holds at most, whatever its clients do: its budget for bodies and answers, twice
/// over for what is encoded, and its connections.
const MEMORY_BYTES_MAX: u64 = 384 * 1024 * 1024;

/// Idle connections: as many, or what the limit of descriptors leaves.
const IDLE: usize = 10_000;

/// A connection that makes no call is closed after five seconds, and some more pass on a machine
/// that is busy with other tests.
const CLOSED_TIME_MAX: Duration = Duration::from_secs(25);

/// All of them: more than are served at a time, of which the longest idle give way.
const OPENED_TIME_MAX: Duration = Duration::from_secs(25);

/// A request beside all this.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Readers that ask for much and take nothing, and what each asks for.
const SLOW_READERS: usize = 100;
const LARGE_BYTES: usize = 6 * 1024 * 1024;

#[test]
fn hostile_clients_get_a_clear_status_and_cost_nobody_else() {
    let cluster = Cluster::start(1, "96MiB");
    let addr = format!("127.0.0.1:{}", free_port());
    let args = ["gateway", "--addr", &addr, "--pd", cluster.pd_addr()].map(String::from);
    let gateway = Process::start("gateway", cluster.scratch(), &args);
    wait_for("an HTTP API", START_DEADLINE, || match get(&addr, "/livez") {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    put(&addr, "kept", b"value");
    put(&addr, "large", &[b'v'; LARGE_BYTES]);
    put(&addr, "page", b"<html><script>alert(1)</script></html>");
    let page = http::request(&addr, "GET /v1/kv/page", &[], b"").expect("an answer").expect(200);
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox; default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(page.header(name), Some(value), "a value that looks like a page");
    }

    heads_and_targets(&addr);
    let begun = Instant::now();
    let slow = slow_clients(&addr);
    let opened = idle_connections(&addr);
    println!("opened after {:?}", begun.elapsed());
    assert!(begun.elapsed() < OPENED_TIME_MAX, "idle ones give way to the next at once");
    beside(&addr, "idle connections");
    let readers = slow_readers(&addr);
    beside(&addr, "readers that take nothing");
    drop(readers);
    closed(slow, "a client that sends its head a byte at a time");
    closed(opened, "an idle connection");
    beside(&addr, "what is over");
    let dump = http::request(&addr, "GET /v1/dump?prefix=k", &[], b"").expect("an answer");
    assert_eq!(dump.expect(200).body, b"kept\tvalue\n");
    let held = gateway.peak_memory();
    println!("the gateway held {} MiB at most", held >> 20);
    assert!(held < MEMORY_BYTES_MAX, "the gateway held {held} bytes");
    gateway.assert_no_panic();
    cluster.check_output();
}

fn get(addr: &str, path: &str) -> io::Result<u16> {
    http::request(addr, &format!("GET {path}"), &[], b"").map(|response| response.status)
}

fn put(addr: &str, key: &str, value: &[u8]) {
    let line = format!("PUT /v1/kv/{key}");
    http::request(addr, &line, &[], value).expect("an answer").expect(204);
}

/// A request that is served while others misbehave.
fn beside(addr: &str, what: &str) {
    let begun = Instant::now();
    assert_eq!(get(addr, "/v1/kv/kept").ok(), Some(200), "beside {what}");
    println!("beside {what}: {:?}", begun.elapsed());
    assert!(begun.elapsed() < ANSWER_TIME_MAX, "beside {what}: {:?}", begun.elapsed());
}

/// Requests that are malformed or ask for what there is not; each has its status.
fn heads_and_targets(addr: &str) {
    let long = "k".repeat(8 * 1024 + 1);
    let longer = "k".repeat(1 << 20);
    let large = format!("PUT /v1/kv/k HTTP/1.1\r\nHost: a.localhost\r\nX: {longer}");
    let heads: &[(&str, &[u16])] = &[
        ("GET /v1/kv/ HTTP/1.1", &[400]),
        ("PUT /v1/kv/% HTTP/1.1", &[400]),
        ("PUT /v1/kv/%4 HTTP/1.1", &[400]),
        ("PUT /v1/kv/%zz HTTP/1.1", &[400]),
        ("PUT /v1/kv/a%2 HTTP/1.1", &[400]),
        (&format!("PUT /v1/kv/{long} HTTP/1.1"), &[414]),
        (&format!("PUT /v1/kv/{longer} HTTP/1.1"), &[414, 431, 400]),
        (&large, &[431, 400]),
        ("GET /v1/kv?cursor=made-up HTTP/1.1", &[400]),
        ("GET /v1/kv?cursor=00 HTTP/1.1", &[400]),
        ("GET /v1/kv?cursor=ffffffffffffffffffffffffffff HTTP/1.1", &[400]),
        ("GET /v1/kv?limit=-1 HTTP/1.1", &[400]),
        ("GET /v1/kv?limit=99999999999999999999999 HTTP/1.1", &[200]),
        ("GET /v1/kv?limit=0 HTTP/1.1", &[400]),
        ("GET /v1/kv?start=b&end=a HTTP/1.1", &[400]),
        ("GET /v1/kv?prefix=%zz HTTP/1.1", &[400]),
        ("GET /v1/kv?unknown=1 HTTP/1.1", &[400]),
        ("GET /v1/kv?limit=1&limit=2 HTTP/1.1", &[400]),
        ("DELETE /v1/kv HTTP/1.1", &[400]),
        ("DELETE /v1/kv?prefix= HTTP/1.1", &[400]),
        ("PUT /v1/kv/k HTTP/1.1\r\nIf-Match: *\r\nIf-None-Match: *", &[400]),
        ("PUT /v1/kv/k HTTP/1.1\r\nIf-Match: \"a\"\r\nIf-None-Match: \"b\"", &[400]),
        ("PUT /v1/kv/k HTTP/1.1\r\nIf-Match: bare", &[400]),
        ("PUT /v1/kv/k HTTP/1.1\r\nIf-Match: W/\"a\"", &[400, 412]),
        ("PUT /v1/kv/k HTTP/1.1\r\nContent-Length: 9999999999", &[413]),
        ("PUT /v1/kv/k HTTP/1.1\r\nContent-Length: 6291457", &[413]),
        ("PUT /v1/kv/k HTTP/1.1\r\nContent-Length: -1", &[400]),
        ("PUT /v1/kv/k HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2", &[400]),
        ("POST /v1/batch HTTP/1.1\r\nContent-Length: 99999999", &[413]),
        ("PATCH /v1/kv/k HTTP/1.1", &[405]),
        ("TRACE /v1/kv/k HTTP/1.1", &[405]),
        ("GET /v1/nothing HTTP/1.1", &[404]),
        ("GET /v1/kv/k HTTP/9.9", &[400, 505]),
        ("GET  HTTP/1.1", &[400, 404]),
        ("G\u{1}T / HTTP/1.1", &[400]),
        ("GET /v1/kv/k HTTP/1.1\r\nname without a value", &[400]),
        ("GET /v1/kv/k HTTP/1.1\r\nTransfer-Encoding: unknown", &[400, 501]),
        ("GET /v1/kv/k HTTP/1.1\r\nOrigin: http://evil.example", &[403]),
        ("GET /v1/kv/k HTTP/1.1\r\nOrigin: null", &[403]),
    ];
    for (head, expected) in heads {
        let host = if head.contains("Host:") { "" } else { "\r\nHost: localhost" };
        let text = format!("{head}{host}\r\nConnection: close\r\n\r\n");
        let status = http::raw(addr, text.as_bytes(), false).map(|response| response.status);
        assert!(
            status.as_ref().is_ok_and(|status| expected.contains(status)),
            "{head:.80}: {status:?}, not {expected:?}"
        );
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
        for line in ["GET /v1/kv/kept", "PUT /v1/kv/kept", "GET /livez"] {
            let refused = http::request(addr, line, &[("Host", host)], b"").expect("an answer");
            assert!([400, 421].contains(&refused.status), "{line} of {host:?}: {refused:?}");
        }
    }
}

/// Clients whose heads never end; each is returned after its first bytes.
fn slow_clients(addr: &str) -> Vec<TcpStream> {
    ["", "G", "GET /v1/kv/kept HTTP/1.1\r\n", "GET /v1/kv/kept HTTP/1.1\r\nHost: localhost\r\nX:"]
        .into_iter()
        .map(|begun| {
            let mut stream = TcpStream::connect(addr).expect("it listens");
            stream.write_all(begun.as_bytes()).expect("the beginning is taken");
            stream
        })
        .collect()
}

fn idle_connections(addr: &str) -> Vec<TcpStream> {
    let count = IDLE.min(descriptors_max().saturating_sub(1_000) / 2);
    let opened: Vec<TcpStream> = (0..count).filter_map(|_| TcpStream::connect(addr).ok()).collect();
    println!("{} idle connections", opened.len());
    opened
}

/// Clients that ask for the large value and read nothing.
fn slow_readers(addr: &str) -> Vec<TcpStream> {
    (0..SLOW_READERS)
        .map(|_| {
            let mut stream = TcpStream::connect(addr).expect("it listens");
            // An error means that it was let go already.
            let _ = stream.write_all(b"GET /v1/kv/large HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream
        })
        .collect()
}

/// All of these are closed soon.
fn closed(streams: Vec<TcpStream>, what: &str) {
    for mut stream in streams {
        stream.set_read_timeout(Some(CLOSED_TIME_MAX)).expect("a time limit");
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        let is_open = ended.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(!is_open, "{what} is not closed");
    }
}
