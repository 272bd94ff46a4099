//! A member of the placement driver is replaced while the cluster runs.
//!
//! 1. A member's machine is gone for good, or it runs on and is only told, or its directory is lost
//!    and it starts over an empty one as it did at first: it must take part in nothing, and end.
//! 2. The administrator removes the member, and asks again until that is done.
//! 3. A new member is added under a new id, starts with an empty disk, and joins.
//!
//! One at a time: the next begins only once the last one votes. What is asked goes past the
//! network, as all that the nemesis asks.

use flotilla_types::proto;
use proto::change_members_request::Kind;
use proto::pd_reply::Result as Answer;
use proto::pd_request::Op;

use crate::check::{Verdict, Violation, broken};
use crate::event::{Event, Relief};
use crate::pd::node::address;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the administrator waits before he asks again.
const AGAIN: Micros = 400 * MS;

/// The members of a placement driver, those that were removed among them.
const MEMBERS_EVER: u32 = 9;

impl World {
    /// Step 1. False if there is one member, or one is being replaced.
    pub(super) fn replace_pd(&mut self) -> Result<bool, Violation> {
        let is_busy = self.nemesis.replaced_pd.is_some();
        let count = self.hub.pd_count;
        if self.hub.scenario.cluster.pds == 1 || is_busy || count >= MEMBERS_EVER {
            return Ok(false);
        }
        let old = self.pd.victim(&mut self.hub.dice.acts);
        if self.pd.voters().is_none_or(|voters| !voters.contains(&u64::from(old))) {
            return Ok(false);
        }
        self.nemesis.replaced_pd = Some(old);
        match self.hub.dice.acts.between(0, 3) {
            0 => self.pd.retire(&mut self.hub, old)?,
            1 if old <= self.hub.scenario.cluster.pds => {
                let down = self.fault_time();
                self.pd.lose_directory(&mut self.hub, old, down)?;
                self.hub.coverage.hit("directories of the placement driver lost");
            }
            _ => {}
        }
        let delay = self.hub.dice.acts.between(0, self.hub.scenario.faults.fault_max);
        self.hub.agenda.after(delay, Event::Relief(Relief::PdReplaced { is_removed: false }));
        Ok(true)
    }

    /// Steps 2 and 3.
    pub(super) fn go_on_replacing_pd(&mut self, is_removed: bool) -> Verdict {
        let Some(old) = self.nemesis.replaced_pd else { return Ok(()) };
        let id = self.hub.pd_count + 1;
        let change = if is_removed { added(id) } else { Kind::Remove(u64::from(old)) };
        let reply = self.ask_change(change)?;
        let is_done = match reply {
            Some(Answer::Group(group)) if is_removed => {
                self.hub.pd_joined(id);
                self.hub.coverage.hit("members of the placement driver added");
                self.nemesis.replaced_pd = None;
                return self.pd.join(&mut self.hub, id, group.into());
            }
            Some(Answer::Group(_)) => {
                self.check_refused(old)?;
                self.hub.coverage.hit("members of the placement driver removed");
                true
            }
            Some(_) | None => is_removed,
        };
        self.hub.agenda.after(AGAIN, Event::Relief(Relief::PdReplaced { is_removed: is_done }));
        Ok(())
    }

    /// The id of a member that was removed is given to no other.
    fn check_refused(&mut self, old: u32) -> Verdict {
        let reply = self.ask_change(added(old))?;
        match reply {
            Some(Answer::Group(group)) => {
                let what = format!("member {old}: {group:?}");
                broken("the id of a removed placement driver is given to no other", what)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn ask_change(&mut self, change: Kind) -> Result<Option<Answer>, Violation> {
        let request = proto::ChangeMembersRequest { kind: Some(change) };
        Ok(self.ask_leader(Op::ChangeMembers(request))?.and_then(|reply| reply.result))
    }
}

/// The change that adds a member of this number.
fn added(id: u32) -> Kind {
    let (id, addr) = (u64::from(id), address(id));
    Kind::Add(proto::PdMember { id, addr, ..proto::PdMember::default() })
}
