//! What a crash loses of a disk.

/// What a crash leaves of batches that were written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Everything: only the process died.
    Nothing,
    /// The power went; some of the first batches happened to be on disk. The one after them may
    /// have been torn: a batch that is not whole counts as not written.
    Some,
    /// The power went.
    All,
}
