//! Percent-escapes: a key in a path or a query stands for bytes.
//!
//! In: text as it came. Out: bytes, or what is malformed. In a query `+` is a space, as in forms;
//! in a path it is itself.

use std::borrow::Cow;

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

/// A parameter's name and value.
pub(crate) type Parameter = (Vec<u8>, Vec<u8>);

/// The parameters of a query in their order; one without `=` has an empty value.
pub(crate) fn parameters(query: &str) -> Result<Vec<Parameter>, EscapeError> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(&spaces(name))?, decode(&spaces(value))?))
        })
        .collect()
}

fn spaces(text: &str) -> Cow<'_, str> {
    if text.contains('+') { text.replace('+', " ").into() } else { text.into() }
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

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        let read = parameters("prefix=a%2fb&limit=3&&reverse&end=x+y%2B");
        let expected: [(&[u8], &[u8]); 4] =
            [(b"prefix", b"a/b"), (b"limit", b"3"), (b"reverse", b""), (b"end", b"x y+")];
        let read = read.expect("well formed");
        let read: Vec<(&[u8], &[u8])> = read.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        assert_eq!(read, expected);
        assert!(parameters("a=%1").is_err());
    }
}
