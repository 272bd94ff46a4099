//! An accepted connection as its server reads and writes it: with TLS or without.
//!
//! In: a connection and the configuration. Out: a stream whose [`Place`] says who calls. The
//! handshake is part of the first read, so that a caller that dawdles holds up nobody else; the
//! connection's own time limit for its first call ends it. A caller who is refused was sent the
//! reason, and has until then to read it: a connection that is closed with bytes unread takes what
//! was sent with it.
//!
//! Invariant: with TLS, nothing is read before the caller's certificate was checked and read.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::{FallibleAccept, TlsStream};
use tonic::transport::server::Connected;
use tracing::warn;

use crate::accept::{Connection, Place};
use crate::fault::{handshake_fault, is_not_tls};
use crate::principal::Principal;
use crate::tls::Tls;

/// Failed handshakes are logged at most this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// When a failed handshake was logged last.
static LOGGED: Mutex<Option<Instant>> = Mutex::new(None);

/// The protocol that is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Ours, over HTTP/2.
    Calls,
    /// HTTP/1.1.
    Http,
}

/// A connection that is served.
pub struct Incoming {
    state: State,
    place: Place,
}

enum State {
    Plain(Connection),
    Handshake(Box<FallibleAccept<Connection>>),
    Tls(Box<TlsStream<Connection>>),
    Refused(Connection),
    Ended,
}

impl Incoming {
    pub(crate) fn new(connection: Connection, tls: Option<&Tls>, protocol: Protocol) -> Incoming {
        let place = connection.place();
        let Some(tls) = tls else { return Incoming { state: State::Plain(connection), place } };
        let loaded = tls.current();
        let config = match protocol {
            Protocol::Calls => loaded.calls.clone(),
            Protocol::Http => loaded.http.clone(),
        };
        let handshake = TlsAcceptor::from(config).accept(connection).into_fallible();
        Incoming { state: State::Handshake(Box::new(handshake)), place }
    }

    /// Its place, by which those who serve its calls admit them and learn who calls.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// The stream, once the handshake is done.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Open<'_>>> {
        if let State::Handshake(handshake) = &mut self.state {
            self.state = match ready!(Pin::new(handshake).poll(cx)) {
                Ok(stream) => match Principal::of_chain(stream.get_ref().1.peer_certificates()) {
                    Ok(principal) => {
                        self.place.identify(principal);
                        State::Tls(Box::new(stream))
                    }
                    Err(error) => {
                        log(&error);
                        State::Ended
                    }
                },
                Err((error, connection)) => {
                    log(&error);
                    State::Refused(connection)
                }
            };
        }
        Poll::Ready(match &mut self.state {
            State::Plain(stream) => Ok(Open::Plain(Pin::new(stream))),
            State::Tls(stream) => Ok(Open::Tls(Pin::new(stream))),
            State::Refused(stream) => Ok(Open::Refused(Pin::new(stream))),
            State::Handshake(_) | State::Ended => Err(io::ErrorKind::ConnectionAborted.into()),
        })
    }
}

/// What reads and writes go to.
enum Open<'a> {
    Plain(Pin<&'a mut Connection>),
    Tls(Pin<&'a mut TlsStream<Connection>>),
    /// What comes is passed over, and what is written goes nowhere.
    Refused(Pin<&'a mut Connection>),
}

/// Passes over what a caller sends who is refused, to its end.
fn pass_over(mut stream: Pin<&mut Connection>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut bytes = [0; 1024];
    loop {
        let mut buf = ReadBuf::new(&mut bytes);
        ready!(stream.as_mut().poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

/// One line for a handshake that failed. A caller that went away in the middle is none.
fn log(error: &io::Error) {
    let is_gone = error.get_ref().is_none() || error.kind() == io::ErrorKind::UnexpectedEof;
    let mut logged = LOGGED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if is_gone || logged.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
        return;
    }
    *logged = Some(Instant::now());
    let reason = match is_not_tls(error) {
        true => "it does not speak TLS".to_string(),
        false => handshake_fault(error),
    };
    warn!(reason, "a caller is refused");
}

impl Connected for Incoming {
    type ConnectInfo = Place;

    fn connect_info(&self) -> Place {
        self.place()
    }
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_open(cx))? {
            Open::Plain(stream) => stream.poll_read(cx, buf),
            Open::Tls(stream) => stream.poll_read(cx, buf),
            Open::Refused(stream) => pass_over(stream, cx),
        }
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_open(cx))? {
            Open::Plain(stream) => stream.poll_write(cx, bytes),
            Open::Tls(stream) => stream.poll_write(cx, bytes),
            Open::Refused(_) => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_open(cx))? {
            Open::Plain(stream) => stream.poll_write_vectored(cx, slices),
            Open::Tls(stream) => stream.poll_write_vectored(cx, slices),
            Open::Refused(_) => Poll::Ready(Ok(slices.iter().map(|bytes| bytes.len()).sum())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_open(cx))? {
            Open::Plain(stream) => stream.poll_flush(cx),
            Open::Tls(stream) => stream.poll_flush(cx),
            Open::Refused(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Refused(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Handshake(_) | State::Ended => Poll::Ready(Ok(())),
        }
    }
}
