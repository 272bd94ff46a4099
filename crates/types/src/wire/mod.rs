//! Conversions between the generated messages of [`crate::proto`] and the domain types.
//!
//! A conversion into a message always succeeds, except where a domain type has no message. A
//! conversion from a message may fail, because the bytes came from outside: a missing field is an
//! error here and nowhere else.
//!
//! * `region`: regions, members, ranges, changes of members.
//! * `request`: requests, answers and writes.
//! * `refusal`: [`RegionError`](crate::RegionError).
//! * `command`: the payload of a log entry.
//!
//! Deliberately not here: limits. [`crate::request::validate`] checks them on the domain types.

mod command;
mod refusal;
mod region;
mod request;

pub use request::{decode_op, decode_reply, encode_op, encode_reply, entry_bytes};

/// Bytes from outside that do not mean anything to this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are not a message.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The message lacks a field without which it means nothing.
    #[error("message without {0}")]
    Missing(&'static str),
    /// The message holds something that this version does not know, or that does not belong there.
    #[error("{0} is not supported by this version")]
    Unsupported(&'static str),
    /// A newer version wrote the message.
    #[error("unknown format {format}; a newer version wrote this")]
    Format {
        /// The format number found.
        format: u32,
    },
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> WireError {
        WireError::Malformed(error.to_string())
    }
}
