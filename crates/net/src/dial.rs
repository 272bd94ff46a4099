//! Where this process connects to reach an address: there, unless it was told another one.
//!
//! A process is told with `--dial ADDR=VIA` that it reaches the server that is known as `ADDR` by
//! connecting to `VIA`: through a forwarded port, through the address that a translation of
//! addresses gave it on this side, or through a proxy. All servers are known to everybody by one
//! address each, and the placement driver and the stores hand these on; how to get there may differ
//! from process to process, so it is a matter of the process that connects, and is told nobody.
//!
//! The table is set once, before the first connection, and holds for the whole process.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// From the address by which a server is known, without scheme, to the one to connect to.
static ROUTES: OnceLock<Routes> = OnceLock::new();

/// The table of a process.
#[derive(Debug, Default)]
pub(crate) struct Routes(BTreeMap<String, String>);

impl Routes {
    /// The table of these pairs, all without scheme: the address by which a server is known, and
    /// the one to connect to.
    pub(crate) fn new(pairs: impl Iterator<Item = (String, String)>) -> Routes {
        Routes(pairs.collect())
    }

    /// Where to connect to reach the address.
    pub(crate) fn via<'a>(&'a self, addr: &'a str) -> &'a str {
        self.0.get(addr).map_or(addr, String::as_str)
    }
}

/// This table holds from now on. The first call of a process counts.
pub(crate) fn set(routes: Routes) {
    ROUTES.get_or_init(|| routes);
}

/// Where to connect to reach the address, which has no scheme.
pub(crate) fn via(addr: &str) -> &str {
    ROUTES.get().map_or(addr, |routes| routes.via(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_by_way_of_what_was_told_and_others_as_they_are_known() {
        let pair = ("s1:1".to_string(), "127.0.0.1:9".to_string());
        let routes = Routes::new([pair].into_iter());
        assert_eq!(routes.via("s1:1"), "127.0.0.1:9");
        assert_eq!(routes.via("s2:1"), "s2:1");
    }
}
