//! The storage node: many regions' peers in one process.
