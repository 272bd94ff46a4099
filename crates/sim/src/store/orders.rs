//! Orders that the nemesis slips into the placement driver's answers, where a real one could have
//! given them: leaderships handed on at the worst moment.

use flotilla_store::core::worker::Worker;
use flotilla_types::{StoreId, proto};

use crate::event::{Event, Relief};
use crate::hub::Hub;
use crate::net::Link;
use crate::time::{MS, Micros};

/// What the placement driver seems to want with its next answer.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Links that are cut soon after, so that the store is deaf.
    pub deaf: Vec<Link>,
    /// For how long.
    pub time: Micros,
    /// True if it is deaf at once, and clients see to it that a lease kept too long is noticed.
    pub is_watched: bool,
}

/// What waits at a store for the placement driver's next answer.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// All leaderships are to be moved.
    pub orders: Option<Orders>,
    /// True if the next peer that the store is told to remove is to be handed the leadership, too.
    pub hands_on_to_removed: bool,
}

impl Waiting {
    /// Adds what waits to what the placement driver wants of the store.
    pub fn add_to(
        &mut self,
        hub: &mut Hub,
        (store, worker): (StoreId, &Worker),
        reply: &mut proto::HeartbeatReply,
    ) {
        if self.hands_on_to_removed {
            self.hand_on_to_removed(hub, reply);
        }
        if let Some(orders) = self.orders.take() {
            hand_all_on(hub, (store, worker), reply, orders);
        }
    }

    /// A peer that is to be removed is made the leader in the same moment.
    fn hand_on_to_removed(&mut self, hub: &mut Hub, reply: &mut proto::HeartbeatReply) {
        use proto::region_command::Step;
        let removal = reply.commands.iter().find_map(|command| match &command.step {
            Some(Step::RemovePeer(remove)) => Some((command.clone(), remove.peer_id)),
            Some(_) | None => None,
        });
        let Some((removal, peer_id)) = removal else { return };
        self.hands_on_to_removed = false;
        hub.coverage.hit("leaderships handed to a peer that is being removed");
        let step = Some(Step::TransferLeader(proto::TransferLeaderStep { peer_id }));
        reply.commands.push(proto::RegionCommand { step, ..removal });
    }
}

/// Transfers of all leaderships, as if the placement driver had planned them; the store is
/// deaf soon after.
fn hand_all_on(
    hub: &mut Hub,
    (store, worker): (StoreId, &Worker),
    reply: &mut proto::HeartbeatReply,
    orders: Orders,
) {
    let Orders { deaf, time, is_watched } = orders;
    for region in worker.regions() {
        let leader = worker.peer(region.id).filter(|peer| peer.is_leader());
        let others = region.members.iter().filter(|peer| peer.store_id != store);
        let others: Vec<u64> = others.map(|peer| peer.id.0).collect();
        if let (Some(_), Some(peer_id)) = (leader, hub.dice.processes.pick(&others).copied()) {
            let step = proto::TransferLeaderStep { peer_id };
            let step = Some(proto::region_command::Step::TransferLeader(step));
            let (region_id, epoch) = (region.id.0, Some(region.epoch.into()));
            reply.commands.push(proto::RegionCommand { region_id, epoch, step });
            if is_watched {
                hub.duel(region.id, store, hub.duel_time());
            }
        }
    }
    let delay = if is_watched { 0 } else { hub.dice.processes.between(0, 60 * MS) };
    hub.agenda.after(delay, Event::Relief(Relief::CutOff(deaf.clone())));
    hub.agenda.after(delay + time, Event::Relief(Relief::Links(deaf)));
}
