//! Who may reach a server: those who show a certificate, those on the same machine, or everybody.

use std::net::IpAddr;

use super::handle::Tls;

/// What a server asks of those who connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Nothing. So it listens on loopback addresses only.
    #[default]
    LoopbackOnly,
    /// Nothing, wherever it listens: everybody who can reach it may read and change everything.
    Insecure,
    /// TLS, both ways.
    Tls(Tls),
}

impl Security {
    /// What it calls others with; None without TLS.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Security::LoopbackOnly | Security::Insecure => None,
            Security::Tls(tls) => Some(tls),
        }
    }

    /// False if an address may not be listened on.
    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        match self {
            Security::LoopbackOnly => ip.is_loopback(),
            Security::Insecure | Security::Tls(_) => true,
        }
    }
}
