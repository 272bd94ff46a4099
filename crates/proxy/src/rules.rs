//! What a link does with its connections, and with the bytes of either direction.

use std::num::NonZeroU64;
use std::time::Duration;

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They arrive.
    #[default]
    Carry,
    /// They wait, as packets do that are sent again until the network is whole. The sender may fill
    /// what the system buffers, and no more. The end of a stream waits, too.
    Hold,
    /// They are taken from the sender and are gone. When this ends, the link's connections are
    /// reset, because their streams have holes.
    Discard,
}

/// One direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// What becomes of its bytes.
    pub flow: Flow,
    /// How much later each byte arrives.
    pub delay: Duration,
    /// How many bytes of each connection arrive in a second at most; None for any number.
    pub bytes_per_s: Option<NonZeroU64>,
}

/// What a link does. The default carries everything at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// From the process that connects to the one that is connected to.
    pub to_target: Way,
    /// The answers.
    pub to_caller: Way,
    /// New connections are reset at once, as by a machine on which nothing listens.
    pub refuses: bool,
}

impl Rules {
    /// Nothing arrives in either direction. New connections open and carry nothing.
    pub fn cut() -> Rules {
        let way = Way { flow: Flow::Hold, ..Way::default() };
        Rules { to_target: way, to_caller: way, refuses: false }
    }

    /// What either side sends is taken and is gone.
    pub fn black_hole() -> Rules {
        let way = Way { flow: Flow::Discard, ..Way::default() };
        Rules { to_target: way, to_caller: way, refuses: false }
    }

    /// Each byte arrives so much later, in either direction.
    pub fn delayed(delay: Duration) -> Rules {
        let way = Way { delay, ..Way::default() };
        Rules { to_target: way, to_caller: way, refuses: false }
    }

    /// So many bytes of each connection arrive in a second and direction, at most.
    pub fn throttled(bytes_per_s: NonZeroU64) -> Rules {
        let way = Way { bytes_per_s: Some(bytes_per_s), ..Way::default() };
        Rules { to_target: way, to_caller: way, refuses: false }
    }

    /// True if a direction takes bytes and loses them.
    pub(crate) fn discards(&self) -> bool {
        [self.to_target, self.to_caller].iter().any(|way| way.flow == Flow::Discard)
    }
}
