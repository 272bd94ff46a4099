//! A member of the placement driver is replaced while the cluster runs.
//!
//! 1. A member's machine is gone for good, or it runs on and is only told, or its directory is lost
//!    and it starts over an empty one as it did at first: it must take part in nothing, and end.
//! 2. The administrator removes the member, and asks again until that is done.
//! 3. A new member is added under a new id, starts with an empty disk, and joins. Sometimes another
//!    one follows at once, while the first one takes its snapshot.
//!
//! Otherwise one at a time: the next begins only once the last one votes. Before each request of
//! step 2 the administrator tries to remove a voter too many. What is asked goes past the network,
//! as all that the nemesis asks.

use flotilla_types::proto;
use proto::change_members_request::Kind;
use proto::pd_reply::Result as Answer;
use proto::pd_request::Op;

use crate::check::{Verdict, Violation, broken, pd_members};
use crate::event::{Event, Relief};
use crate::pd::Question;
use crate::pd::calls::pd_address;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the administrator waits before he asks again.
const AGAIN: Micros = 400 * MS;

/// The members of a placement driver, those that were removed among them.
const MEMBERS_EVER: u32 = 9;

/// Of 1,000 replacements, so many are by two new members.
const TWO_JOIN: u64 = 500;

/// The longest time between two members that join one after the other.
const HASTE: Micros = 300 * MS;

/// Two members more than voters are not given to a group of more.
const VOTERS_MAX: usize = 4;

/// A replacement under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replacement {
    /// The member that is replaced.
    old: u32,
    /// How long after the first new member a second one joins; None if there is one.
    haste: Option<Micros>,
    /// The request to remove a voter too many.
    too_much: Option<Question>,
}

impl World {
    /// Step 1. False if there is one member, or one is being replaced.
    pub(super) fn replace_pd(&mut self) -> Result<bool, Violation> {
        let is_busy = self.nemesis.replaced_pd.is_some();
        let count = self.hub.pd_count;
        if self.hub.scenario.cluster.pds == 1 || is_busy || count >= MEMBERS_EVER {
            return Ok(false);
        }
        let old = self.pd.victim(&mut self.hub.dice.acts);
        let voters = self.pd.voters().filter(|voters| voters.contains(&u64::from(old)));
        let Some(voters) = voters else { return Ok(false) };
        // Of two voters neither may be lost: the other one could remove it no more.
        let may_lose = voters.len() > 2;
        match self.hub.dice.acts.between(0, 3) {
            0 if may_lose => self.pd.retire(&mut self.hub, old)?,
            1 if may_lose && old <= self.hub.scenario.cluster.pds => {
                let down = self.fault_time();
                self.pd.lose_directory(&mut self.hub, old, down)?;
                self.hub.coverage.hit("directories of the placement driver lost");
            }
            _ => {}
        }
        let dice = &mut self.hub.dice.acts;
        let delay = dice.between(0, self.hub.scenario.faults.fault_max);
        let is_hasty = dice.chance(TWO_JOIN) && voters.len() <= VOTERS_MAX;
        let haste = is_hasty.then(|| dice.between(0, HASTE));
        self.nemesis.replaced_pd = Some(Replacement { old, haste, too_much: None });
        self.hub.agenda.after(delay, Event::Relief(Relief::PdReplaced { is_removed: false }));
        Ok(true)
    }

    /// Steps 2 and 3.
    pub(super) fn go_on_replacing_pd(&mut self, is_removed: bool) -> Verdict {
        let Some(Replacement { old, haste, .. }) = self.nemesis.replaced_pd else {
            return Ok(());
        };
        self.check_too_much()?;
        if !is_removed {
            self.ask_too_much()?;
        }
        let id = self.hub.pd_count + 1;
        let change = if is_removed { added(id) } else { Kind::Remove(u64::from(old)) };
        let reply = self.ask_change(change)?;
        let is_done = match reply {
            Some(Answer::Group(group)) if is_removed => {
                self.hub.pd_joined(id);
                self.hub.coverage.hit("members of the placement driver added");
                let another = haste.filter(|_| id < MEMBERS_EVER);
                self.nemesis.replaced_pd =
                    another.map(|_| Replacement { old, haste: None, too_much: None });
                if let Some(haste) = another {
                    let next = Event::Relief(Relief::PdReplaced { is_removed: true });
                    self.hub.agenda.after(haste, next);
                }
                return self.pd.join(&mut self.hub, id, group.into());
            }
            Some(Answer::Group(_)) => {
                self.check_too_much()?;
                self.check_refused(old)?;
                self.hub.coverage.hit("members of the placement driver removed");
                true
            }
            Some(_) | None => is_removed,
        };
        self.hub.agenda.after(AGAIN, Event::Relief(Relief::PdReplaced { is_removed: is_done }));
        Ok(())
    }

    /// Asks for the removal of a voter too many.
    fn ask_too_much(&mut self) -> Verdict {
        let asked = self.pd.ask_too_much(&mut self.hub)?;
        if let Some(replacement) = &mut self.nemesis.replaced_pd {
            replacement.too_much = asked;
        }
        Ok(())
    }

    /// Looks at the answer to the last request to remove a voter too many.
    fn check_too_much(&self) -> Verdict {
        let asked = self.nemesis.replaced_pd.and_then(|replacement| replacement.too_much);
        let reply = asked.and_then(|question| self.pd.answer(question));
        pd_members::check_refused(reply.and_then(|reply| reply.result))
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
    let (id, addr) = (u64::from(id), pd_address(id));
    Kind::Add(proto::PdMember { id, addr, ..proto::PdMember::default() })
}
