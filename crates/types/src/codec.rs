//! How messages are read from the wire: by prost, within a bound on what they take in memory.
//!
//! The bytes of a message are bounded where its frame is read
//! ([`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX)). That is no bound on memory: an empty
//! message inside a repeated field takes two bytes on the wire and some hundred in memory, so that
//! 17 MiB would become more than a gigabyte. Every field and every element begins with a number,
//! so the numbers that decoding takes are counted; keys and values are not, however long.

use bytes::{Buf, Bytes};
use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

/// The most numbers in one message: tags, lengths and values. A chunk of rows has the most, if all
/// of them are short: six in each row, whose stored key and format take eight bytes at least. So
/// there are fewer than the chunk has bytes. In memory they are 100 MiB at most.
pub const MESSAGE_NUMBERS_MAX: usize = crate::limits::CHUNK_BYTES_MAX;

/// The codec of every method of [`crate::proto`].
#[derive(Clone, Debug)]
pub struct BoundedCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> BoundedCodec<T, U> {
        BoundedCodec(ProstCodec::default())
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Decodes one message after the other.
#[derive(Clone, Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        decode(bytes, MESSAGE_NUMBERS_MAX).map(Some)
    }
}

fn decode<U: Message + Default>(bytes: impl Buf, numbers_max: usize) -> Result<U, Status> {
    let mut counted = Counted { bytes, numbers_left: numbers_max };
    let decoded = U::decode(&mut counted);
    if counted.numbers_left == 0 {
        let reason = format!("a message of {numbers_max} fields or more");
        return Err(Status::out_of_range(reason));
    }
    decoded.map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Bytes that end once so many numbers were taken from them.
struct Counted<B> {
    bytes: B,
    numbers_left: usize,
}

impl<B: Buf> Buf for Counted<B> {
    fn remaining(&self) -> usize {
        if self.numbers_left == 0 { 0 } else { self.bytes.remaining() }
    }

    fn chunk(&self) -> &[u8] {
        if self.numbers_left == 0 { &[] } else { self.bytes.chunk() }
    }

    /// prost takes a number, and what it skips, by this; keys and values by
    /// [`Buf::copy_to_bytes`].
    fn advance(&mut self, count: usize) {
        self.numbers_left = self.numbers_left.saturating_sub(1);
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHUNK_BYTES_MAX;
    use crate::proto::{Pair, RequestBatch, SnapshotRows};

    fn decoded<U: Message + Default>(bytes: Vec<u8>) -> Result<U, tonic::Code> {
        decode(Bytes::from(bytes), MESSAGE_NUMBERS_MAX).map_err(|status| status.code())
    }

    #[test]
    fn a_chunk_of_the_smallest_rows_is_read_whole() {
        let row = |row: u32| {
            let key = [&[0; 4][..], &row.to_be_bytes()[1..]].concat().into();
            Pair { key, value: Bytes::from_static(&[1]) }
        };
        let pairs: Vec<Pair> = (0..CHUNK_BYTES_MAX as u32 / 8).map(row).collect();
        let rows = SnapshotRows { pairs, crc32: 0 };
        assert_eq!(decoded(rows.encode_to_vec()), Ok(rows));
    }

    #[test]
    fn a_message_that_swells_is_refused_before_it_has() {
        let empty: Vec<u8> = [3 << 3 | 2, 0].repeat(MESSAGE_NUMBERS_MAX / 2 - 1);
        assert!(decoded::<RequestBatch>(empty).is_ok_and(|batch| !batch.requests.is_empty()));
        let swelling = [3 << 3 | 2, 0].repeat(8 << 20);
        assert_eq!(decoded::<RequestBatch>(swelling), Err(tonic::Code::OutOfRange));
    }

    #[test]
    fn what_is_no_message_is_an_invalid_argument() {
        assert_eq!(decoded::<RequestBatch>(vec![0x1a, 9]), Err(tonic::Code::InvalidArgument));
    }
}
