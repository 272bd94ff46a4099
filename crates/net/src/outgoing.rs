//! Connections that this process opens: with TLS or without.
//!
//! In: an address, whom it is to be, and the configuration. Out: a stream, or why there is none.
//! In TLS 1.3 a caller is done before its certificate was looked at, so a connection is open once
//! its first byte has come: our servers speak first, and a refusal comes in place of that byte.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::transport::Uri;

use crate::fault::{handshake_fault, is_not_tls};
use crate::principal::Principal;
use crate::tls::Tls;

/// A record of TLS that says why it ends, as a server sends it to a caller without TLS.
const ALERT: u8 = 0x15;

/// Whom a connection leads to, and what this process shows.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// The configuration, which may change before the next connection.
    pub(crate) tls: Tls,
    /// The name or address that the certificate there is to be valid for.
    pub(crate) host: String,
    /// Whom that certificate is to name; None for any store or member of the placement driver.
    pub(crate) whom: Option<Principal>,
}

/// Opens connections, and greets.
#[derive(Clone)]
pub(crate) struct Connector {
    sockets: HttpConnector,
    /// The first bytes, in front of TLS; None for a connection that begins without any.
    greeting: Option<&'static [u8]>,
    secured: Option<Secured>,
}

impl Connector {
    pub(crate) fn new(
        sockets: HttpConnector,
        greeting: Option<&'static [u8]>,
        secured: Option<Secured>,
    ) -> Connector {
        Connector { sockets, greeting, secured }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Outgoing>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sockets.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, secured) = (self.sockets.call(uri), self.secured.clone());
        let greeting = self.greeting;
        Box::pin(async move {
            let mut stream = connecting.await?.into_inner();
            if let Some(greeting) = greeting {
                stream.write_all(greeting).await?;
            }
            let stream = match secured {
                None => Outgoing::Plain { stream, has_begun: false },
                Some(secured) => Outgoing::Tls(Box::new(secured.open(stream).await?)),
            };
            Ok(TokioIo::new(stream))
        })
    }
}

impl Secured {
    async fn open(self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let Ok(name) = ServerName::try_from(self.host) else {
            return Err(io::Error::other("no certificate can be valid for this address"));
        };
        let connector = TlsConnector::from(self.tls.current().client.clone());
        let mut stream = connector.connect(name, stream).await.map_err(|error| told(&error))?;
        let first = poll_fn(|cx| Pin::new(&mut stream).poll_fill_buf(cx).map_ok(<[u8]>::is_empty));
        if first.await.map_err(|error| told(&error))? {
            return Err(io::Error::other("it ended the connection"));
        }
        let there = Principal::of_chain(stream.get_ref().1.peer_certificates())?;
        check(there, self.whom).map(|()| stream)
    }
}

fn check(there: Principal, whom: Option<Principal>) -> io::Result<()> {
    match whom {
        Some(whom) if !there.speaks_for(whom) => {
            Err(io::Error::other(format!("its certificate names {there}, and this is {whom}")))
        }
        None if !there.role.is_server() => {
            Err(io::Error::other(format!("its certificate names {there}, which serves nobody")))
        }
        Some(_) | None => Ok(()),
    }
}

/// An error of TLS in words for a person.
fn told(error: &io::Error) -> io::Error {
    let reason = match is_not_tls(error) {
        true => "it does not speak TLS, and this side does".to_string(),
        false => handshake_fault(error),
    };
    io::Error::new(error.kind(), reason)
}

/// A connection.
pub(crate) enum Outgoing {
    Plain { stream: TcpStream, has_begun: bool },
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Outgoing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Outgoing::Plain { stream, has_begun } => {
                let filled = buf.filled().len();
                ready!(Pin::new(stream).poll_read(cx, buf))?;
                let first = buf.filled().get(filled).copied();
                if !*has_begun && first == Some(ALERT) {
                    let reason = "it speaks TLS, and this side does not: see --tls-dir";
                    return Poll::Ready(Err(io::Error::other(reason)));
                }
                *has_begun = true;
                Poll::Ready(Ok(()))
            }
            Outgoing::Tls(stream) => {
                let read = ready!(Pin::new(stream).poll_read(cx, buf));
                Poll::Ready(read.map_err(|error| match error.get_ref() {
                    Some(_) => told(&error),
                    None => error,
                }))
            }
        }
    }
}

impl AsyncWrite for Outgoing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Outgoing::Plain { stream, .. } => Pin::new(stream).poll_write(cx, bytes),
            Outgoing::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Outgoing::Plain { stream, .. } => Pin::new(stream).poll_write_vectored(cx, slices),
            Outgoing::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Outgoing::Plain { stream, .. } => Pin::new(stream).poll_flush(cx),
            Outgoing::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Outgoing::Plain { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Outgoing::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
