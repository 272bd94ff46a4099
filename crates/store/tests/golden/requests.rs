//! Clients' requests in scripts: from a command's words, and their answers in one line.

use bytes::Bytes;
use flotilla_store::core::{Answer, Op, ScanOp};
use flotilla_types::{CompareAndSwap, Epoch, KeyRange, Mutation, RegionError, WriteOp};

use crate::script::Command;
use crate::show;

/// What became of a request.
pub type Outcome = Result<Answer, RegionError>;

/// The request that the command describes; None if it describes none. Its first word is a store.
pub fn parse(command: &Command) -> Option<Op> {
    let words: Vec<Bytes> = command.words[1.min(command.words.len())..]
        .iter()
        .map(|word| Bytes::from(expand(word)))
        .collect();
    let word = |at: usize| words.get(at).cloned().unwrap_or_default();
    Some(match command.name.as_str() {
        "get" => Op::Get(words),
        "scan" => Op::Scan(ScanOp {
            range: KeyRange::new(word(0), word(1)),
            limit: command.numbers("limit").first().copied().unwrap_or_default(),
            bytes_max: usize::MAX,
            is_reverse: command.pair("reverse").is_some(),
            keys_only: false,
        }),
        "put" => {
            let put =
                |pair: &[Bytes]| Mutation::Put { key: pair[0].clone(), value: pair[1].clone() };
            mutate(words.chunks(2).map(put).collect())
        }
        "delete" => mutate(words.into_iter().map(|key| Mutation::Delete { key }).collect()),
        "delete-range" => mutate(vec![Mutation::DeleteRange(KeyRange::new(word(0), word(1)))]),
        "cas" => Op::Write(WriteOp::CompareAndSwap(CompareAndSwap {
            key: word(0),
            expected: value(word(1)),
            new: value(word(2)),
        })),
        _ => return None,
    })
}

/// `x*90` stands for ninety times `x`.
fn expand(word: &str) -> String {
    match word.split_once('*') {
        Some((text, times)) => text.repeat(times.parse().expect("a small number")),
        None => word.to_string(),
    }
}

fn mutate(mutations: Vec<Mutation>) -> Op {
    Op::Write(WriteOp::Mutate(mutations))
}

/// `-` stands for an absent value.
fn value(word: Bytes) -> Option<Bytes> {
    (word != "-").then_some(word)
}

/// A key that the request touches, by which it is routed.
pub fn first_key(op: &Op) -> Bytes {
    op.first_key().cloned().unwrap_or_default()
}

/// `2.3` is the epoch of membership 2 and version 3.
pub fn parse_epoch(text: &str) -> Epoch {
    let (conf_ver, version) = text.split_once('.').expect("an epoch is two numbers");
    let number = crate::script::number;
    Epoch { conf_ver: number(conf_ver), version: number(version) }
}

/// The answer in one line.
pub fn outcome(outcome: &Outcome) -> String {
    let value = |value: &Option<Bytes>| value.as_ref().map_or("-".to_string(), |v| show::text(v));
    match outcome {
        Ok(Answer::Get(values)) => values.iter().map(value).collect::<Vec<_>>().join(" "),
        Ok(Answer::Scan { pairs, is_done, walked_to }) => {
            let pair = |(key, value)| format!("{}={}", show::text(key), show::text(value));
            let pairs: Vec<String> = pairs.iter().map(|(k, v)| pair((k, v))).collect();
            let behind = walked_to.as_ref().map(|key| format!(" behind {}", show::text(key)));
            let more = if *is_done { "" } else { " and more" };
            format!("[{}]{more}{}", pairs.join(" "), behind.unwrap_or_default())
        }
        Ok(Answer::Written) => "ok".to_string(),
        Ok(Answer::Swapped { swapped, previous }) => {
            let swapped = if *swapped { "swapped" } else { "not swapped" };
            format!("{swapped}, was {}", value(previous))
        }
        Err(error) => refusal(error),
    }
}

fn refusal(error: &RegionError) -> String {
    match error {
        RegionError::NotLeader { leader, .. } => {
            format!("NotLeader, leader {}", leader.map_or("unknown".into(), |p| show::peer(&p)))
        }
        RegionError::EpochNotMatch { current } => {
            let regions: Vec<String> = current.iter().map(show::region).collect();
            format!("EpochNotMatch, now {}", regions.join(", "))
        }
        RegionError::KeyNotInRegion { key, region } => {
            format!("KeyNotInRegion {} {}", show::text(key), show::region(region))
        }
        RegionError::RegionNotFound { region_id } => format!("RegionNotFound r{region_id}"),
        RegionError::ServerBusy { reason, .. } => format!("ServerBusy, {reason}"),
        RegionError::Undetermined { .. } => "Undetermined".to_string(),
        RegionError::DeadlineExceeded { .. } => "DeadlineExceeded".to_string(),
        other @ (RegionError::WrongDestination { .. }
        | RegionError::LimitExceeded { .. }
        | RegionError::Unsupported { .. }) => other.to_string(),
    }
}
