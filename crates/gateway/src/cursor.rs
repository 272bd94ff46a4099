//! The cursor of a scan: behind which key it goes on.
//!
//! In: the scan's range and direction, and the last key that was read. Out: hex digits, which are
//! read back for the same range and direction only. A digest tells a cursor that was made up, or
//! that belongs to another scan, from one that was given out. It is no secret: a cursor lets its
//! holder read nothing that a range would not.

use bytes::Bytes;
use flotilla_types::keys::prefix_end;
use flotilla_types::limits::KEY_BYTES_MAX;
use twox_hash::xxhash3_128;

/// The format of cursors, in front of each.
const FORMAT: u8 = 1;

const DIGEST_BYTES: usize = 8;

/// What a scan reads: the keys `[start, end)`, an empty end being the last there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
    pub(crate) is_reverse: bool,
}

/// It was made up, or belongs to another scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CursorError;

impl Span {
    /// The cursor that goes on behind `last`.
    pub(crate) fn cursor(&self, last: &[u8]) -> String {
        let bytes = [&[FORMAT][..], &self.digest(last), last].concat();
        hex::encode(bytes)
    }

    /// What is left of the span behind a cursor; None if nothing is.
    pub(crate) fn after(&self, cursor: &[u8]) -> Result<Option<Span>, CursorError> {
        let bytes = hex::decode(cursor).map_err(|_| CursorError)?;
        let rest = bytes.strip_prefix(&[FORMAT]).ok_or(CursorError)?;
        let (digest, last) = rest.split_at_checked(DIGEST_BYTES).ok_or(CursorError)?;
        let is_key = (1..=KEY_BYTES_MAX).contains(&last.len());
        if !is_key || digest != self.digest(last) {
            return Err(CursorError);
        }
        let mut left = self.clone();
        if self.is_reverse {
            left.end = Bytes::copy_from_slice(last);
            return Ok(Some(left).filter(|left| left.start < left.end));
        }
        left.start = if last.len() < KEY_BYTES_MAX {
            [last, &[0]].concat().into()
        } else {
            // No key that begins with the longest key is longer.
            prefix_end(last)
        };
        let is_left = !left.start.is_empty() && (left.end.is_empty() || left.start < left.end);
        Ok(Some(left).filter(|_| is_left))
    }

    fn digest(&self, last: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut text = vec![u8::from(self.is_reverse)];
        for part in [&self.start[..], &self.end, last] {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        let digest = xxhash3_128::Hasher::oneshot(&text) as u64;
        digest.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &[u8], end: &[u8], is_reverse: bool) -> Span {
        let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        Span { start, end, is_reverse }
    }

    #[test]
    fn a_scan_goes_on_behind_the_last_key() {
        let whole = span(b"a", b"m", false);
        let cursor = whole.cursor(b"c");
        assert_eq!(whole.after(cursor.as_bytes()), Ok(Some(span(b"c\0", b"m", false))));
        let down = span(b"a", b"m", true);
        let cursor = down.cursor(b"c");
        assert_eq!(down.after(cursor.as_bytes()), Ok(Some(span(b"a", b"c", true))));
        let cursor = down.cursor(b"a");
        assert_eq!(down.after(cursor.as_bytes()), Ok(None), "nothing lies before it");
    }

    #[test]
    fn a_scan_goes_on_behind_the_longest_keys() {
        let all = span(b"", b"", false);
        let longest = [&[7; KEY_BYTES_MAX - 1][..], &[9]].concat();
        let after = [&[7; KEY_BYTES_MAX - 1][..], &[10]].concat();
        let cursor = all.cursor(&longest);
        assert_eq!(all.after(cursor.as_bytes()), Ok(Some(span(&after, b"", false))));
        let last = [0xff; KEY_BYTES_MAX];
        assert_eq!(all.after(all.cursor(&last).as_bytes()), Ok(None));
    }

    #[test]
    fn a_cursor_that_was_made_up_or_is_another_scans_is_refused() {
        let whole = span(b"a", b"m", false);
        let cursor = whole.cursor(b"c");
        for other in [span(b"b", b"m", false), span(b"a", b"n", false), span(b"a", b"m", true)] {
            assert_eq!(other.after(cursor.as_bytes()), Err(CursorError));
        }
        let longer = format!("{cursor}00");
        for bad in ["", "x", "63", "01", &longer, &cursor[2..], &cursor.replace("63", "64")] {
            assert_eq!(whole.after(bad.as_bytes()), Err(CursorError), "{bad}");
        }
        let no_key = whole.cursor(b"");
        assert_eq!(whole.after(no_key.as_bytes()), Err(CursorError));
    }
}
