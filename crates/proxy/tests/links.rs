//! Links over real sockets: what each fault does, and that it can be seen in the counts.

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use flotilla_proxy::{Flow, Link, Mesh, Rules, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// What arrives at once arrives within this, on a busy machine, too.
const AT_ONCE_MAX: Duration = Duration::from_secs(5);

/// What has not arrived by then is held.
const HELD: Duration = Duration::from_millis(150);

/// A server that sends back what it receives, and a link to it.
async fn echo() -> Link {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Link::open(&addr).await.expect("a link")
}

async fn connect(link: &Link) -> TcpStream {
    TcpStream::connect(link.addr()).await.expect("the link accepts")
}

async fn read(stream: &mut TcpStream, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let read = stream.read_exact(&mut buffer);
    timeout(AT_ONCE_MAX, read).await.expect("something comes")?;
    Ok(buffer)
}

/// Sends, and reads the same back.
async fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.expect("sent");
    assert_eq!(read(stream, bytes.len()).await.expect("answered"), bytes);
}

async fn assert_silent(stream: &mut TcpStream) {
    let silent = timeout(HELD, stream.read_u8()).await;
    assert!(silent.is_err(), "something came: {silent:?}");
}

#[tokio::test]
async fn bytes_are_carried_and_counted_and_ends_are_passed_on() {
    let link = echo().await;
    let mut stream = connect(&link).await;
    exchange(&mut stream, b"hello").await;
    stream.shutdown().await.expect("closed");
    assert_eq!(stream.read(&mut [0; 8]).await.expect("the end"), 0);
    let counts = link.counts();
    assert_eq!((counts.connections, counts.resets), (1, 0));
    assert_eq!((counts.bytes_to_target, counts.bytes_to_caller), (5, 5));
}

#[tokio::test]
async fn a_cut_link_holds_what_is_sent_until_it_is_healed() {
    let link = echo().await;
    let mut stream = connect(&link).await;
    exchange(&mut stream, b"a").await;
    link.set(Rules::cut());
    stream.write_all(b"b").await.expect("the system takes it");
    let mut second = connect(&link).await;
    second.write_all(b"c").await.expect("the system takes it");
    assert_silent(&mut stream).await;
    assert_silent(&mut second).await;
    assert_eq!(link.counts().bytes_to_target, 1, "the fault is seen in the counts");
    link.heal();
    assert_eq!(read(&mut stream, 1).await.expect("it arrives"), b"b");
    assert_eq!(read(&mut second, 1).await.expect("it arrives"), b"c");
}

#[tokio::test]
async fn one_direction_is_cut_alone() {
    let link = echo().await;
    let mut stream = connect(&link).await;
    exchange(&mut stream, b"a").await;
    let held = Way { flow: Flow::Hold, ..Way::default() };
    link.set(Rules { to_caller: held, ..Rules::default() });
    stream.write_all(b"b").await.expect("sent");
    assert_silent(&mut stream).await;
    let counts = link.counts();
    assert_eq!((counts.bytes_to_target, counts.bytes_to_caller), (2, 1), "it did arrive");
    link.heal();
    assert_eq!(read(&mut stream, 1).await.expect("it arrives"), b"b");
}

#[tokio::test]
async fn what_fell_into_a_black_hole_is_lost_and_its_connection_reset_when_healed() {
    let link = echo().await;
    let mut stream = connect(&link).await;
    exchange(&mut stream, b"a").await;
    link.set(Rules::black_hole());
    stream.write_all(&[7; 100_000]).await.expect("it is taken");
    assert_silent(&mut stream).await;
    link.heal();
    let ended = read(&mut stream, 1).await.expect_err("reset");
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((link.counts().bytes_to_target, link.counts().resets), (1, 1));
    exchange(&mut connect(&link).await, b"anew").await;
}

#[tokio::test]
async fn a_delay_is_added_to_each_way_and_does_not_add_up_over_chunks() {
    let link = echo().await;
    let mut stream = connect(&link).await;
    exchange(&mut stream, b"a").await;
    let delay = Duration::from_millis(60);
    link.set(Rules::delayed(delay));
    let began = Instant::now();
    stream.write_all(&[7; 200_000]).await.expect("sent");
    read(&mut stream, 200_000).await.expect("answered");
    let took = began.elapsed();
    assert!(took >= 2 * delay, "{took:?}");
    assert!(took < 13 * delay, "each of 13 chunks waited by itself: {took:?}");
}

#[tokio::test]
async fn a_throttled_link_carries_so_many_bytes_in_a_second() {
    let link = echo().await;
    let mut stream = connect(&link).await;
    link.set(Rules::throttled(NonZeroU64::new(100_000).expect("not zero")));
    let began = Instant::now();
    exchange(&mut stream, &[7; 20_000]).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(200), "20 KB at 100 KB/s: {took:?}");
}

#[tokio::test]
async fn connections_are_reset_by_order_and_refused_by_rule() {
    let link = echo().await;
    let mut stream = connect(&link).await;
    exchange(&mut stream, b"a").await;
    link.reset();
    assert!(read(&mut stream, 1).await.is_err(), "reset");
    exchange(&mut connect(&link).await, b"anew").await;

    link.set(Rules { refuses: true, ..Rules::default() });
    // The system opens it; it ends at the first use at the latest.
    if let Ok(mut stream) = TcpStream::connect(link.addr()).await {
        assert!(read(&mut stream, 1).await.is_err(), "reset at once");
    }
}

#[tokio::test]
async fn a_target_that_does_not_listen_resets_its_callers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let link = Link::open(&addr).await.expect("a link");
    assert!(read(&mut connect(&link).await, 1).await.is_err(), "as refused");
}

#[tokio::test]
async fn a_mesh_cuts_between_sides_and_leaves_the_links_within_them() {
    let name = |name: &str| name.to_string();
    let servers = ["a", "b", "c"].map(|server| (name(server), format!("{server}.test:1")));
    let callers = ["a", "b", "c", "client"].map(name);
    let mesh = Mesh::open(&callers, &servers).await.expect("links");
    assert_eq!(mesh.dials("a").len(), 2);
    assert_eq!(mesh.dials("client").len(), 3);
    let to_b = mesh.link("a", "b").expect("there is one");
    assert!(mesh.dials("a").contains(&("b.test:1".to_string(), to_b.addr().to_string())));

    mesh.between(&["a", "client"], &["b", "c"], Rules::cut());
    let is_cut = |from, to| mesh.link(from, to).expect("there is one").rules() == Rules::cut();
    assert!(is_cut("a", "b") && is_cut("c", "a") && is_cut("client", "c"));
    assert!(!is_cut("b", "c") && !is_cut("client", "a"));
    mesh.heal();
    mesh.around("b", Rules::cut());
    assert!(is_cut("b", "a") && is_cut("client", "b") && !is_cut("a", "c"));
}
