//! A rumour: a voter that a leader's lease rests on learns of a later term, from the answer to a
//! message that it sent long ago. Only a region with five voters has room for that.
//!
//! 1. The clients are cut off from a region's leader, and the followers catch up. Then nobody hears
//!    that leader any more; one of its messages to a follower, the *climber*, is late.
//! 2. The climber stands for election in two terms. Its requests for votes are lost, so that nobody
//!    else learns of these terms; the others' requests are lost, too, so that nobody is elected.
//! 3. The climber is cut off, and the others elect a leader: in the first of the two terms.
//! 4. Once the log is equal everywhere, one follower, the *candidate*, is cut off from the leader.
//!    It hears the climber, and learns the second term from it.
//! 5. The candidate stands for election. In that moment the late message reaches the climber, whose
//!    answer tells the old leader of the second term; and the new leader, whose last round the old
//!    one has just answered, is cut off from all.
//!
//! The old leader must refuse the candidate as long as the new leader's lease may last. If it did
//! not, the candidate would have three votes of five, and clients that read at the new leader would
//! get stale answers.
//!
//! Which messages are lost, and when, is in [`crate::rumour`].

use flotilla_types::{RegionId, StoreId};

use crate::event::{Event, Relief, RumourStage};
use crate::rumour::Rumour;
use crate::time::{MS, Micros};
use crate::world::World;

use super::duel::CATCH_UP;

/// How long a rumour may take: some six election timeouts.
const RUMOUR_MAX: Micros = 9_000 * MS;

/// The voters of a region other than its leader: climber, candidate, the next leader, and one more
/// whose answers keep that leader in office.
const OTHERS_MIN: usize = 4;

impl World {
    /// Chooses a region of five voters and cuts the clients off from its leader (step 1).
    pub(super) fn begin_rumour(&mut self) -> bool {
        let Some((region, old)) = self.some_leader().filter(|_| self.hub.rumour.is_none()) else {
            return false;
        };
        if self.other_voters(region, old).len() < OTHERS_MIN {
            return false;
        }
        self.cut_clients_off(old, RUMOUR_MAX);
        let begins = RumourStage::Begins { region, old };
        self.hub.agenda.after(CATCH_UP, Event::Relief(Relief::Rumour(begins)));
        self.hub.agenda.after(RUMOUR_MAX, Event::Relief(Relief::Rumour(RumourStage::Ends)));
        true
    }

    /// Goes on with a rumour.
    pub(super) fn go_on_with_rumour(&mut self, stage: RumourStage) {
        if self.nemesis.is_over {
            return;
        }
        match stage {
            RumourStage::Begins { region, old } => self.let_climb(region, old),
            RumourStage::Settles => {
                if let Some(leader) = self.hub.rumour.as_ref().and_then(|rumour| rumour.leader) {
                    self.cut_clients_off(leader, RUMOUR_MAX);
                    let parts = Event::Relief(Relief::Rumour(RumourStage::Parts));
                    self.hub.agenda.after(CATCH_UP, parts);
                }
            }
            RumourStage::Parts => self.part_candidate(),
            RumourStage::Ends => self.hub.rumour = None,
        }
    }

    /// Step 2.
    fn let_climb(&mut self, region: RegionId, old: StoreId) {
        let mut others = self.other_voters(region, old);
        self.hub.dice.acts.shuffle(&mut others);
        if let Some(climber) = others.pop().filter(|_| self.hub.rumour.is_none()) {
            self.hub.rumour = Some(Rumour::new(region, old, climber));
            self.hub.duel(region, old, self.hub.duel_time());
        }
    }

    /// Step 4. From now on clients read at the leader, which renews its lease.
    fn part_candidate(&mut self) {
        let Some(rumour) = self.hub.rumour.as_ref().filter(|rumour| rumour.is_settling()) else {
            return;
        };
        let (region, Some(leader)) = (rumour.region, rumour.leader) else { return };
        let taken = [rumour.old, rumour.climber];
        let mut others = self.other_voters(region, leader);
        others.retain(|store| !taken.contains(store));
        self.hub.dice.acts.shuffle(&mut others);
        if let Some((candidate, rumour)) = others.pop().zip(self.hub.rumour.as_mut()) {
            rumour.part(candidate);
            self.hub.duel(region, leader, 4 * self.hub.duel_time());
        }
    }
}
