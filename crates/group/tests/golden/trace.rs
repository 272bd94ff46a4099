//! A Raft message in one line.

use flotilla_types::proto::{Entry, MessageKind, RaftMessage};

/// The message without its sender and receiver.
pub fn describe(message: &RaftMessage) -> String {
    let reject = |reject: bool| if reject { "no" } else { "yes" };
    let RaftMessage { index, log_term, commit, reject_hint, .. } = message;
    let what = match message.kind() {
        MessageKind::MsgAppend => {
            format!("Append {index}@{log_term}{} commit={commit}", entries(&message.entries))
        }
        MessageKind::MsgAppendResponse if message.reject => {
            format!("AppendReply no {index} hint={reject_hint}")
        }
        MessageKind::MsgAppendResponse => format!("AppendReply {index}"),
        MessageKind::MsgRequestPreVote => format!("PreVote last={index}@{log_term}"),
        MessageKind::MsgRequestPreVoteResponse => {
            format!("PreVoteReply {}", reject(message.reject))
        }
        MessageKind::MsgRequestVote if message.context.is_empty() => {
            format!("Vote last={index}@{log_term}")
        }
        MessageKind::MsgRequestVote => format!("Vote last={index}@{log_term} (transfer)"),
        MessageKind::MsgRequestVoteResponse => format!("VoteReply {}", reject(message.reject)),
        MessageKind::MsgSnapshot => {
            let meta = message.snapshot.clone().unwrap_or_default();
            format!("Snapshot {}@{}", meta.index, meta.term)
        }
        MessageKind::MsgHeartbeat => format!("Heartbeat commit={commit}"),
        MessageKind::MsgHeartbeatResponse => "HeartbeatReply".to_string(),
        MessageKind::MsgTimeoutNow => "TimeoutNow".to_string(),
        other => other.as_str_name().to_string(),
    };
    format!("{what} t{}", message.term)
}

/// True for the messages that are frequent and carry little.
pub fn is_heartbeat(message: &RaftMessage) -> bool {
    matches!(message.kind(), MessageKind::MsgHeartbeat | MessageKind::MsgHeartbeatResponse)
}

/// `+6@2` for one entry, `+6@2..8@3` for more.
fn entries(entries: &[Entry]) -> String {
    let position = |entry: &Entry| format!("{}@{}", entry.index, entry.term);
    match entries {
        [] => String::new(),
        [one] => format!(" +{}", position(one)),
        [first, .., last] => format!(" +{}..{}", position(first), position(last)),
    }
}
