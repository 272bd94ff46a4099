//! Disks that are slow, full, or fail.
//!
//! A store whose disk fails a write or a sync must stop by itself, and is started again once the
//! disk works. (What a failed sync leaves in the page cache is not lost here: the library fails the
//! call and leaves the file as it is.)

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::processes::{kill_at_once, start};
use super::{Case, Ended, Fault};
use crate::disk::{Disk, FSYNC_FAILS};
use crate::server::in_words;

/// How long a store may go on with a disk that fails: it writes only when someone asks it to.
const FAILING_MAX: Duration = Duration::from_secs(6);

/// Lets the disk of a store go by the fault's rule for a while.
pub async fn run(case: &mut Case<'_>) -> Ended {
    let names = case.some(case.cluster.store_names(), 1);
    let Some(_claim) = case.cluster.claim(&names) else {
        return Ended::Skipped("another fault has it".into());
    };
    let name = names.concat();
    let rule = match case.fault {
        Fault::DiskFull => "full".to_string(),
        Fault::DiskFails => FSYNC_FAILS.to_string(),
        Fault::DiskFlips => "flip".to_string(),
        _ => format!("slow {}", case.dice.between(20, 400)),
    };
    let Some((server, disk)) = case.cluster.server(&name).zip(case.cluster.disk(&name)) else {
        return Ended::Skipped("there is no library in front of the disk".into());
    };
    let before = disk.met();
    server.expect_end(true);
    if let Err(error) = disk.set(&rule) {
        server.expect_end(false);
        return Ended::Skipped(error);
    }
    case.note(&format!("the disk of {name}: {rule}"));
    let is_slow = case.fault == Fault::DiskSlow;
    let limit = if is_slow { case.time(1_500, 6_000) } else { FAILING_MAX };
    let how = until_ended(server, limit).await;
    let healed = disk.set("fine");
    sleep(case.time(50, 2_000)).await;
    let how = how.or_else(|| server.ended());
    if how.is_some() {
        start(case, server);
    }
    server.expect_end(false);
    if let Err(error) = healed {
        case.cluster.timeline.wrong(error);
    }
    let met = disk.met() - before;
    told(case, disk, (met, how))
}

fn told(case: &Case<'_>, disk: &Disk, (met, ended): (u64, Option<ExitStatus>)) -> Ended {
    let how =
        ended.map_or("it went on".into(), |status| format!("it ended with {}", in_words(status)));
    let seen = format!("{met} calls met it; {how}");
    if case.fault == Fault::DiskSlow && ended.is_some() {
        case.cluster.timeline.wrong(format!("a slow disk {disk:?}: {seen}"));
    }
    if met > 0 { Ended::Seen(seen) } else { Ended::Unseen(seen) }
}

async fn until_ended(server: &crate::server::Server, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(status) = server.ended() {
            return Some(status);
        }
        sleep(Duration::from_millis(20)).await;
    }
    None
}

/// Some servers lose power: they are killed at once, and what their disks were not told to sync is
/// undone. One store, or everything.
pub async fn power_loss(case: &mut Case<'_>) -> Ended {
    let names = match case.dice.chance(500) {
        true => case.some(case.cluster.store_names(), 1),
        false => [case.cluster.pd_names(), case.cluster.store_names()].concat(),
    };
    let Some(_claim) = case.cluster.claim(&names) else {
        return Ended::Skipped("another fault has one of them".into());
    };
    let cluster = case.cluster;
    let servers: Vec<_> = names
        .iter()
        .filter_map(|name| Some((cluster.server(name)?, cluster.disk(name)?)))
        .collect();
    let sync = case.time(20, 150);
    for (_, disk) in &servers {
        if let Err(error) = disk.note_writes(sync) {
            return Ended::Skipped(error);
        }
    }
    sleep(case.time(1_000, 4_000)).await;
    kill_at_once(&servers.iter().map(|(server, _)| *server).collect::<Vec<_>>());
    let mut lost = 0;
    for (server, disk) in &servers {
        match disk
            .lose_unsynced(&server.dir)
            .and_then(|writes| disk.set("fine").map_err(std::io::Error::other).map(|()| writes))
        {
            Ok(writes) => lost += writes,
            Err(error) => cluster.timeline.wrong(format!("the disk of {}: {error}", server.name)),
        }
    }
    case.note(&format!("{} without power; {lost} writes lost", names.join(", ")));
    sleep(case.time(50, 2_000)).await;
    for (server, _) in &servers {
        start(case, server);
    }
    let seen = format!("{lost} writes lost");
    if lost > 0 { Ended::Seen(seen) } else { Ended::Unseen(seen) }
}
