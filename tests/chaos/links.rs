//! The links between processes, and the rules that faults lay on them. Several faults may lay rules
//! on one link: the last one's hold, and when it is lifted those of the one before do.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flotilla_proxy::{Flow, Mesh, Rules, Way};

/// The name of this process among those that are linked.
pub const CLIENT: &str = "client";

/// The process that connects, and the one that is connected to.
pub type Pair = (String, String);

/// All links.
pub struct Links {
    mesh: Mesh,
    laid: Mutex<BTreeMap<Pair, Vec<(u64, Rules)>>>,
}

impl Links {
    /// A link for each ordered pair of these servers (names with addresses), and one from this
    /// process to each.
    pub async fn open(servers: &[(String, String)]) -> io::Result<Links> {
        let names = servers.iter().map(|(name, _)| name.clone());
        let callers: Vec<String> = names.chain([CLIENT.to_string()]).collect();
        let mesh = Mesh::open(&callers, servers).await?;
        Ok(Links { mesh, laid: Mutex::default() })
    }

    /// The links themselves.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Lays rules on some links, for this fault.
    pub fn lay(&self, fault: u64, rules: &[(Pair, Rules)]) {
        let mut laid = self.lock();
        for (pair, rules) in rules {
            if let Some(link) = self.mesh.link(&pair.0, &pair.1) {
                laid.entry(pair.clone()).or_default().push((fault, *rules));
                link.set(*rules);
            }
        }
    }

    /// Lifts what this fault has laid.
    pub fn lift(&self, fault: u64) {
        let mut laid = self.lock();
        for (pair, rules) in laid.iter_mut() {
            let before = rules.len();
            rules.retain(|(of, _)| *of != fault);
            if rules.len() < before
                && let Some(link) = self.mesh.link(&pair.0, &pair.1)
            {
                link.set(rules.last().map(|(_, rules)| *rules).unwrap_or_default());
            }
        }
        laid.retain(|_, rules| !rules.is_empty());
    }

    /// How many pieces of streams have met a rule on these links so far.
    pub fn impeded(&self, rules: &[(Pair, Rules)]) -> u64 {
        let links = rules.iter().filter_map(|((from, to), _)| self.mesh.link(from, to));
        links.map(|link| link.counts()).map(|counts| counts.impeded + counts.resets).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Pair, Vec<(u64, Rules)>>> {
        self.laid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing that `from` sends reaches `to`, whoever of them has connected; the other way carries.
pub fn one_way(from: &str, to: &str) -> Vec<(Pair, Rules)> {
    let held = Way { flow: Flow::Hold, ..Way::default() };
    let there = Rules { to_target: held, ..Rules::default() };
    let back = Rules { to_caller: held, ..Rules::default() };
    vec![((from.into(), to.into()), there), ((to.into(), from.into()), back)]
}

/// These rules between each of one side and each of the other, whoever connects.
pub fn between(side: &[String], other: &[String], rules: Rules) -> Vec<(Pair, Rules)> {
    let mut all = vec![];
    for (one, another) in side.iter().flat_map(|one| other.iter().map(move |other| (one, other))) {
        if one != another {
            all.push(((one.clone(), another.clone()), rules));
            all.push(((another.clone(), one.clone()), rules));
        }
    }
    all
}
