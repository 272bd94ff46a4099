//! Servers that are killed, stopped, restarted, or put back to an earlier state.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use flotilla_tests::cluster::copy_dir;
use rustix::process::Signal;
use tokio::time::sleep;

use super::{Case, Ended};
use crate::server::{Server, in_words};

/// How long a rolling restart waits for the cluster between two stores.
const BETWEEN_RESTARTS_MAX: Duration = Duration::from_secs(20);

/// kill -9 of some stores at once.
pub async fn kill_stores(case: &mut Case<'_>, count: usize) -> Ended {
    let names = case.some(case.cluster.store_names(), count);
    kill(case, names).await
}

/// kill -9 of everything.
pub async fn kill_all(case: &mut Case<'_>) -> Ended {
    let names = [case.cluster.pd_names(), case.cluster.store_names()].concat();
    kill(case, names).await
}

/// kill -9 of a member of the placement driver, the leading one or any.
pub async fn kill_pd(case: &mut Case<'_>, is_leader: bool) -> Ended {
    let name = if is_leader {
        match case.cluster.pd_leader().await {
            Some(leader) => leader.name.clone(),
            None => return Ended::Skipped("no placement driver is known to lead".into()),
        }
    } else {
        case.some(case.cluster.pd_names(), 1).concat()
    };
    kill(case, vec![name]).await
}

async fn kill(case: &mut Case<'_>, names: Vec<String>) -> Ended {
    let Some(_claim) = case.cluster.claim(&names) else {
        return Ended::Skipped("another fault has one of them".into());
    };
    let all: Vec<&Server> = servers(case, &names).collect();
    let killed = kill_at_once(&all);
    case.note(&format!("killed {}", names.join(", ")));
    sleep(case.time(200, 4_000)).await;
    for server in servers(case, &names) {
        start(case, server);
    }
    if killed == names.len() {
        Ended::Seen(format!("{killed} ended by the signal"))
    } else {
        Ended::Unseen(format!("{killed} of {} ended by the signal", names.len()))
    }
}

/// Kills servers, none of which learns of another's death. Answers how many ended by the signal.
pub fn kill_at_once(servers: &[&Server]) -> usize {
    for server in servers {
        server.expect_end(true);
        server.signal(Signal::KILL);
    }
    let ended = servers.iter().filter_map(|server| server.kill());
    ended.filter(|status| status.signal() == Some(9)).count()
}

/// SIGSTOP of some stores, for longer than a lease.
pub async fn pause_stores(case: &mut Case<'_>, count: usize) -> Ended {
    let names = case.some(case.cluster.store_names(), count);
    pause(case, names).await
}

/// SIGSTOP of the leading placement driver.
pub async fn pause_pd_leader(case: &mut Case<'_>) -> Ended {
    let Some(leader) = case.cluster.pd_leader().await else {
        return Ended::Skipped("no placement driver is known to lead".into());
    };
    pause(case, vec![leader.name.clone()]).await
}

async fn pause(case: &mut Case<'_>, names: Vec<String>) -> Ended {
    let Some(_claim) = case.cluster.claim(&names) else {
        return Ended::Skipped("another fault has one of them".into());
    };
    for server in servers(case, &names) {
        server.signal(Signal::STOP);
    }
    case.note(&format!("stopped {}", names.join(", ")));
    sleep(case.time(1_200, 5_000)).await;
    let stopped = servers(case, &names).filter(|server| server.is_stopped()).count();
    for server in servers(case, &names) {
        server.signal(Signal::CONT);
    }
    if stopped == names.len() {
        Ended::Seen(format!("{stopped} were stopped by the signal"))
    } else {
        Ended::Unseen(format!("{stopped} of {} were stopped", names.len()))
    }
}

/// SIGTERM and start of each store in turn.
pub async fn rolling_restart(case: &mut Case<'_>) -> Ended {
    restart_each(case, |_| ()).await
}

/// The same, and each store changes to the other build.
pub async fn upgrade(case: &mut Case<'_>) -> Ended {
    let Some(other) = case.cluster.other_binary.clone() else {
        return Ended::Skipped("there is no other binary".into());
    };
    let first = case.cluster.pds.first().map(Server::binary).unwrap_or_default();
    restart_each(case, |store| {
        let next = if store.binary() == other { &first } else { &other };
        store.set_binary(next);
    })
    .await
}

async fn restart_each(case: &mut Case<'_>, before_start: impl Fn(&Server)) -> Ended {
    let names = case.cluster.store_names();
    let Some(_claim) = case.cluster.claim(&names) else {
        return Ended::Skipped("another fault has one of them".into());
    };
    let mut slowest = Duration::ZERO;
    for server in servers(case, &names) {
        let (status, took) = server.terminate().await;
        slowest = slowest.max(took);
        match status {
            Some(status) if status.success() => {}
            // It says so, and other faults may have kept it from handing its leaderships on.
            Some(_) if was_cut_short(server) => {
                case.note(&format!("{} was cut short", server.name))
            }
            Some(status) => {
                let how = in_words(status);
                case.cluster.timeline.wrong(format!("{} stopped with {how}", server.name));
            }
            None => case.cluster.timeline.wrong(format!("{} did not stop", server.name)),
        }
        before_start(server);
        start(case, server);
        case.note(&format!("{} stopped in {} ms, and started", server.name, took.as_millis()));
        // Other faults are under way, so it may take longer than a restart does.
        let _ = case.cluster.wait_healthy(BETWEEN_RESTARTS_MAX).await;
    }
    Ended::Seen(format!("{} stores stopped, the slowest in {slowest:?}", names.len()))
}

/// True if the last process of a server said that its stop took too long.
fn was_cut_short(server: &Server) -> bool {
    let log = server.log();
    log.lines().rev().take(3).any(|line| line.contains("the stop was cut short"))
}

/// A store goes back to a copy of its directory that was taken some seconds earlier.
pub async fn old_copy(case: &mut Case<'_>) -> Ended {
    let names = case.some(case.cluster.store_names(), 1);
    let Some(_claim) = case.cluster.claim(&names) else {
        return Ended::Skipped("another fault has it".into());
    };
    let Some(server) = servers(case, &names).next() else {
        return Ended::Skipped("no store".into());
    };
    let copy = case.cluster.root.join(format!("copy-{}", case.number));
    server.kill();
    copy_dir(&server.dir, &copy);
    start(case, server);
    sleep(case.time(2_000, 6_000)).await;
    server.kill();
    let swapped =
        std::fs::remove_dir_all(&server.dir).and_then(|()| std::fs::rename(&copy, &server.dir));
    case.note(&format!("{} goes back to an old copy", server.name));
    start(case, server);
    match swapped {
        Ok(()) => Ended::Seen(format!("{} started on the copy", server.name)),
        Err(error) => Ended::Unseen(error.to_string()),
    }
}

/// Starts a server, and tells it if that fails.
pub fn start(case: &Case<'_>, server: &Server) {
    if let Err(error) = server.start() {
        case.cluster.timeline.wrong(format!("{} cannot be started: {error}", server.name));
    }
}

fn servers<'a>(case: &Case<'a>, names: &'a [String]) -> impl Iterator<Item = &'a Server> + use<'a> {
    let cluster = case.cluster;
    names.iter().filter_map(move |name| cluster.server(name))
}
