//! Rows as text: lines of JSON, lines of TSV.
//!
//! JSON has no bytes: a key or value that is UTF-8 is a string under its own name (`key`, `value`);
//! one that is not is hex digits under `key_hex`, `value_hex`. Where hex is asked for, everything
//! is hex under its own name. A TSV file holds raw bytes, or hex digits.

use serde_json::Value;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One JSON object on each line.
    Ndjson {
        is_hex: bool,
        /// Without values.
        keys_only: bool,
    },
    /// `key<TAB>value` on each line.
    Tsv { is_hex: bool },
}

/// The row has a tab in its key or a newline, so no TSV file without hex can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoesNotFit;

impl Form {
    /// Writes one row and its newline.
    pub(crate) fn row(self, out: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), DoesNotFit> {
        match self {
            Form::Ndjson { is_hex, keys_only } => {
                out.push(b'{');
                member(out, "key", key, is_hex);
                if !keys_only {
                    out.push(b',');
                    member(out, "value", value, is_hex);
                }
                out.extend_from_slice(b"}\n");
            }
            Form::Tsv { is_hex: true } => {
                out.extend_from_slice(hex::encode(key).as_bytes());
                out.push(b'\t');
                out.extend_from_slice(hex::encode(value).as_bytes());
                out.push(b'\n');
            }
            Form::Tsv { is_hex: false } => {
                let breaks = |byte: &u8| matches!(byte, b'\t' | b'\n');
                if key.iter().any(breaks) || value.contains(&b'\n') {
                    return Err(DoesNotFit);
                }
                for part in [key, b"\t", value, b"\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
        Ok(())
    }
}

/// One member of a JSON object: bytes under `name`, or under `name` with `_hex`.
fn member(out: &mut Vec<u8>, name: &str, bytes: &[u8], is_hex: bool) {
    let (suffix, text) = text_of(bytes, is_hex);
    out.extend_from_slice(format!("\"{name}{suffix}\":").as_bytes());
    out.extend_from_slice(text.to_string().as_bytes());
}

/// What is appended to the name of the member that holds `bytes`, and what the member is.
pub(crate) fn text_of(bytes: &[u8], is_hex: bool) -> (&'static str, Value) {
    match std::str::from_utf8(bytes) {
        _ if is_hex => ("", hex::encode(bytes).into()),
        Ok(text) => ("", text.into()),
        Err(_) => ("_hex", hex::encode(bytes).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, key: &[u8], value: &[u8]) -> Result<String, DoesNotFit> {
        let mut out = vec![];
        form.row(&mut out, key, value)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn json_names_what_is_not_text() {
        let plain = Form::Ndjson { is_hex: false, keys_only: false };
        let row = |key: &[u8], value: &[u8]| written(plain, key, value).expect("it fits");
        assert_eq!(row(b"k", b"1"), "{\"key\":\"k\",\"value\":\"1\"}\n");
        assert_eq!(row(b"k\n", b"\xff"), "{\"key\":\"k\\n\",\"value_hex\":\"ff\"}\n");
        let hex = Form::Ndjson { is_hex: true, keys_only: false };
        assert_eq!(written(hex, b"k", b"\xff"), Ok("{\"key\":\"6b\",\"value\":\"ff\"}\n".into()));
        let keys = Form::Ndjson { is_hex: false, keys_only: true };
        assert_eq!(written(keys, b"k", b""), Ok("{\"key\":\"k\"}\n".into()));
    }

    #[test]
    fn a_file_holds_rows_that_load_back() {
        let raw = Form::Tsv { is_hex: false };
        assert_eq!(written(raw, b"k", b"1\t2"), Ok("k\t1\t2\n".into()));
        assert_eq!(written(raw, b"a\tb", b""), Err(DoesNotFit));
        assert_eq!(written(raw, b"k", b"1\n2"), Err(DoesNotFit));
        assert_eq!(written(Form::Tsv { is_hex: true }, b"a\tb", b"\n"), Ok("610962\t0a\n".into()));
    }
}
