//! The deterministic world: a whole cluster in one thread, from one seed.
