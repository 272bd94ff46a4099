//! The parameters of a request: which there are, and what each may be.
//!
//! In: the query of a URI, and the names that a route knows. Out: bytes, numbers and flags by name.
//! A parameter that is not known, or given twice, is refused: a misspelt `limit` would otherwise
//! read everything.

use axum::http::Uri;
use bytes::Bytes;

use crate::escape;
use crate::problem::Problem;

/// The parameters of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    given: Vec<(&'static str, Bytes)>,
}

impl Query {
    /// The parameters of `uri`, each one of `known`.
    pub(crate) fn of(uri: &Uri, known: &[&'static str]) -> Result<Query, Problem> {
        let malformed = |error: escape::EscapeError| {
            let at = error.at;
            Problem::bad_request(format!(
                "the % at byte {at} of a parameter is not followed by two hex digits; a percent \
                 sign is written %25"
            ))
        };
        let mut given: Vec<(&'static str, Bytes)> = vec![];
        for (name, value) in
            escape::parameters(uri.query().unwrap_or_default()).map_err(malformed)?
        {
            let Some(name) = known.iter().find(|known| known.as_bytes() == name) else {
                return Err(unknown(known));
            };
            if given.iter().any(|(other, _)| other == name) {
                return Err(Problem::bad_request(format!("{name} is given twice")));
            }
            given.push((name, value.into()));
        }
        Ok(Query { given })
    }

    /// The bytes of a parameter; None if it is not given.
    pub(crate) fn bytes(&self, name: &str) -> Option<Bytes> {
        self.given.iter().find(|(given, _)| *given == name).map(|(_, value)| value.clone())
    }

    /// A number of at least 1; None if it is not given.
    pub(crate) fn count(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(value) = self.bytes(name) else { return Ok(None) };
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(&value).ok().filter(|_| is_number);
        // What is too large for 64 bits is more than there can be.
        match text.map(|text| text.parse().unwrap_or(u64::MAX)) {
            Some(number) if number > 0 => Ok(Some(number)),
            _ => Err(Problem::bad_request(format!("{name} is a number from 1 on"))),
        }
    }

    /// True if the parameter is given, as `name`, `name=true` or `name=1`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.bytes(name).as_deref() {
            None | Some(b"false" | b"0") => Ok(false),
            Some(b"" | b"true" | b"1") => Ok(true),
            Some(_) => Err(Problem::bad_request(format!("{name} is true or false"))),
        }
    }
}

fn unknown(known: &[&str]) -> Problem {
    let detail = match known {
        [] => "this path takes no parameters".to_string(),
        known => format!("a parameter is not known here; there are {}", known.join(", ")),
    };
    Problem::bad_request(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Result<Query, Problem> {
        Query::of(&path.parse().expect("a URI"), &["prefix", "limit", "hex"])
    }

    #[test]
    fn parameters_are_bytes_numbers_and_flags() {
        let query = of("/v1/kv?prefix=a%00+b&limit=3&hex").expect("well formed");
        assert_eq!(query.bytes("prefix").as_deref(), Some(&b"a\0 b"[..]));
        assert_eq!(query.count("limit"), Ok(Some(3)));
        assert_eq!(query.flag("hex"), Ok(true));
        assert_eq!(of("/v1/kv").expect("none").flag("hex"), Ok(false));
        assert_eq!(of("/v1/kv?hex=false").expect("none").flag("hex"), Ok(false));
        assert_eq!(of("/v1/kv").expect("none").count("limit"), Ok(None));
    }

    #[test]
    fn what_is_unknown_twice_or_malformed_is_refused() {
        for bad in ["?limits=3", "?limit=1&limit=2", "?prefix=%4", "?=", "?Hex"] {
            assert!(of(&format!("/v1/kv{bad}")).is_err(), "{bad}");
        }
        assert_eq!(
            of("/v1/kv?limit=99999999999999999999").expect("read").count("limit"),
            Ok(Some(u64::MAX))
        );
        for bad in ["0", "-1", "", "x", "%2b1", "1e3"] {
            assert!(of(&format!("/v1/kv?limit={bad}")).expect("read").count("limit").is_err());
        }
        assert!(of("/v1/kv?hex=maybe").expect("read").flag("hex").is_err());
    }
}
