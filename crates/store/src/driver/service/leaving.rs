//! Messages on their way out of a store, each with what it holds of the store's memory.
//!
//! A message's share is given back when the next message is asked for: by then HTTP/2 has taken
//! it, but for a piece of it ([`flotilla_net::paced`]). All shares of a stream are given back when
//! it is dropped.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};
use flotilla_net::paced::Pace;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::{Empty, Stream};
use tonic::{Response, Status};

use crate::driver::answers::{Answers, Share};

/// What gRPC puts before a message: no compression, and its length.
const PREFIX_BYTES: usize = 5;

/// A message, or how the stream ends, and its share.
pub type Outgoing<T> = (Result<T, Status>, Option<Share>);

/// Puts messages on their way.
pub type Way<T> = mpsc::Sender<Outgoing<T>>;

/// The body that a response has before its messages take the place of it.
pub type NoBody<T> = Empty<Result<T, Status>>;

/// The messages of one stream, encoded.
struct Leaving<T> {
    queue: mpsc::Receiver<Outgoing<T>>,
    /// That of the message before.
    share: Option<Share>,
}

/// A response of messages that hold parts of the budget, and may be cut off for it.
pub fn response<T: Message + 'static>(
    queue: mpsc::Receiver<Outgoing<T>>,
    budget: &Answers,
) -> Response<NoBody<T>> {
    let pace = Pace::new(Box::pin(Leaving { queue, share: None }));
    budget.leave_by(pace.clone());
    let mut response = Response::new(tokio_stream::empty());
    response.extensions_mut().insert(pace);
    response
}

impl<T: Message> Stream for Leaving<T> {
    type Item = Result<Bytes, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        self.share = None;
        self.queue.poll_recv(context).map(|outgoing| {
            let (message, share) = outgoing?;
            self.share = share;
            Some(message.map(|message| encoded(&message)))
        })
    }
}

fn encoded(message: &impl Message) -> Bytes {
    let bytes = message.encoded_len();
    let mut out = Vec::with_capacity(PREFIX_BYTES + bytes);
    out.put_u8(0);
    // Replies are bounded far below 4 GiB.
    out.put_u32(bytes as u32);
    message.encode_raw(&mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::proto::ScanChunk;
    use tokio_stream::StreamExt;

    #[tokio::test]
    async fn a_message_holds_its_share_until_the_next_is_asked_for() {
        let answers = Answers::new(100);
        let (way, queue) = mpsc::channel(2);
        let mut leaving = Leaving::<ScanChunk> { queue, share: None };
        for bytes in [60, 30] {
            let chunk = ScanChunk { done: true, ..ScanChunk::default() };
            way.send((Ok(chunk), Some(answers.take(bytes)))).await.expect("it is read");
        }
        let first = leaving.next().await.expect("a message").expect("no error");
        let expected: &[u8] = &[0, 0, 0, 0, 2, 24, 1];
        assert_eq!((&first[..], answers.held()), (expected, 90));
        assert!(leaving.next().await.is_some());
        assert_eq!(answers.held(), 30);
        drop(leaving);
        assert_eq!(answers.held(), 0);
    }
}
