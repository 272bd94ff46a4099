//! The deterministic half: no clock, thread, socket, file or die.
