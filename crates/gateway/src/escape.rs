//! Percent-escapes: a key in a path stands for bytes.
//!
//! In: text as it came. Out: bytes, or what is malformed.

/// A `%` without two hex digits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EscapeError {
    /// Where it stands in the text, in bytes.
    pub(crate) at: usize,
}

/// The bytes that a part of a path stands for.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, EscapeError> {
    let text = text.as_bytes();
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte != b'%' {
            bytes.push(byte);
            at += 1;
            continue;
        }
        let digits = text.get(at + 1).and_then(|high| Some((digit(*high)?, text.get(at + 2)?)));
        let escaped = digits.and_then(|(high, low)| Some(high * 16 + digit(*low)?));
        bytes.push(escaped.ok_or(EscapeError { at })?);
        at += 3;
    }
    Ok(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_can_be_escaped_in_either_case() {
        for byte in 0..=u8::MAX {
            assert_eq!(decode(&format!("a%{byte:02x}b")), Ok(vec![b'a', byte, b'b']));
            assert_eq!(decode(&format!("%{byte:02X}")), Ok(vec![byte]));
        }
    }

    #[test]
    fn what_is_not_escaped_is_itself() {
        assert_eq!(decode("a/b+c/../d"), Ok(b"a/b+c/../d".to_vec()));
        assert_eq!(decode("%2541"), Ok(b"%41".to_vec()), "decoded once");
        assert_eq!(decode(""), Ok(vec![]));
    }

    #[test]
    fn a_malformed_escape_is_named_by_its_place() {
        for (text, at) in [("%", 0), ("ab%", 2), ("%4", 0), ("%zz", 0), ("%20%4g", 3), ("%+1", 0)] {
            assert_eq!(decode(text), Err(EscapeError { at }), "{text}");
        }
        assert_eq!(decode("%\u{e9}"), Err(EscapeError { at: 0 }));
    }
}
