//! Which names a request may call this server by: the defence against DNS rebinding.
//!
//! A page of another site can make its own name lead to this server's address, and a browser then
//! lets the page read what the server answers. The request still carries the page's name, so a name
//! is served only if it is a loopback name or was configured. An address needs no configuration:
//! no name leads a browser to it.
//!
//! In: the text of `Host` and `Origin`. Out: whether it is served.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The names that are served besides addresses and `localhost`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// These names, each with or without a port.
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Hosts {
        Hosts { names: names.into_iter().map(name).collect() }
    }

    /// True if a request for `host`, a name or address with or without port, is served.
    pub(crate) fn serve(&self, host: &str) -> bool {
        let name = name(host);
        is_address(&name) || is_loopback(&name) || self.names.contains(&name)
    }
}

/// True if a page at `origin`, such as `http://localhost:8080`, was served under `host`.
pub(crate) fn is_same_origin(origin: &str, host: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// The name or address without its port, in lower case, without a dot at the end.
fn name(host: &str) -> String {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => host,
    };
    // An address of version 6 without brackets has colons of its own.
    let bare = if host.parse::<Ipv6Addr>().is_ok() { host } else { bare };
    bare.trim_end_matches('.').to_ascii_lowercase()
}

fn is_address(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name.parse::<Ipv4Addr>().is_ok() || inner.parse::<Ipv6Addr>().is_ok()
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_addresses_and_configured_names_are_served() {
        let hosts = Hosts::new(["db.example:8080", "Gate.Example."]);
        for good in [
            "localhost",
            "localhost:8080",
            "LOCALHOST",
            "a.localhost:1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "[::1]",
            "10.1.2.3",
            "db.example",
            "db.example:1",
            "gate.example",
        ] {
            assert!(hosts.serve(good), "{good}");
        }
    }

    #[test]
    fn other_sites_are_not_served() {
        let hosts = Hosts::new(["db.example"]);
        for bad in [
            "",
            ":8080",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "x.db.example",
            "localhost@evil.example",
            "localhost:80@evil",
            "[::1]evil",
        ] {
            assert!(!hosts.serve(bad), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_the_same_with_its_port() {
        assert!(is_same_origin("http://localhost:8080", "localhost:8080"));
        assert!(is_same_origin("https://Gate.example", "gate.example"));
        for other in ["null", "http://localhost:9090", "http://evil.example", "localhost:8080"] {
            assert!(!is_same_origin(other, "localhost:8080"), "{other}");
        }
    }
}
