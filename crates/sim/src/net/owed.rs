//! What a connection owes: requests that were sent on it and not answered yet. If the connection
//! breaks, each of them fails at its sender, as the sender's driver reports it.

use flotilla_client::core::failure::Failure;
use flotilla_store::core::Input;
use flotilla_types::{PeerId, RegionId};

use crate::event::{Asker, AttemptId, Body, Question};

/// A request without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// A client's attempt.
    Attempt(AttemptId),
    /// A question to the placement driver.
    Question(Asker),
    /// A client's question to a store for routes.
    Routes(Question),
    /// A snapshot, which its receiver takes or not.
    Snapshot {
        /// The sender's life.
        life: u32,
        /// The region.
        region: RegionId,
        /// The peer that the snapshot is for.
        peer: PeerId,
    },
}

impl Owed {
    /// What a message asks for; None if it asks for nothing.
    pub fn asked(body: &Body) -> Option<Owed> {
        match body {
            Body::Request(request) => Some(Owed::Attempt(request.attempt)),
            Body::PdRequest { asker, .. } => Some(Owed::Question(*asker)),
            Body::RoutesRequest { question, .. } => Some(Owed::Routes(*question)),
            Body::Snapshot { envelope, life, .. } => Some(Owed::Snapshot {
                life: *life,
                region: envelope.region_id,
                peer: PeerId(envelope.to.member),
            }),
            Body::Envelope(_)
            | Body::SnapshotTaken { .. }
            | Body::Reply { .. }
            | Body::Broken { .. }
            | Body::RoutesReply { .. }
            | Body::PdReply { .. } => None,
        }
    }

    /// What a message answers; None if it answers nothing.
    pub fn answered(body: &Body) -> Option<Owed> {
        match body {
            Body::Reply { attempt, .. } | Body::Broken { attempt, .. } => {
                Some(Owed::Attempt(*attempt))
            }
            Body::PdReply { asker, .. } => Some(Owed::Question(*asker)),
            Body::RoutesReply { question, .. } => Some(Owed::Routes(*question)),
            Body::SnapshotTaken { life, input } => match **input {
                Input::SnapshotSent { region, peer, .. } => {
                    Some(Owed::Snapshot { life: *life, region, peer })
                }
                _ => None,
            },
            Body::Envelope(_)
            | Body::Snapshot { .. }
            | Body::Request(_)
            | Body::RoutesRequest { .. }
            | Body::PdRequest { .. } => None,
        }
    }

    /// What its sender is told if the connection could not be made (`is_sent` is false) or broke.
    /// None for a question for routes: its sender passes the store over in time.
    pub fn failed(self, is_sent: bool) -> Option<Body> {
        Some(match self {
            Owed::Routes(_) => return None,
            Owed::Attempt(attempt) => {
                let failure = Box::new(match is_sent {
                    true => Failure::ConnectionLost { reason: "the connection broke".into() },
                    false => Failure::ConnectFailed { reason: "no connection".into() },
                });
                Body::Broken { attempt, failure }
            }
            Owed::Question(asker) => Body::PdReply { asker, reply: None },
            Owed::Snapshot { life, region, peer } => {
                let input = Box::new(Input::SnapshotSent { region, peer, is_ok: false });
                Body::SnapshotTaken { life, input }
            }
        })
    }
}
