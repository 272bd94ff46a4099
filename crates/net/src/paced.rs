//! Answers that leave in small pieces, and that can be cut off while their reader stands still.
//!
//! HTTP/2 takes each piece of an answer that it is given and keeps it until the reader's window has
//! room, and nothing takes a piece back from it. So an answer is given to it in pieces of
//! `PIECE_BYTES`: what one stream keeps of memory that cannot be freed is one piece. The rest
//! stands here, and is let go by [`Pace::cut`].
//!
//! The messages come here encoded, each in memory of its own. tonic's encoder would keep the memory
//! of a stream's last message until the next one, however long that takes.
//!
//! In: a response with a [`Pace`] among its extensions, which the service put there in the place of
//! a body. Out: the response with the messages of the pace as its body. A response without one
//! passes as it is.
//!
//! Not here: which answers are cut off, and why.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http_body::{Body as HttpBody, Frame};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{BoxFuture, BoxStream, Bytes, Service, StdError};
use tonic::server::NamedService;
use tonic::{Code, Status};

/// Bytes of one piece: as large as a frame of HTTP/2 is by default.
const PIECE_BYTES: usize = 16 * 1024;

/// An answer on its way out of the process. Clones are of the same answer.
#[derive(Clone)]
pub struct Pace(Arc<Mutex<State>>);

struct State {
    /// The messages, each with its prefix; None after the last.
    messages: Option<BoxStream<Bytes>>,
    /// What is left of the last message.
    rest: Bytes,
    /// When the last piece left.
    moved_at: Instant,
    /// True while the answer waits for its service rather than for its reader.
    is_starved: bool,
    is_cut: bool,
    /// Whoever sends the answer.
    sender: Option<Waker>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").finish_non_exhaustive()
    }
}

impl Pace {
    /// An answer of these messages, encoded, each with the five bytes of gRPC before it.
    pub fn new(messages: BoxStream<Bytes>) -> Pace {
        Pace(Arc::new(Mutex::new(State {
            messages: Some(messages),
            rest: Bytes::new(),
            moved_at: Instant::now(),
            is_starved: true,
            is_cut: false,
            sender: None,
        })))
    }

    /// True if the reader has taken nothing for so long, although something waits for it.
    pub fn stands_still(&self, at_least: Duration) -> bool {
        let state = self.state();
        !state.is_starved && !state.is_cut && state.moved_at.elapsed() >= at_least
    }

    /// True if the answer was cut off, or has ended.
    pub fn is_over(&self) -> bool {
        self.state().is_cut
    }

    /// Ends the answer and lets go of what has not left. Its reader finds the stream reset.
    pub fn cut(&self) {
        let (messages, rest, sender) = {
            let mut state = self.state();
            state.is_cut = true;
            (state.messages.take(), std::mem::take(&mut state.rest), state.sender.take())
        };
        // Outside of the lock: what ends with the messages may ask for the state.
        drop((messages, rest));
        if let Some(sender) = sender {
            sender.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body in pieces, and the status behind them.
struct PacedBody(Pace);

impl Drop for PacedBody {
    fn drop(&mut self) {
        self.0.cut();
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut state = self.0.state();
        if state.is_cut {
            return Poll::Ready(Some(Err(Status::unavailable("the answer was not read in time"))));
        }
        (state.moved_at, state.is_starved) = (Instant::now(), false);
        if state.rest.is_empty() {
            let Some(messages) = &mut state.messages else { return Poll::Ready(None) };
            let end = match messages.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(message))) => {
                    state.rest = message;
                    None
                }
                Poll::Ready(Some(Err(status))) => Some(status),
                Poll::Ready(None) => Some(Status::new(Code::Ok, "")),
                Poll::Pending => {
                    state.is_starved = true;
                    state.sender = Some(context.waker().clone());
                    return Poll::Pending;
                }
            };
            if let Some(status) = end {
                (state.messages, state.is_starved) = (None, true);
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers)?;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        }
        let piece = state.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(state.rest.split_to(piece)))))
    }
}

/// A service whose responses leave at their [`Pace`], if they have one.
#[derive(Clone, Debug)]
pub struct Paced<S>(pub S);

impl<S, B, T> Service<Request<B>> for Paced<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Future: Send + 'static,
    T: HttpBody<Data = Bytes> + Send + 'static,
    T::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answered = self.0.call(request);
        Box::pin(async move { answered.await.map(|response| paced(response.map(Body::new))) })
    }
}

fn paced(mut response: Response<Body>) -> Response<Body> {
    match response.extensions_mut().remove::<Pace>() {
        Some(pace) => response.map(|_| Body::new(PacedBody(pace))),
        None => response,
    }
}

impl<S: NamedService> NamedService for Paced<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::stream::{self, StreamExt};

    use super::*;

    /// Tells that it was dropped.
    struct Told(Arc<AtomicBool>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// An answer of one message of so many bytes, then silence.
    fn answer(bytes: usize) -> (PacedBody, Pace, Arc<AtomicBool>) {
        let is_gone = Arc::new(AtomicBool::new(false));
        let told = Told(is_gone.clone());
        let message = stream::iter([Ok(Bytes::from(vec![7; bytes]))]).chain(stream::pending());
        let message = message.map(move |message| {
            let _ = &told;
            message
        });
        let pace = Pace::new(Box::pin(message));
        (PacedBody(pace.clone()), pace, is_gone)
    }

    async fn frame(body: &mut PacedBody) -> Option<Result<Frame<Bytes>, Status>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    async fn piece(body: &mut PacedBody) -> Result<usize, Status> {
        let frame = frame(body).await.expect("not at its end");
        frame.map(|frame| frame.into_data().map_or(0, |data| data.len()))
    }

    #[tokio::test]
    async fn an_answer_leaves_in_pieces_and_all_of_it() {
        let (mut body, pace, _) = answer(2 * PIECE_BYTES + 5);
        for expected in [PIECE_BYTES, PIECE_BYTES, 5] {
            assert_eq!(piece(&mut body).await.expect("not cut"), expected);
        }
        assert!(pace.stands_still(Duration::ZERO), "its reader has not asked for more");
        let waits = tokio::time::timeout(Duration::from_millis(1), piece(&mut body)).await;
        assert!(waits.is_err() && !pace.stands_still(Duration::ZERO), "nothing waits for it");
    }

    #[tokio::test]
    async fn the_status_follows_the_last_message() {
        let ends = [
            (vec![Ok(Bytes::from_static(b"x"))], "0"),
            (vec![Ok(Bytes::from_static(b"x")), Err(Status::unavailable("gone"))], "14"),
        ];
        for (messages, expected) in ends {
            let mut body = PacedBody(Pace::new(Box::pin(stream::iter(messages))));
            assert_eq!(piece(&mut body).await.expect("a message"), 1);
            let last = frame(&mut body).await.expect("a status").expect("no error");
            let trailers = last.into_trailers().expect("trailers");
            assert_eq!(trailers["grpc-status"], expected);
            assert!(frame(&mut body).await.is_none());
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_lets_go_and_ends_with_an_error() {
        let (mut body, pace, is_gone) = answer(2 * PIECE_BYTES);
        assert!(piece(&mut body).await.is_ok());
        assert!(!pace.stands_still(Duration::from_secs(60)));
        pace.cut();
        assert!(is_gone.load(Ordering::Relaxed));
        assert!(piece(&mut body).await.is_err());
    }

    #[tokio::test]
    async fn a_sender_that_waits_learns_of_the_cut() {
        let (mut body, pace, _) = answer(1);
        assert!(piece(&mut body).await.is_ok());
        let waiting = tokio::spawn(async move { piece(&mut body).await.is_err() });
        tokio::task::yield_now().await;
        pace.cut();
        assert!(waiting.await.expect("no panic"));
    }
}
