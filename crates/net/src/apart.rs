//! Connections for traffic that must not wait for callers, or keep callers waiting, told apart by
//! their first bytes.
//!
//! In: what a listener accepts. Out: a stream of connections for each kind of traffic, to be served
//! on a runtime of its own: however busy callers keep their threads, what members of Raft groups
//! say is read; and however much is scanned, calls are answered. The connector greets
//! (`connect::Traffic`).
//!
//! Not here: whether a call is admitted ([`crate::accept`]). Anybody may greet, and is then offered
//! the services of that traffic.

use std::io;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::service::Routes;

use crate::accept::{Acceptor, Connection, FIRST_CALL_MS_MAX, HeldPlace};
use crate::connect::{GREETING_BYTES, Traffic};

/// Connections that were told apart and wait to be served.
const TOLD_APART_MAX: usize = 64;

/// What is served to connections for one kind of traffic.
pub struct Apart {
    /// The traffic.
    pub traffic: Traffic,
    /// What is served.
    pub routes: Routes,
    /// The runtime whose threads serve it.
    pub on: Handle,
}

/// Where connections go once they are told apart.
#[derive(Clone)]
pub(crate) struct Ways {
    callers: mpsc::Sender<Connection>,
    apart: Vec<(Traffic, mpsc::Sender<Handed>)>,
}

/// Connections without a greeting.
pub(crate) struct Callers(mpsc::Receiver<Connection>);

/// Connections of one kind of traffic.
pub(crate) struct Told(mpsc::Receiver<Handed>);

/// A connection on its way to the threads of another runtime.
struct Handed {
    stream: std::net::TcpStream,
    place: HeldPlace,
}

impl Ways {
    /// The way of connections without a greeting. [`Ways::add`] opens others.
    pub(crate) fn new() -> (Ways, Callers) {
        let (callers, of_callers) = mpsc::channel(TOLD_APART_MAX);
        (Ways { callers, apart: vec![] }, Callers(of_callers))
    }

    /// A way for this traffic.
    pub(crate) fn add(&mut self, traffic: Traffic) -> Told {
        let (way, told) = mpsc::channel(TOLD_APART_MAX);
        self.apart.push((traffic, way));
        Told(told)
    }

    /// Accepts connections for as long as it is polled, and sends each on its way.
    pub(crate) async fn accept(self, mut acceptor: Acceptor) {
        loop {
            let connection = acceptor.next().await;
            tokio::spawn(self.clone().send(connection));
        }
    }

    /// What says nothing in time, or greets for what is not served, is closed; and so is what
    /// nobody serves any more.
    async fn send(self, mut connection: Connection) {
        let limit = Duration::from_millis(FIRST_CALL_MS_MAX);
        let Ok(Ok(greeting)) = tokio::time::timeout(limit, greeting(connection.stream())).await
        else {
            return;
        };
        let Some(greeting) = greeting else {
            return drop(self.callers.send(connection).await);
        };
        let way = self.apart.iter().find(|(traffic, _)| traffic.greeting() == Some(&greeting));
        let (stream, place) = connection.into_parts();
        if let (Some((_, way)), Ok(stream)) = (way, stream.into_std()) {
            drop(way.send(Handed { stream, place }).await);
        }
    }
}

/// Takes the greeting. None for a connection that begins without one.
async fn greeting(stream: &mut TcpStream) -> io::Result<Option<[u8; GREETING_BYTES]>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let greetings = [Traffic::Scans, Traffic::Members].map(Traffic::greeting);
    if !greetings.into_iter().flatten().any(|greeting| greeting.starts_with(&first)) {
        return Ok(None);
    }
    let mut greeting = [0; GREETING_BYTES];
    stream.read_exact(&mut greeting).await?;
    Ok(Some(greeting))
}

impl Callers {
    /// The connections as they come.
    pub(crate) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        unfold(self.0, |mut queue| async { Some((Ok(queue.recv().await?), queue)) })
    }
}

impl Told {
    /// The connections as they come, for a server of the runtime that polls them.
    pub(crate) fn incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        unfold(self.0, |mut queue| async {
            let Handed { stream, place } = queue.recv().await?;
            Some((TcpStream::from_std(stream).map(|stream| Connection::new(stream, place)), queue))
        })
    }
}
