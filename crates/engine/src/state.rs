//! The ordered applied state of all groups of a process: a write buffer in front of a [`Base`].
//!
//! Reads see, from newest to oldest: the active buffer, the frozen buffer if there is one, the
//! base. A checkpoint has two halves, so that the slow one can run on another thread while the
//! active buffer takes new writes:
//!
//! 1. [`StateStore::freeze`], by the writer: the active buffer becomes the frozen one, and what it
//!    holds is exactly what the writer had written by then.
//! 2. [`StateStore::flush`], by anyone: the frozen buffer goes into the base in one durable
//!    transaction, and is dropped.
//!
//! What is lost in a crash is always a suffix of the writes: whole batches, the newest first.
//!
//! Not here: what a key means, and when a checkpoint is due. The caller decides both.
