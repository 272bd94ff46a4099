//! A part of a call: what one region is asked in one request, and what may become of it.
//!
//! [`super::single`] has one part, [`super::plan`] many. Both speak of them in these words to
//! [`super::call`].

use flotilla_types::Op;

use super::attempt::Blocked;
use super::failure::Failure;
use super::router::{Destination, Miss};

/// Names a part within its call. A part that is cut at region bounds becomes several, with new ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartId(pub(super) u64);

/// What a part needs next. The part is then under way, until it is answered, fails, or is put back
/// in line.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// An attempt: an answer or a failure follows.
    Send {
        /// The part.
        part: PartId,
        /// Where to send the request.
        to: Destination,
        /// The request.
        op: Op,
    },
    /// A question to PD. The part is ready again, or fails.
    LookUp {
        /// The part.
        part: PartId,
        /// What the cache lacks.
        miss: Miss,
    },
    /// PD has answered a question, and the answer did not help: the part fails.
    Stuck {
        /// The part.
        part: PartId,
        /// Why.
        failure: Failure,
    },
}

impl Next {
    /// What follows when no attempt of a part can begin.
    pub fn of_blocked(part: PartId, blocked: Blocked) -> Next {
        match blocked {
            Blocked::LookUp(miss) => Next::LookUp { part, miss },
            Blocked::Stuck(failure) => Next::Stuck { part, failure },
        }
    }
}
