//! What a checker says.

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant, by the name under which failures are reported.
    pub invariant: &'static str,
    /// What the checker found, with all values needed to understand it.
    pub what: String,
}

/// Ok, or the first violation.
pub type Verdict = Result<(), Violation>;

/// A violation as a verdict.
pub fn broken(invariant: &'static str, what: impl Into<String>) -> Verdict {
    Err(Violation { invariant, what: what.into() })
}
