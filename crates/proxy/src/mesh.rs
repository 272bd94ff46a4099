//! A link for each ordered pair of processes, and what is done to many links at once.

use std::collections::BTreeMap;
use std::io;

use crate::link::Link;
use crate::rules::Rules;

/// The links between processes, which are known by names.
#[derive(Debug, Default)]
pub struct Mesh {
    /// By the name of the process that connects, and of the one that is connected to.
    links: BTreeMap<(String, String), Link>,
}

impl Mesh {
    /// Links from each of the `callers` to each of the `servers`, which are names with addresses,
    /// except to itself. A caller that listens nowhere, such as a client, is named among the
    /// callers alone.
    pub async fn open(callers: &[String], servers: &[(String, String)]) -> io::Result<Mesh> {
        let mut links = BTreeMap::new();
        for caller in callers {
            for (server, addr) in servers.iter().filter(|(server, _)| server != caller) {
                let link = Link::open(addr).await?;
                links.insert((caller.clone(), server.clone()), link);
            }
        }
        Ok(Mesh { links })
    }

    /// The pairs of addresses that lead a process over its links: what a server is known as, and
    /// where to connect.
    pub fn dials(&self, caller: &str) -> Vec<(String, String)> {
        let own = self.links.iter().filter(|((from, _), _)| from == caller);
        own.map(|(_, link)| (link.target().to_string(), link.addr().to_string())).collect()
    }

    /// The option that leads a process over its links: `--dial ADDR=VIA[,...]`. Nothing if it has
    /// none.
    pub fn dial_args(&self, caller: &str) -> Vec<String> {
        let dials = self.dials(caller).into_iter().map(|(addr, via)| format!("{addr}={via}"));
        let dials = dials.collect::<Vec<_>>().join(",");
        if dials.is_empty() { vec![] } else { vec!["--dial".into(), dials] }
    }

    /// The link from one process to another, if there is one.
    pub fn link(&self, from: &str, to: &str) -> Option<&Link> {
        self.links.get(&(from.to_string(), to.to_string()))
    }

    /// Applies the rules to each link between a process of one side and one of the other, whoever
    /// connects. Links within a side stay as they are.
    pub fn between(&self, side: &[&str], other: &[&str], rules: Rules) {
        let is_in = |names: &[&str], name: &String| names.contains(&name.as_str());
        for ((from, to), link) in &self.links {
            let is_out = is_in(side, from) && is_in(other, to);
            if is_out || is_in(other, from) && is_in(side, to) {
                link.set(rules);
            }
        }
    }

    /// Applies the rules to each link that leads to the process or away from it.
    pub fn around(&self, name: &str, rules: Rules) {
        for (_, link) in self.links.iter().filter(|((from, to), _)| from == name || to == name) {
            link.set(rules);
        }
    }

    /// All links carry everything again.
    pub fn heal(&self) {
        self.links.values().for_each(Link::heal);
    }
}
