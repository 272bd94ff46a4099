//! What the present turn of a store gathers: log writes of all groups and what waits for them
//! ([`LogTurn`]), outputs, and what features leave for others to the end of the turn.

use flotilla_group::GroupReady;
use flotilla_host::core::message::Envelope;
use flotilla_host::core::turn::{LogTurn, SentReady};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{RegionId, StoreId};

use super::Output;
use super::census::Counts;
use super::envelope::wrap;
use super::peer::Peer;
use super::shared::Shared;

/// What the present turn of a store gathers.
#[derive(Default)]
pub struct Turn {
    /// For the log.
    pub log: LogTurn<(StoreId, Envelope)>,
    /// What is to be done, in order.
    pub out: Vec<Output>,
    /// Regions whose peers were destroyed, in order.
    pub destroyed: Vec<RegionId>,
    /// True if something changed that the placement driver should know soon.
    pub has_news: bool,
    /// True once a region's rows were walked in this turn.
    pub has_counted: bool,
    /// What the peers have done, in all turns.
    pub counts: Counts,
}

impl Turn {
    /// Adds what a peer's group wants written, and the messages that wait for it.
    pub fn log_ready(&mut self, peer: &mut Peer, ready: GroupReady, shared: &Shared) {
        let GroupReady { number, log, must_sync, persisted_messages, .. } = ready;
        if planted(Mutant::SkipSync) {
            self.log.write(log);
        } else if must_sync {
            self.log.write_synced(log);
        } else {
            self.log.write(log);
        }
        let messages: Vec<_> = persisted_messages
            .into_iter()
            .filter_map(|message| wrap(peer, shared, message))
            .collect();
        match peer.lifecycle.deferred_mut() {
            Some(deferred) => deferred.messages.extend(messages),
            None => self.log.send_after(messages),
        }
        let (group, member) = (peer.region.id.0, peer.id.0);
        self.log.report_after(SentReady { group, member, number });
    }

    /// Sends a message to another store; it may be lost.
    pub fn send(&mut self, to: StoreId, envelope: Envelope) {
        self.out.push(Output::Send { to, envelope });
    }
}
