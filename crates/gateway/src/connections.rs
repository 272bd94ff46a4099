//! What a connection may cost others: idle ones give way, and a client that does not read is let
//! go.
//!
//! Invariant: a connection is listed as idle exactly while no request of it is being answered. What
//! is still being sent then is sent to its end, for a connection is closed gracefully.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

/// The idle connections, the longest idle first.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdleConnections {
    list: Arc<Mutex<List>>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    idle: BTreeMap<u64, Arc<Notify>>,
}

/// One connection's entry; dropped with the connection.
#[derive(Debug)]
pub(crate) struct Connection {
    list: Arc<Mutex<List>>,
    place: Mutex<Option<u64>>,
    close: Arc<Notify>,
    has_called: AtomicBool,
}

impl IdleConnections {
    /// A new connection, which is idle.
    pub(crate) fn open(&self) -> Connection {
        let (place, close) = (Mutex::new(None), Arc::new(Notify::new()));
        let (list, has_called) = (self.list.clone(), AtomicBool::new(false));
        let connection = Connection { list, place, close, has_called };
        connection.idle();
        connection
    }

    /// Has the connection closed that has been idle for longest.
    pub(crate) fn close_longest(&self) {
        if let Some((_, close)) = lock(&self.list).idle.pop_first() {
            close.notify_one();
        }
    }
}

impl Connection {
    /// A request begins.
    pub(crate) fn busy(&self) {
        self.has_called.store(true, Ordering::Relaxed);
        self.unlist();
    }

    /// True once a request has begun: something may be on its way to the client.
    pub(crate) fn has_called(&self) -> bool {
        self.has_called.load(Ordering::Relaxed)
    }

    fn unlist(&self) {
        if let Some(place) = lock(&self.place).take() {
            lock(&self.list).idle.remove(&place);
        }
    }

    /// A request was answered.
    pub(crate) fn idle(&self) {
        self.unlist();
        let mut list = lock(&self.list);
        let place = list.next;
        list.next += 1;
        list.idle.insert(place, self.close.clone());
        *lock(&self.place) = Some(place);
    }

    /// Returns when the connection is to give way to others.
    pub(crate) async fn told_to_close(&self) {
        self.close.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.unlist();
    }
}

/// A stream on which a write that makes no progress for some time fails.
#[derive(Debug)]
pub(crate) struct Impatient<S> {
    inner: S,
    patience: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(crate) fn new(inner: S, patience: Duration) -> Impatient<S> {
        Impatient { inner, patience, stalled: None }
    }

    /// Passes on what a write came to, unless it has stalled for too long.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// No section under a lock leaves its data half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_connection_that_is_idle_for_longest_gives_way() {
        let connections = IdleConnections::default();
        let [first, second, third] = [(); 3].map(|()| connections.open());
        first.busy();
        second.busy();
        second.idle();
        connections.close_longest();
        third.told_to_close().await;
        connections.close_longest();
        second.told_to_close().await;
        connections.close_longest();
        first.idle();
        connections.close_longest();
        first.told_to_close().await;
        drop((first, second, third));
        assert!(lock(&connections.list).idle.is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_let_go() {
        let (mut reader, writer) = tokio::io::duplex(16);
        let mut writer = Impatient::new(writer, Duration::from_millis(20));
        writer.write_all(&[7; 16]).await.expect("there is room");
        let stalled = writer.write_all(&[7; 16]).await.expect_err("nobody reads");
        assert_eq!(stalled.kind(), io::ErrorKind::TimedOut);
        let mut read = [0; 16];
        reader.read_exact(&mut read).await.expect("what was written");
        let mut writer = Impatient::new(writer, Duration::from_secs(60));
        writer.write_all(&[8; 16]).await.expect("there is room again");
    }
}
