//! Connections whose bytes are no HTTP/2, or break its rules. Each is closed, or refused and
//! usable; none stays open without being either.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::frames::*;

/// A connection that was not admitted is closed after five seconds; some more for a machine that is
/// busy with other tests.
pub const CLOSED_TIME_MAX: Duration = Duration::from_secs(25);

/// A connection, and the bytes that are sent over it.
pub struct Wire {
    /// For people.
    pub name: &'static str,
    /// All that is sent; then the client waits.
    pub bytes: Vec<u8>,
}

/// Sends what a case says to each of the servers; answers those that do not close the connection.
pub async fn run(addrs: &[String]) -> (usize, Vec<String>) {
    let mut connections = tokio::task::JoinSet::new();
    for addr in addrs {
        for Wire { name, bytes } in cases() {
            let addr = addr.clone();
            connections.spawn(async move {
                let closed = timeout(CLOSED_TIME_MAX, send_and_read(&addr, &bytes)).await;
                closed.err().map(|_| format!("{name}: not closed"))
            });
        }
    }
    let count = connections.len();
    (count, connections.join_all().await.into_iter().flatten().collect())
}

/// Returns once the server has closed the connection: all that it has said.
pub async fn send_and_read(addr: &str, bytes: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return vec![] };
    let (mut reader, mut writer) = stream.split();
    let mut said = vec![];
    // The server may close before it has read all, which is what is waited for.
    let (_, _) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut said));
    said
}

fn cases() -> Vec<Wire> {
    let tables = [other_protocols(), rules_of_frames(), rules_of_streams(), rules_of_headers()];
    tables.into_iter().flatten().collect()
}

fn wire(name: &'static str, bytes: impl Into<Vec<u8>>) -> Wire {
    Wire { name, bytes: bytes.into() }
}

/// The preface and settings, then these frames.
fn after_opening(name: &'static str, frames: &[Vec<u8>]) -> Wire {
    wire(name, [opened(), frames.concat()].concat())
}

fn other_protocols() -> Vec<Wire> {
    vec![
        wire("nothing", b""),
        wire("one byte", b"P"),
        wire("half a preface", &PREFACE[..12]),
        wire("a preface only", PREFACE),
        wire("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        wire("HTTP/1.0", b"GET /metrics HTTP/1.0\r\n\r\n"),
        wire("HTTP/1.1 that upgrades", b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n"),
        wire("HTTP/1.1 of 1 MiB", [&b"GET /"[..], &[b'a'; 1 << 20]].concat()),
        wire("TLS", [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        wire("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        wire("zeros", [0; 4096]),
        wire("bytes of no protocol", (0..=255).collect::<Vec<u8>>().repeat(16)),
    ]
}

fn rules_of_frames() -> Vec<Wire> {
    let setting =
        |id: u8, value: u32| frame(SETTINGS, 0, 0, &[&[0, id][..], &value.to_be_bytes()].concat());
    let large = frame(DATA, 0, 1, &vec![0; 16 * 1024 + 1]);
    vec![
        wire("headers before settings", [PREFACE, &frame(HEADERS, 5, 1, &[0x82])].concat()),
        after_opening("a frame over the limit", &[large]),
        after_opening("a frame that ends early", &[frame(PING, 0, 0, &[0; 8])[..12].to_vec()]),
        after_opening("settings of 5 bytes", &[frame(SETTINGS, 0, 0, &[0; 5])]),
        after_opening("settings of a stream", &[frame(SETTINGS, 0, 1, &[0; 6])]),
        after_opening("an acknowledgement with settings", &[frame(SETTINGS, 1, 0, &[0; 6])]),
        after_opening("a window over the limit", &[setting(4, 1 << 31)]),
        after_opening("frames of 1 byte", &[setting(5, 1)]),
        after_opening("frames of 4 GiB", &[setting(5, u32::MAX)]),
        after_opening("a push of 2", &[setting(2, 2)]),
        after_opening("a ping of 7 bytes", &[frame(PING, 0, 0, &[0; 7])]),
        after_opening("a ping of a stream", &[frame(PING, 0, 1, &[0; 8])]),
        after_opening("a window of 0", &[frame(WINDOW_UPDATE, 0, 0, &[0; 4])]),
        after_opening(
            "a window that overflows",
            &[
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
            ],
        ),
        after_opening("an update of 3 bytes", &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])]),
        after_opening("a farewell of 4 bytes", &[frame(GOAWAY, 0, 0, &[0; 4])]),
        after_opening("a farewell", &[frame(GOAWAY, 0, 0, &[0; 8])]),
        after_opening("a frame of an unknown kind", &[frame(99, 255, 7, &[1; 100])]),
    ]
}

fn rules_of_streams() -> Vec<Wire> {
    let headers = |stream, flags| frame(HEADERS, flags, stream, &call_fields("/"));
    let open = |stream| headers(stream, END_HEADERS);
    vec![
        after_opening("data of stream 0", &[frame(DATA, 0, 0, b"data")]),
        after_opening("data of an idle stream", &[frame(DATA, 0, 5, b"data")]),
        after_opening("a stream of the server", &[open(2)]),
        after_opening("stream 0", &[open(0)]),
        after_opening("streams that go back", &[open(5), open(3)]),
        after_opening("a stream that is the last", &[open(0x7fff_ffff), open(1)]),
        after_opening("a reset of an idle stream", &[frame(RST_STREAM, 0, 9, &[0; 4])]),
        after_opening("a reset of 3 bytes", &[open(1), frame(RST_STREAM, 0, 1, &[0; 3])]),
        after_opening("a push", &[open(1), frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82])]),
        after_opening("a priority of 4 bytes", &[frame(PRIORITY, 0, 1, &[0; 4])]),
        after_opening("a continuation of nothing", &[frame(CONTINUATION, 4, 1, &[0x82])]),
        after_opening("a ping within headers", &[headers(1, 0), frame(PING, 0, 0, &[0; 8])]),
        after_opening("another stream within headers", &[headers(1, 0), open(3)]),
        after_opening(
            "padding over the end",
            &[frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 0x82])],
        ),
        after_opening(
            "data with padding over the end",
            &[open(1), frame(DATA, PADDED, 1, &[9, 0])],
        ),
        after_opening("more data than the window", &vec![frame(DATA, 0, 1, &[0; 16 * 1024]); 200]),
    ]
}

fn rules_of_headers() -> Vec<Wire> {
    let block = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let of = |list: &[(&str, &str)]| block(&fields(list));
    let (method, scheme, path) = ((":method", "POST"), (":scheme", "http"), (":path", "/"));
    let mib: Vec<Vec<u8>> = [frame(HEADERS, END_STREAM, 1, &call_fields("/"))]
        .into_iter()
        .chain((0..128).map(|_| frame(CONTINUATION, 0, 1, &fields(&[("a", &"b".repeat(8000))]))))
        .chain([frame(CONTINUATION, END_HEADERS, 1, &[])])
        .collect();
    let endless: Vec<Vec<u8>> = [frame(HEADERS, 0, 1, &call_fields("/"))]
        .into_iter()
        .chain((0..100_000).map(|_| frame(CONTINUATION, 0, 1, &[])))
        .collect();
    // A table entry of 4,000 bytes, and its index again and again.
    let entry = [&[0x40][..], &fields(&[("a", &"b".repeat(4000))])[1..]].concat();
    let bomb = [&entry[..], &[0xbe; 12_000]].concat();
    vec![
        after_opening("an index that there is not", &[block(&[0xff, 0xff, 0x7f])]),
        after_opening("index 0", &[block(&[0x80])]),
        after_opening("an index over 32 bits", &[block(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
        after_opening("a name over the end", &[block(&[0, 0x7f, 0x80, 0x7f])]),
        after_opening("a table of 4 GiB", &[block(&[0x3f, 0xe1, 0xff, 0xff, 0xff, 0x0f])]),
        after_opening(
            "Huffman codes that there are not",
            &[block(&[0, 0x84, 255, 255, 255, 255, 0])],
        ),
        after_opening("no method", &[of(&[scheme, path])]),
        after_opening("no path", &[of(&[method, scheme])]),
        after_opening("two paths", &[of(&[method, scheme, path, path])]),
        after_opening("a pseudo-header at the end", &[of(&[method, scheme, ("a", "b"), path])]),
        after_opening(
            "a pseudo-header of answers",
            &[of(&[method, scheme, path, (":status", "1")])],
        ),
        after_opening("a name in capitals", &[of(&[method, scheme, path, ("Name", "b")])]),
        after_opening(
            "a header of HTTP/1",
            &[of(&[method, scheme, path, ("connection", "close")])],
        ),
        after_opening("a value with a line", &[of(&[method, scheme, path, ("a", "b\r\nc: d")])]),
        after_opening("1 MiB of headers", &mib),
        after_opening("headers without end", &endless),
        after_opening("headers that swell", &[block(&bomb)]),
        after_opening("a dependency on itself", &[frame(HEADERS, 0x25, 1, &[0, 0, 0, 1, 0, 0x82])]),
    ]
}
