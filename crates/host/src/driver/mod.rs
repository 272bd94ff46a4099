//! Threads, sockets, directories and the clock.
