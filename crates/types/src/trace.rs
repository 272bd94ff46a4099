//! The name of a request in the logs of all that it passes.

use std::fmt;
use std::sync::Arc;

/// Characters of a trace id: those of a UUID, or of a W3C trace context, and some more.
pub const TRACE_ID_BYTES_MAX: usize = 64;

/// Names a request in the logs of client, gateway and store: 1 to [`TRACE_ID_BYTES_MAX`] characters
/// of visible ASCII without quotes, so that it can stand in a header and in a line of a log. A name
/// helps people; nothing is decided by it, and it may be given twice.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceId(Arc<str>);

/// The text is no trace id: it is empty, too long, or has other characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTraceId;

impl TraceId {
    /// The id of this number, in 16 hex digits.
    pub fn of(number: u64) -> TraceId {
        TraceId(format!("{number:016x}").into())
    }

    /// As it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for TraceId {
    type Error = NoTraceId;

    fn try_from(text: &str) -> Result<TraceId, NoTraceId> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
        let is_one = (1..=TRACE_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits);
        if is_one { Ok(TraceId(text.into())) } else { Err(NoTraceId) }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_break_a_line_or_a_header() {
        let is_one = |text: &str| TraceId::try_from(text).is_ok();
        assert!(is_one("7c2e-order/42") && is_one(&"f".repeat(TRACE_ID_BYTES_MAX)));
        for bad in ["", "a b", "a\nb", "\"a\"", "a\\b", "\u{e9}", "\u{1b}[31m"] {
            assert!(!is_one(bad), "{bad:?}");
        }
        assert!(!is_one(&"f".repeat(TRACE_ID_BYTES_MAX + 1)));
        assert_eq!(TraceId::of(255).to_string(), "00000000000000ff");
    }
}
