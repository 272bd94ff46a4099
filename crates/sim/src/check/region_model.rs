//! One region of the model: its shape, its members and its rows, as the entries up to an index say.
//!
//! It shares no code with the store's `apply`. Which entry says what is read in [`super::model`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_types::{Epoch, Member, MemberRole, PeerChange, Region, RegionId};

use super::group::Configuration;
use super::rows::{Rows, View};
use super::{Verdict, broken, show};

/// An entry is committed by the configuration before it, or before the last change of that: see
/// [`super::quorum`].
const CONFIGURATIONS_KEPT: usize = 2;

/// A region that a split makes, and its rows.
pub type NewRegion = (Region, BTreeMap<Bytes, Bytes>);

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct RegionModel {
    /// The region.
    pub region: Region,
    /// Its rows.
    pub rows: Rows,
    /// The last entry that was applied.
    pub index: u64,
    /// The present configuration, and the one before.
    configurations: Vec<Arc<Configuration>>,
}

impl RegionModel {
    /// A region at `index`, of which no earlier index is known.
    pub fn new(region: Region, rows: BTreeMap<Bytes, Bytes>, index: u64) -> RegionModel {
        let configurations = vec![Arc::new(Configuration::of(&region))];
        RegionModel { region, rows: Rows::new(rows), index, configurations }
    }

    /// The region and its rows as of `index`.
    pub fn at(&self, index: u64) -> Option<View<'_>> {
        self.rows.at(index, (self.index, &self.region))
    }

    /// The entry at `index` begins.
    pub fn begin(&mut self, index: u64) {
        self.index = index;
        self.rows.begin(index);
    }

    /// The present configuration, then the one before the last change, if there was any.
    pub fn configurations(&self) -> Vec<Arc<Configuration>> {
        self.configurations.clone()
    }

    /// The members have changed.
    fn note_members(&mut self) {
        let now = Arc::new(Configuration::of(&self.region));
        self.configurations.insert(0, now);
        self.configurations.truncate(CONFIGURATIONS_KEPT);
    }

    /// Cuts the region at `key`. Answers the right part and its rows; None if the split is refused.
    pub fn split(
        &mut self,
        epoch: Epoch,
        key: Bytes,
        id: RegionId,
        peer_ids: &[u64],
    ) -> Option<NewRegion> {
        let region = &mut self.region;
        let is_inside = region.range.contains(&key) && region.range.start != key;
        let is_whole = !region.is_joint() && peer_ids.len() == region.members.len();
        if epoch != region.epoch || !is_inside || !is_whole {
            return None;
        }
        self.rows.note_region(region);
        region.epoch.version += 1;
        let mut right = Region { id, ..region.clone() };
        right.range.start = key.clone();
        region.range.end = key.clone();
        for (peer, id) in right.members.iter_mut().zip(peer_ids) {
            peer.id = flotilla_types::PeerId(*id);
        }
        let rows = self.rows.split_off(&key);
        Some((right, rows))
    }

    /// Changes members. One change takes effect at once; several changes enter a joint
    /// configuration, in which old and new voters count until an entry leaves it.
    pub fn change_peers(&mut self, epoch: Epoch, changes: &[PeerChange]) {
        if epoch != self.region.epoch {
            return;
        }
        self.rows.note_region(&self.region);
        let is_joint = changes.len() > 1;
        for change in changes {
            self.change_peer(change, is_joint);
        }
        self.region.members.sort_by_key(|peer| peer.id);
        self.region.epoch.conf_ver += 1;
        self.note_members();
    }

    fn change_peer(&mut self, change: &PeerChange, is_joint: bool) {
        let subject = change.member();
        let known = self.region.member(subject.id).map(|peer| peer.role);
        let is_voter = known == Some(MemberRole::Voter);
        let role = match change {
            PeerChange::AddLearner(_) if is_joint && is_voter => Some(MemberRole::DemotingVoter),
            PeerChange::AddLearner(_) => Some(MemberRole::Learner),
            PeerChange::AddVoter(_) if is_joint && !is_voter => Some(MemberRole::IncomingVoter),
            PeerChange::AddVoter(_) => Some(MemberRole::Voter),
            PeerChange::Remove(_) => None,
        };
        let member = self.region.member(subject.id).copied().unwrap_or(subject);
        self.region.members.retain(|peer| peer.id != subject.id);
        self.region.members.extend(role.map(|role| Member { role, ..member }));
    }

    /// The joint configuration is left.
    pub fn leave_joint(&mut self) -> Verdict {
        if !self.region.is_joint() {
            return broken("only a joint configuration is left", show(&self.region));
        }
        self.rows.note_region(&self.region);
        for peer in &mut self.region.members {
            peer.role = match peer.role {
                MemberRole::Voter | MemberRole::IncomingVoter => MemberRole::Voter,
                MemberRole::Learner | MemberRole::DemotingVoter => MemberRole::Learner,
            };
        }
        self.region.epoch.conf_ver += 1;
        self.note_members();
        Ok(())
    }
}
