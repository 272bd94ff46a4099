//! How a member with a new directory joins a group that runs: it asks the group to add it, and
//! keeps what the answer says. A member that has joined asks only which group that is.

use std::time::Duration;

use flotilla_host::driver::dir::DataDir;
use flotilla_net::pd::PdCaller;
use flotilla_net::tls::Tls;
use flotilla_types::placement::{MembersChange, PdMembers, PdOp};
use flotilla_types::proto::pd_reply::Result as Answer;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::core::CoreConfig;
use crate::core::records::{LoadError, load};
use crate::driver::StartError;

/// How long a group may take to add a member.
const JOIN_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a member that has joined waits for the group's answer before it starts without it.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);

/// Completes the configuration of a member that joins the group of these `members`, called with
/// these certificates; empty if it joins none.
pub(crate) fn join(
    core: CoreConfig,
    dir: &DataDir,
    (members, tls): (Vec<String>, Option<Tls>),
    tasks: &Handle,
) -> Result<CoreConfig, StartError> {
    if members.is_empty() {
        return Ok(core);
    }
    let caller = PdCaller::new(members).map_err(|error| StartError::Join(error.to_string()))?;
    let caller = caller.secured(tls);
    let loaded = load(&dir.state).map_err(|error: LoadError| StartError::Open(error.into()))?;
    if loaded.is_of_lone_member() {
        let reason = "its directory is of a placement driver of its own; join in an empty one";
        return Err(StartError::Join(reason.into()));
    }
    let kept = loaded.members;
    let op = match &kept {
        Some(_) => PdOp::Members,
        None => {
            tracing::info!(id = core.id, "asks the placement drivers to add it");
            PdOp::ChangeMembers(MembersChange::Add { id: core.id, addr: core.addr.clone() })
        }
    };
    let limit = if kept.is_some() { ASK_TIME_MAX } else { JOIN_TIME_MAX };
    let asked = tasks.block_on(caller.call(&op.into(), Instant::now() + limit));
    match (asked, kept) {
        (Ok(Answer::Group(group)), Some(kept)) if group.group_id != kept.group_id() => Err(
            StartError::Join("its directory is of another group; check --join and --dir".into()),
        ),
        (Ok(Answer::Group(group)), None) => {
            Ok(CoreConfig { joins: Some(PdMembers::from(group)), ..core })
        }
        (Err(error), None) => Err(StartError::Join(error.to_string())),
        (Ok(_), None) => Err(StartError::Join("an answer that was not asked for".into())),
        (_, Some(_)) => Ok(core),
    }
}
