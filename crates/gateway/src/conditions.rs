//! The conditions of a request: `If-Match` and `If-None-Match` (RFC 9110, section 13).
//!
//! In: headers. Out: whether they hold for a value. A condition is judged here for a value that one
//! operation of a store has read; a write that follows names that value as what it replaces, and
//! the store decides.

use axum::http::HeaderMap;
use axum::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use crate::etag::Etag;

/// What a request demands of the value that its key has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// What a condition's header names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: whatever the key has.
    Any,
    /// One of these.
    List(Vec<Tag>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    /// What stands between the quotes.
    opaque: String,
}

/// The header that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConditionError {
    /// Its name.
    pub(crate) header: HeaderName,
}

impl Conditions {
    /// The conditions among these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Conditions, ConditionError> {
        Ok(Conditions {
            if_match: tags(headers, IF_MATCH)?,
            if_none_match: tags(headers, IF_NONE_MATCH)?,
        })
    }

    /// True if there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// True if a write with both conditions was asked for. No value can be both, or one of them
    /// demands nothing.
    pub(crate) fn exclude_each_other(&self) -> bool {
        self.if_match.is_some() && self.if_none_match.is_some()
    }

    /// True if only an absent key fulfils them, so that no value has to be read first.
    pub(crate) fn demand_absence(&self) -> bool {
        self.if_match.is_none() && self.if_none_match == Some(Tags::Any)
    }

    /// True if a key with this value, None if it is absent, may be written.
    pub(crate) fn allow_write(&self, current: Option<&[u8]>) -> bool {
        let current = current.map(Etag::of);
        self.matches(current) && !self.is_excluded(current)
    }

    /// True if `If-Match` allows to read a key with this value.
    pub(crate) fn allow_read(&self, current: Option<Etag>) -> bool {
        self.matches(current)
    }

    /// True if a reader has this value already, as `If-None-Match` says.
    pub(crate) fn know(&self, current: Etag) -> bool {
        self.is_excluded(Some(current))
    }

    fn matches(&self, current: Option<Etag>) -> bool {
        let Some(tags) = &self.if_match else { return true };
        current.is_some_and(|current| tags.any(|tag| !tag.is_weak && current.is(&tag.opaque)))
    }

    fn is_excluded(&self, current: Option<Etag>) -> bool {
        let (Some(tags), Some(current)) = (&self.if_none_match, current) else { return false };
        tags.any(|tag| current.is(&tag.opaque))
    }
}

impl Tags {
    fn any(&self, is: impl Fn(&Tag) -> bool) -> bool {
        match self {
            Tags::Any => true,
            Tags::List(tags) => tags.iter().any(is),
        }
    }
}

fn tags(headers: &HeaderMap, header: HeaderName) -> Result<Option<Tags>, ConditionError> {
    let mut lines = vec![];
    for line in headers.get_all(&header) {
        match line.to_str() {
            Ok(line) => lines.push(line),
            Err(_) => return Err(ConditionError { header }),
        }
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let tags = parse(&lines.join(","));
    tags.map(Some).ok_or(ConditionError { header })
}

/// Reads `*`, or a list of tags of at least one; empty members of a list are skipped.
fn parse(text: &str) -> Option<Tags> {
    let mut rest = text.trim();
    if rest == "*" {
        return Some(Tags::Any);
    }
    let mut list = vec![];
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let (is_weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        list.push(Tag { is_weak, opaque: opaque.to_string() });
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
    Some(list).filter(|list| !list.is_empty()).map(Tags::List)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(lines: &[(HeaderName, &str)]) -> Result<Conditions, ConditionError> {
        let mut headers = HeaderMap::new();
        for (name, text) in lines {
            headers.append(name.clone(), HeaderValue::from_str(text).expect("a header"));
        }
        Conditions::of(&headers)
    }

    fn if_match(text: &str) -> Conditions {
        of(&[(IF_MATCH, text)]).expect("well formed")
    }

    fn if_none_match(text: &str) -> Conditions {
        of(&[(IF_NONE_MATCH, text)]).expect("well formed")
    }

    #[test]
    fn without_conditions_everything_is_allowed() {
        let none = of(&[]).expect("none");
        assert!(none.is_empty() && none.allow_write(None) && none.allow_write(Some(b"red")));
    }

    #[test]
    fn a_match_needs_the_value_it_names() {
        let red = if_match(&Etag::of(b"red").to_string());
        assert!(red.allow_write(Some(b"red")));
        assert!(!red.allow_write(Some(b"green")) && !red.allow_write(None));
        let list = if_match(&format!("\"x\" , {},", Etag::of(b"red")));
        assert!(list.allow_write(Some(b"red")) && !list.allow_write(Some(b"green")));
        let any = if_match("*");
        assert!(any.allow_write(Some(b"")) && !any.allow_write(None));
        let weak = if_match(&format!("W/{}", Etag::of(b"red")));
        assert!(!weak.allow_write(Some(b"red")), "a weak tag proves nothing");
    }

    #[test]
    fn none_match_any_is_for_absent_keys() {
        let absent = if_none_match(" * ");
        assert!(absent.demand_absence());
        assert!(absent.allow_write(None) && !absent.allow_write(Some(b"")));
        let red = if_none_match(&format!("W/{}", Etag::of(b"red")));
        assert!(!red.demand_absence());
        assert!(red.know(Etag::of(b"red")) && !red.know(Etag::of(b"green")));
        assert!(red.allow_write(None) && !red.allow_write(Some(b"red")));
    }

    #[test]
    fn headers_on_several_lines_are_one_list() {
        let tag = Etag::of(b"red").to_string();
        let two = of(&[(IF_MATCH, "\"a,b\""), (IF_MATCH, &tag)]).expect("well formed");
        assert!(two.allow_write(Some(b"red")));
    }

    #[test]
    fn conditions_of_both_kinds_exclude_each_other() {
        let both = of(&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "*")]).expect("well formed");
        assert!(both.exclude_each_other() && !both.demand_absence());
        assert!(!if_match("*").exclude_each_other());
    }

    #[test]
    fn a_malformed_list_is_refused() {
        for bad in ["", "red", "\"red", "red\"", "\"a\" \"b\"", "*, \"a\"", "w/\"a\"", ","] {
            let refused = of(&[(IF_MATCH, bad)]);
            assert_eq!(refused, Err(ConditionError { header: IF_MATCH }), "{bad:?}");
        }
    }
}
