//! The Flotilla client: connects to the placement driver, routes by a cached range map, retries.
