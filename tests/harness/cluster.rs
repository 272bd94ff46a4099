//! PD processes, most often one, and any number of store processes on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::certs::Certs;
use crate::command::{self, Finished};
use crate::links::{CLIENT, Links};
use crate::process::Process;
use crate::wait::{free_port, wait_for};

/// When a cluster that should become healthy is given up. Generous: CI has two slow cores, and
/// the servers may be unoptimised.
pub const HEALTHY_DEADLINE: Duration = Duration::from_secs(90);

/// The processes, and the temporary directory that holds their data and output.
pub struct Cluster {
    region_bytes: String,
    /// Of a new cluster.
    replicas: usize,
    /// What each server may open; None for what the tests may.
    descriptors: Option<usize>,
    memory: Option<String>,
    pds: Vec<Server>,
    stores: Vec<Server>,
    /// Links between all processes, if there are any.
    links: Option<Links>,
    /// Certificates by name of the server, and those of `admin`, if there is TLS.
    certs: Option<Certs>,
    // Last, for fields are dropped in order and a killed server's output is read from here.
    dir: TempDir,
}

/// A server's place on the network and the disk, whether or not it runs.
struct Server {
    name: String,
    addr: String,
    /// Where it serves the HTTP API, if it does.
    http_addr: Option<String>,
    process: Option<Process>,
}

impl Cluster {
    /// Starts PD and `stores` stores that split their regions at `region_bytes` (such as
    /// "64KiB"), and waits until every region has its replicas and a leader.
    pub fn start(stores: usize, region_bytes: &str) -> Cluster {
        let mut cluster = Cluster::stopped(stores, region_bytes);
        cluster.start_all();
        cluster.wait_healthy();
        cluster
    }

    /// A cluster of which nothing runs yet, of three replicas, or one if there are fewer stores.
    pub fn stopped(stores: usize, region_bytes: &str) -> Cluster {
        let server = |name: String| {
            let addr = format!("127.0.0.1:{}", free_port());
            Server { name, addr, http_addr: None, process: None }
        };
        Cluster {
            region_bytes: region_bytes.to_string(),
            replicas: if stores < 3 { 1 } else { 3 },
            descriptors: None,
            memory: None,
            pds: vec![server("pd".into())],
            stores: (0..stores).map(|index| server(format!("store{index}"))).collect(),
            links: None,
            certs: None,
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// The same cluster whose processes reach each other over links that can be cut, and so does
    /// what [`Cluster::run`] starts. Call it last: servers that are added later have no links.
    pub fn with_links(mut self) -> Cluster {
        let servers = self.pds.iter().chain(&self.stores);
        let servers = servers.map(|server| (server.name.clone(), server.addr.clone()));
        self.links = Some(Links::open(&servers.collect::<Vec<_>>()));
        self
    }

    /// The same cluster with TLS, also for what [`Cluster::run`] starts, as an admin. Call it last:
    /// servers that are added later have no certificates.
    pub fn with_tls(mut self) -> Cluster {
        let certs = Certs::new(self.dir.path().join("tls"));
        for (index, pd) in self.pds.iter().enumerate() {
            certs.create(&pd.name, &["--role", "pd", "--id", &(index + 1).to_string()]);
        }
        for store in &self.stores {
            certs.create(&store.name, &["--role", "store"]);
        }
        certs.create("admin", &["--role", "admin"]);
        self.certs = Some(certs);
        self
    }

    /// The certificates of a cluster with TLS.
    pub fn certs(&self) -> &Certs {
        self.certs.as_ref().expect("the cluster has certificates")
    }

    /// The options by which a process of this name uses its certificates, if there are any.
    pub fn tls_args(&self, name: &str) -> Vec<String> {
        let dir = self.certs.iter().map(|certs| certs.path(name));
        dir.flat_map(|dir| ["--tls-dir".to_string(), dir]).collect()
    }

    /// The links of a cluster that has them.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("the cluster has links")
    }

    /// The name of the member of PD at this index.
    pub fn member_name(&self, index: usize) -> &str {
        &self.pds[index].name
    }

    /// The same cluster with so many members of PD.
    pub fn with_pds(mut self, pds: usize) -> Cluster {
        let member = |index: usize| Server {
            name: format!("pd{}", index + 1),
            addr: format!("127.0.0.1:{}", free_port()),
            http_addr: None,
            process: None,
        };
        self.pds = (0..pds).map(member).collect();
        self
    }

    /// The same cluster whose servers all serve the HTTP API.
    pub fn with_http(mut self) -> Cluster {
        for server in self.pds.iter_mut().chain(&mut self.stores) {
            server.http_addr = Some(format!("127.0.0.1:{}", free_port()));
        }
        self
    }

    /// Where the servers serve the HTTP API: PD's members, then stores.
    pub fn http_addrs(&self) -> Vec<String> {
        self.pds.iter().chain(&self.stores).filter_map(|server| server.http_addr.clone()).collect()
    }

    /// The same cluster whose servers have so many descriptors each.
    pub fn with_descriptors(mut self, descriptors: usize) -> Cluster {
        self.descriptors = Some(descriptors);
        self
    }

    /// The same cluster whose stores have so much memory each, such as "64MiB".
    pub fn with_memory(mut self, memory: &str) -> Cluster {
        self.memory = Some(memory.to_string());
        self
    }

    fn start_server(&self, name: &str, args: &[String]) -> Process {
        let dials = self.links.as_ref().map(|links| links.dial_args(name)).unwrap_or_default();
        let args = &[args, &dials, &self.tls_args(name)].concat();
        match self.descriptors {
            Some(descriptors) => Process::start_limited(name, self.dir.path(), args, descriptors),
            None => Process::start(name, self.dir.path(), args),
        }
    }

    /// The addresses of PD's members, as `--pd` takes them.
    pub fn pd_addrs(&self) -> String {
        self.pds.iter().map(|pd| pd.addr.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The address of PD, or of its first member.
    pub fn pd_addr(&self) -> &str {
        &self.pds[0].addr
    }

    /// Where the store at this index listens.
    pub fn store_addr(&self, index: usize) -> &str {
        &self.stores[index].addr
    }

    /// PD's data directory.
    pub fn pd_dir(&self) -> PathBuf {
        self.dir.path().join(&self.pds[0].name)
    }

    /// A store's data directory.
    pub fn store_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(&self.stores[index].name)
    }

    /// Where the processes' output goes, and a place for a test's own files.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the member of PD at this index on its directory and address.
    pub fn start_member(&mut self, index: usize) {
        let args = self.member_args(index);
        let process = self.start_server(&self.pds[index].name, &args);
        self.pds[index].process = Some(process);
    }

    /// Starts a member of PD whose directory says who the members are.
    pub fn start_known_member(&mut self, index: usize) {
        let args = self.known_member_args(index);
        let server = &mut self.pds[index];
        server.process = Some(Process::start(&server.name, self.dir.path(), &args));
    }

    /// Starts one more member of PD, which joins the others. Answers its index.
    pub fn join_member(&mut self) -> usize {
        let index = self.pds.len();
        let others = self.pd_addrs();
        let addr = format!("127.0.0.1:{}", free_port());
        let name = format!("pd{}", index + 1);
        self.pds.push(Server { name, addr, http_addr: None, process: None });
        let mut args = self.known_member_args(index);
        args.extend(["--join".into(), others]);
        let server = &mut self.pds[index];
        server.process = Some(Process::start(&server.name, self.dir.path(), &args));
        index
    }

    /// The directory of the member of PD at this index, which does not run, is lost.
    pub fn lose_member_directory(&self, index: usize) {
        let dir = self.dir.path().join(&self.pds[index].name);
        fs::remove_dir_all(dir).expect("the directory is removed");
    }

    /// Waits until the member of PD at this index has said this on stderr.
    pub fn wait_for_member_to_say(&self, index: usize, words: &str) {
        wait_for(words, HEALTHY_DEADLINE, || {
            let stderr = self.pds[index].process.as_ref().expect("the member runs").stderr();
            if stderr.contains(words) { Ok(()) } else { Err(stderr) }
        });
    }

    /// Waits until the member of PD at this index has ended: its exit status, and its stderr.
    pub fn member_ended(&mut self, index: usize, deadline: Duration) -> (Option<i32>, String) {
        let server = &mut self.pds[index];
        let mut process = server.process.take().expect("the member was started");
        let status = process.wait(deadline);
        (status.and_then(|status| status.code()), process.stderr())
    }

    fn known_member_args(&self, index: usize) -> Vec<String> {
        let pd = &self.pds[index];
        let dir = self.dir.path().join(&pd.name).display().to_string();
        let id = (index + 1).to_string();
        let args = ["pd", "--id", &id, "--dir", &dir, "--addr", &pd.addr].map(String::from);
        [args.to_vec(), pd.http_args()].concat()
    }

    /// The arguments that [`Cluster::start_member`] starts a member with.
    fn member_args(&self, index: usize) -> Vec<String> {
        let id = |index: usize| (index + 1).to_string();
        let mut args = self.known_member_args(index);
        args.extend(["--replicas".into(), self.replicas.to_string()]);
        if self.pds.len() > 1 {
            for (index, pd) in self.pds.iter().enumerate() {
                args.extend(["--peer".into(), format!("{}={}", id(index), pd.addr)]);
            }
        }
        args
    }

    /// Starts PD's members on their directories and addresses.
    pub fn start_pd(&mut self) {
        for index in 0..self.pds.len() {
            self.start_member(index);
        }
    }

    /// Starts a store on its directory and address.
    pub fn start_store(&mut self, index: usize) {
        let pd = self.pd_addrs();
        self.start_store_with(index, &pd);
    }

    /// Starts a store that is given the address of one member of PD only.
    pub fn start_store_of_member(&mut self, index: usize, member: usize) {
        let pd = self.pds[member].addr.clone();
        self.start_store_with(index, &pd);
    }

    fn start_store_with(&mut self, index: usize, pd: &str) {
        let args = self.args_with(index, pd);
        let process = self.start_server(&self.stores[index].name, &args);
        self.stores[index].process = Some(process);
    }

    /// The arguments that [`Cluster::start_store`] starts a store with.
    pub fn store_args(&self, index: usize) -> Vec<String> {
        self.args_with(index, &self.pd_addrs())
    }

    fn args_with(&self, index: usize, pd: &str) -> Vec<String> {
        let dir = self.store_dir(index).display().to_string();
        let addr = &self.stores[index].addr;
        let bytes = &self.region_bytes;
        let args = ["store", "--dir", &dir, "--addr", addr, "--pd", pd, "--region-bytes", bytes];
        let memory = self.memory.iter().flat_map(|memory| ["--memory".to_string(), memory.clone()]);
        let args = args.map(String::from).into_iter().chain(memory);
        args.chain(self.stores[index].http_args()).collect()
    }

    /// Starts all servers on their directories and addresses.
    pub fn start_all(&mut self) {
        self.start_pd();
        for index in 0..self.stores.len() {
            self.start_store(index);
        }
    }

    /// kill -9 of all servers.
    pub fn kill_all(&mut self) {
        self.kill_all_stores();
        self.kill_pd();
    }

    /// kill -9 of a store.
    pub fn kill_store(&mut self, index: usize) {
        self.check_output();
        self.stores[index].process = None;
    }

    /// kill -9 of PD, of all its members.
    pub fn kill_pd(&mut self) {
        self.check_output();
        for pd in &mut self.pds {
            pd.process = None;
        }
    }

    /// kill -9 of the member of PD at this index.
    pub fn kill_member(&mut self, index: usize) {
        self.check_output();
        self.pds[index].process = None;
    }

    /// Index of the member that leads PD.
    pub fn leading_member(&self) -> usize {
        wait_for("a leader of PD", HEALTHY_DEADLINE, || {
            let asked = self.run(&["ctl", "cluster", "status", "-o", "json"]);
            // An unhealthy cluster is told with status 1.
            if asked.code > 1 || asked.stdout.is_empty() {
                return Err(format!("{asked:?}"));
            }
            let status = asked.json();
            let members = status["pd"].as_array().cloned().unwrap_or_default();
            let leader = members.iter().find(|member| member["leader"] == true);
            let addr = text(leader.ok_or(format!("{status}"))?, "addr");
            let at = self.pds.iter().position(|pd| pd.addr == addr);
            at.ok_or(format!("{addr} is none of this test's"))
        })
    }

    /// kill -9 of every store, none of which learns of another's death.
    pub fn kill_all_stores(&mut self) {
        self.check_output();
        for store in &mut self.stores {
            store.process = None;
        }
    }

    /// The process of the member of PD at this index.
    pub fn member(&mut self, index: usize) -> &mut Process {
        self.pds[index].process.as_mut().expect("the member was started")
    }

    /// A store's process.
    pub fn store(&mut self, index: usize) -> &mut Process {
        self.stores[index].process.as_mut().expect("the store was started")
    }

    /// Runs `flotilla ARGS --pd <this cluster>` to its end.
    pub fn run(&self, args: &[&str]) -> Finished {
        let dials = self.links.as_ref().map(|links| links.dial_args(CLIENT)).unwrap_or_default();
        let dials: Vec<String> = [dials, self.tls_args("admin")].concat();
        let dials: Vec<&str> = dials.iter().map(String::as_str).collect();
        command::run(&[args, &["--pd", &self.pd_addrs()], &dials].concat())
    }

    /// Starts `flotilla kv load FILE -o json`; FILE `-` gets a pipe on stdin.
    pub fn start_load(&self, file: &str) -> Process {
        let args = ["kv", "load", file, "-o", "json", "--pd", &self.pd_addrs()].map(String::from);
        let stdin = if file == "-" { Stdio::piped() } else { Stdio::null() };
        Process::start_with_stdin("load", self.dir.path(), &args, stdin)
    }

    /// What a `ctl` command prints with `-o json`. Fails unless it succeeds.
    pub fn ctl(&self, args: &[&str]) -> Value {
        self.try_ctl(args).unwrap_or_else(|why| panic!("{why}"))
    }

    /// [`Cluster::ctl`] for use in conditions.
    pub fn try_ctl(&self, args: &[&str]) -> Result<Value, String> {
        let finished = self.run(&[&["ctl"], args, &["-o", "json"]].concat());
        if finished.code == 0 { Ok(finished.json()) } else { Err(format!("{finished:?}")) }
    }

    /// What `ctl cluster status` prints, whether or not the cluster is healthy.
    pub fn status(&self) -> Result<Value, String> {
        let finished = self.run(&["ctl", "cluster", "status", "-o", "json"]);
        match finished.code {
            0 | 1 => {
                let status = finished.json();
                assert_eq!(status["healthy"], finished.code == 0, "{finished:?}");
                Ok(status)
            }
            _ => Err(format!("{finished:?}")),
        }
    }

    /// The regions, as `ctl region list` prints them.
    pub fn regions(&self) -> Vec<Value> {
        match self.ctl(&["region", "list"]) {
            Value::Array(regions) => regions,
            other => panic!("ctl region list is no array: {other}"),
        }
    }

    /// Everything that `kv dump` prints.
    pub fn dump(&self) -> Vec<u8> {
        self.run(&["kv", "dump"]).ok().stdout
    }

    /// Index of the store that leads the region holding `key`, as PD knows it.
    pub fn leader_of(&self, key: &str) -> usize {
        let stored: String =
            [0, 0, 0, 0].iter().chain(key.as_bytes()).map(|byte| format!("{byte:02x}")).collect();
        wait_for(&format!("a leader of the region holding {key}"), HEALTHY_DEADLINE, || {
            let regions = self.regions();
            let holds = |region: &&Value| {
                let (start, end) = (text(region, "start"), text(region, "end"));
                start <= stored && (end.is_empty() || stored < end)
            };
            let region = regions.iter().find(holds).ok_or("no such region")?;
            let store = region["leader_store_id"].as_u64().filter(|id| *id != 0);
            self.store_index(store.ok_or("no known leader")?)
        })
    }

    /// Waits until the cluster says that it is healthy and every region shows a leader and a
    /// voter for each replica.
    pub fn wait_healthy(&mut self) {
        wait_for("a healthy cluster", HEALTHY_DEADLINE, || {
            self.assert_running();
            self.check_healthy()
        });
        self.check_output();
    }

    /// Waits until the cluster is healthy, or a server has ended by itself. Returns the exit status
    /// and stderr of the first that has.
    pub fn wait_healthy_or_ended(&mut self) -> Option<(ExitStatus, String)> {
        wait_for("a healthy cluster or a refusal", HEALTHY_DEADLINE, || {
            for server in self.stores.iter_mut().chain(&mut self.pds) {
                let process = server.process.as_mut();
                if let Some((status, process)) = process.and_then(|p| Some((p.ended()?, p))) {
                    return Ok(Some((status, process.stderr())));
                }
            }
            self.check_healthy().map(|()| None)
        })
    }

    fn check_healthy(&self) -> Result<(), String> {
        let status = self.status()?;
        let regions = self.try_ctl(&["region", "list"])?;
        let want = self.replicas;
        let whole = |region: &Value| {
            let peers = region["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let voters = peers.iter().filter(|peer| peer["role"] == "voter").count();
            region["leader_store_id"].as_u64().is_some_and(|id| id != 0) && voters == want
        };
        let regions = regions.as_array().map(Vec::as_slice).unwrap_or_default();
        let stores = status["stores"].as_u64() == Some(self.stores.len() as u64);
        let healthy = status["healthy"] == true && stores && !regions.is_empty();
        if healthy && regions.iter().all(whole) {
            return Ok(());
        }
        let odd: Vec<&Value> = regions.iter().filter(|region| !whole(region)).take(3).collect();
        Err(format!("{status}, {} regions, not whole: {odd:?}", regions.len()))
    }

    /// Index of the store with this id.
    fn store_index(&self, id: u64) -> Result<usize, String> {
        let stores = self.try_ctl(&["store", "list"])?;
        let stores = stores.as_array().map(Vec::as_slice).unwrap_or_default();
        let store = stores.iter().find(|store| store["id"].as_u64() == Some(id));
        let addr = text(store.ok_or(format!("no store {id}"))?, "addr");
        self.stores
            .iter()
            .position(|store| store.addr == addr)
            .ok_or(format!("store {id} at {addr} is none of this test's"))
    }

    /// Fails if a server that was started has ended by itself.
    fn assert_running(&mut self) {
        for server in self.stores.iter_mut().chain(&mut self.pds) {
            if let Some(status) = server.process.as_mut().and_then(Process::ended) {
                panic!("{} ended with {status}", server.name);
            }
        }
    }

    /// Fails if a server reported a panic.
    pub fn check_output(&self) {
        for server in self.stores.iter().chain(&self.pds) {
            if let Some(process) = &server.process {
                process.assert_no_panic();
            }
        }
    }
}

impl Server {
    fn http_args(&self) -> Vec<String> {
        let addr = self.http_addr.iter();
        addr.flat_map(|addr| ["--http-addr".to_string(), addr.clone()]).collect()
    }
}

fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_default().to_string()
}

/// Copies a directory and all in it.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be created");
    for entry in fs::read_dir(from).expect("a directory can be read") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file can be copied");
        }
    }
}
