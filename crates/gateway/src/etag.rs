//! Entity tags: a digest of the value, 128 bits of XXH3 in hex digits.
//!
//! Equal values have equal tags, so a key whose value was changed and changed back has its old tag.
//! The digest is fast and not cryptographic: it tells values apart that were not made to collide.

use std::fmt;

use twox_hash::xxhash3_128;

/// The tag of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Etag(u128);

impl Etag {
    /// The tag of this value.
    pub(crate) fn of(value: &[u8]) -> Etag {
        Etag(xxhash3_128::Hasher::oneshot(value))
    }

    /// True if `opaque`, what a tag has between its quotes, is this tag.
    pub(crate) fn is(self, opaque: &str) -> bool {
        format!("{:032x}", self.0) == opaque
    }
}

/// As in a header, in quotes.
impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:032x}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_tags_that_stay() {
        // Clients keep tags across versions of the gateway, so the digest must not change.
        assert_eq!(Etag::of(b"").to_string(), "\"99aa06d3014798d86001c324468d497f\"");
        assert_ne!(Etag::of(b"red"), Etag::of(b"green"));
        let shown = Etag::of(b"red").to_string();
        assert!(Etag::of(b"red").is(shown.trim_matches('"')));
        assert!(!Etag::of(b"red").is(&shown));
    }
}
