//! One link: a port on loopback whose connections lead to one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::carry::{Counters, Orders, carry};
use crate::rules::Rules;

/// Connections that a link carries at once; others wait in the system. A process opens a few to
/// each other one, and some each second while it cannot reach it.
const CONNECTIONS_MAX: usize = 1_024;

/// What a link has carried since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were opened.
    pub connections: u64,
    /// Bytes that arrived where the connections lead.
    pub bytes_to_target: u64,
    /// Bytes that arrived at those who connected.
    pub bytes_to_caller: u64,
    /// Connections that were reset, by order or because the other side was lost.
    pub resets: u64,
    /// Pieces of a stream, and openings of connections, that met a rule: they waited, came later
    /// or were lost.
    pub impeded: u64,
}

/// An open link. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Link {
    addr: SocketAddr,
    target: String,
    orders: watch::Sender<Orders>,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// Opens a link to `target`, `HOST:PORT`, which need not listen yet. Connections are carried on
    /// the runtime of the caller.
    pub async fn open(target: &str) -> io::Result<Link> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let (orders, watched) = watch::channel(Orders::default());
        let counters = Arc::<Counters>::default();
        let accepting = accept(listener, target.to_string(), watched, Arc::clone(&counters));
        let accepting = tokio::spawn(accepting);
        Ok(Link { addr, target: target.to_string(), orders, counters, accepting })
    }

    /// Where to connect instead of to the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the link's connections lead, `HOST:PORT`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Goes by these rules from now on. Bytes that are on their way are under them, too.
    pub fn set(&self, rules: Rules) {
        self.orders.send_modify(|orders| {
            if orders.rules.discards() && !rules.discards() {
                orders.resets += 1;
            }
            orders.rules = rules;
        });
    }

    /// Carries everything again.
    pub fn heal(&self) {
        self.set(Rules::default());
    }

    /// Resets the connections that are open. New ones go by the rules.
    pub fn reset(&self) {
        self.orders.send_modify(|orders| orders.resets += 1);
    }

    /// The rules that hold now.
    pub fn rules(&self) -> Rules {
        self.orders.borrow().rules
    }

    /// What was carried so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: read(&self.counters.connections),
            bytes_to_target: read(&self.counters.bytes_to_target),
            bytes_to_caller: read(&self.counters.bytes_to_caller),
            resets: read(&self.counters.resets),
            impeded: read(&self.counters.impeded),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    orders: watch::Receiver<Orders>,
    counters: Arc<Counters>,
) {
    let mut carried = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if carried.len() < CONNECTIONS_MAX => accepted,
            Some(_) = carried.join_next() => continue,
        };
        // An error is of one connection, which ended before it was accepted, or of a process that
        // has no descriptor left; then the next one tells.
        let Ok((caller, _)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        if orders.borrow().rules.refuses {
            refuse(&caller, &counters);
            continue;
        }
        counters.connections.fetch_add(1, Ordering::Relaxed);
        carried.spawn(carry(caller, target.clone(), orders.clone(), Arc::clone(&counters)));
    }
}

fn refuse(caller: &TcpStream, counters: &Counters) {
    counters.resets.fetch_add(1, Ordering::Relaxed);
    // An error means that the caller is gone already.
    let _ = caller.set_zero_linger();
}
