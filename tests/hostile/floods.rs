//! Much of what is allowed: frames, resets, connections.

use std::time::{Duration, Instant};

use flotilla_tests::process::descriptors_max;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::frames::*;
use crate::wire::CLOSED_TIME_MAX;

/// How long a flood goes on.
const FLOOD_TIME: Duration = Duration::from_secs(1);

/// Connections of a flood.
const FLOODERS: usize = 4;

/// Idle connections: as many, or what the limit of descriptors leaves.
const IDLE: usize = 10_000;

/// A flood: what one connection sends again and again. Streams count up by two.
type Flood = (&'static str, fn(u32) -> Vec<u8>);

const FLOODS: [Flood; 9] = [
    ("settings", |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
    ("pings", |_| frame(PING, 0, 0, &[7; 8])),
    ("priorities", |stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1])),
    ("windows", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    ("unknown frames", |stream| frame(77, 0, stream, &[1; 1000])),
    ("resets", |stream| {
        let open = frame(HEADERS, END_HEADERS, stream, &call_fields("/flotilla.v1.Kv/Scan"));
        [open, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    }),
    ("streams without end", |stream| {
        frame(HEADERS, END_HEADERS, stream, &call_fields("/flotilla.v1.Kv/Requests"))
    }),
    ("calls of no method", |stream| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &call_fields("/nothing"))
    }),
    ("empty data", |stream| {
        let open = frame(HEADERS, END_HEADERS, stream, &call_fields("/flotilla.v1.Pd/Call"));
        [open, frame(DATA, 0, stream, &[]).repeat(100)].concat()
    }),
];

/// Each flood on some connections of each server, whose answers nobody reads. Answers the number of
/// cases: that those beside it are served is seen elsewhere.
pub async fn run(addrs: &[String]) -> usize {
    for (name, flood) in FLOODS {
        let begun = Instant::now();
        let mut floods = JoinSet::new();
        for addr in addrs {
            for _ in 0..FLOODERS / 2 {
                floods.spawn(send(addr.clone(), flood));
            }
        }
        let frames: usize = floods.join_all().await.into_iter().sum();
        println!("{name}: {frames} in {:?}", begun.elapsed());
    }
    FLOODS.len() * addrs.len()
}

/// Sends until the time is over or the server takes no more.
async fn send(addr: String, flood: fn(u32) -> Vec<u8>) -> usize {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return 0 };
    let mut sent = 0;
    let sending = async {
        stream.write_all(&opened()).await?;
        loop {
            let batch: Vec<u8> =
                (0..64u32).flat_map(|n| flood(2 * (sent as u32 + n) + 1)).collect();
            stream.write_all(&batch).await?;
            sent += 64;
        }
        #[allow(unreachable_code)]
        std::io::Result::Ok(())
    };
    // Either the time is over or the server has closed.
    let _ = timeout(FLOOD_TIME, sending).await;
    sent
}

/// A client that sends one byte after the other: it is closed, for it has made no call in time.
pub async fn slow(addr: &str) -> Option<String> {
    let mut bytes = opened();
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &call_fields("/flotilla.v1.Kv/Requests")));
    let begun = Instant::now();
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    for byte in bytes {
        if stream.write_all(&[byte]).await.is_err() {
            return None;
        }
        if begun.elapsed() > CLOSED_TIME_MAX {
            return Some(format!("a slow client of {addr} is not closed"));
        }
        let mut said = [0; 512];
        match timeout(Duration::from_millis(300), stream.read(&mut said)).await {
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(_)) => sleep(Duration::from_millis(200)).await,
            Err(_) => {}
        }
    }
    Some(format!("a slow client of {addr} got in"))
}

/// Many connections that say nothing, and as many that say the first part of a call: all are
/// closed. Answers how many there were, and what is wrong.
pub async fn idle(addrs: &[String]) -> (usize, Option<String>) {
    let count = IDLE.min(descriptors_max().saturating_sub(1_000) / 2);
    let mut connections = vec![];
    for n in 0..count {
        let Ok(mut stream) = TcpStream::connect(&addrs[n % addrs.len()]).await else { continue };
        if n % 2 == 0 {
            // Its headers go on.
            let begun = [opened(), frame(HEADERS, 0, 1, &call_fields("/flotilla.v1.Kv/Scan"))];
            let _ = stream.write_all(&begun.concat()).await;
        }
        connections.push(stream);
    }
    let opened = connections.len();
    let mut closed = JoinSet::new();
    for mut stream in connections {
        closed.spawn(async move {
            let mut said = vec![];
            timeout(CLOSED_TIME_MAX, stream.read_to_end(&mut said)).await.is_ok()
        });
    }
    let open = closed.join_all().await.into_iter().filter(|is_closed| !is_closed).count();
    (opened, (open > 0).then(|| format!("{open} of {opened} idle connections are not closed")))
}
