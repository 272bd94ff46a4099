//! The language of the group's scripts.
//!
//! ```text
//! cluster voters=1,2,3 [learners=4]   begin [with a bound of bytes: uncommitted=8]
//! add 4                               start a member without state, which waits for a snapshot
//! campaign 1 | elect 1                stand for election now | and win it, without output
//! propose 1 foo bar                   propose commands
//! change 1 learner:4 voter:5 remove:2 propose a membership change; more than one: a joint one
//! transfer 1 2                        transfer leadership
//! read 1 [2] | lease 1                ask (twice) for a ticket | print what is left of the lease
//! tick 1 5 | tick all 5 | wait 50     let ticks of 100 ms, or milliseconds, pass
//! deliver [from=1] [to=2]             deliver what waits now, not what is sent because of it
//! drop [from=1] [to=2]                lose what waits now
//! stabilize                           deliver until nothing waits
//! isolate 1 | heal                    cut a member off, losing messages at delivery | nobody
//! untold                              nobody tells how the sending of a snapshot has ended
//! checkpoint 1                        make the applied state durable
//! crash 1 | restart 1                 lose what is not durable | start again
//! truncate 1 5                        forget log entries up to an index
//! lose-log 1 5                        lose log entries after an index, as a broken disk does
//! crash-at-install 1                  crash when its next snapshot is durable, before the log is
//!                                     begun anew
//! status | heartbeats                 print all members | print heartbeats from now on
//! ```

use flotilla_types::proto::RaftMessage;

use crate::cluster::Cluster;
use crate::member::{State, parse_changes, show, show_membership};
use crate::script::{Command, Runner};

/// Milliseconds in a tick.
const TICK_MS: u64 = 100;

impl Runner for Cluster {
    fn run(&mut self, command: &Command, out: &mut Vec<String>) {
        match command.name.as_str() {
            "cluster" => {
                if let Some(bytes) = command.numbers("uncommitted").first() {
                    self.limits.uncommitted_bytes_max = *bytes;
                }
                self.create(&command.numbers("voters"), &command.numbers("learners"));
            }
            "add" => self.add(command.number(0), State::default()),
            "campaign" | "transfer" | "tick" => self.nudge(command, out),
            "propose" | "change" => self.propose(command, out),
            "elect" => self.elect(command.number(0)),
            "read" => self.read(command, out),
            "lease" => self.lease(command.number(0), out),
            "wait" => self.now = self.now.plus(command.number(0)),
            "deliver" | "drop" => self.move_messages(command, out),
            "stabilize" => self.stabilize(out),
            "isolate" => drop(self.is_isolated.insert(command.number(0))),
            "heal" => self.is_isolated.clear(),
            "untold" => self.leaves_snapshots_untold = true,
            "status" => self.status(out),
            "heartbeats" => self.shows_heartbeats = true,
            _ => self.disturb(command, out),
        }
        self.check();
    }
}

impl Cluster {
    fn nudge(&mut self, command: &Command, out: &mut Vec<String>) {
        if command.name != "tick" {
            let id = command.number(0);
            match command.name.as_str() {
                "campaign" => self.member(id).group().campaign(),
                _ => self.member(id).group().transfer_leader(command.number(1)),
            }
            self.work(id, out);
            return;
        }
        let all = command.word(0) == "all";
        for _ in 0..command.number(1) {
            self.now = self.now.plus(TICK_MS);
            let ids: Vec<u64> = self.members.keys().copied().collect();
            for id in ids {
                let is_meant = all || id == command.number(0);
                if let Some(group) = self.member(id).group.as_mut().filter(|_| is_meant) {
                    group.tick();
                    self.work(id, out);
                }
            }
            if all {
                self.stabilize(out);
            }
        }
    }

    fn propose(&mut self, command: &Command, out: &mut Vec<String>) {
        let id = command.number(0);
        let group = self.member(id).group();
        let words = &command.words[1..];
        let results = if command.name == "propose" {
            words.iter().map(|word| group.propose(word.clone().into())).collect()
        } else {
            let context = words.join(" ");
            vec![group.propose_membership(&parse_changes(&context), context.into())]
        };
        for refused in results.into_iter().filter_map(Result::err) {
            out.push(format!("  {id} refuses: {refused}"));
        }
        self.work(id, out);
    }

    fn elect(&mut self, id: u64) {
        self.member(id).group().campaign();
        self.work(id, &mut vec![]);
        self.stabilize(&mut vec![]);
        assert!(self.member(id).group().role().is_leader, "{id} was not elected");
    }

    fn read(&mut self, command: &Command, out: &mut Vec<String>) {
        let (id, now) = (command.number(0), self.now);
        let times = if command.words.len() > 1 { command.number(1) } else { 1 };
        for _ in 0..times {
            match self.member(id).group().read_index(now) {
                Some(ticket) => out.push(format!("  {id} gives ticket {}", ticket.0)),
                None => out.push(format!("  {id} gives no ticket")),
            }
        }
        self.work(id, out);
    }

    fn lease(&mut self, id: u64, out: &mut Vec<String>) {
        let now = self.now;
        let group = self.member(id).group();
        let (holds, left_ms) = (group.lease_holds(now), group.lease_left_ms(now));
        let holds = if holds { "holds" } else { "does not hold" };
        out.push(format!("  the lease of {id} {holds}, {left_ms} ms left"));
    }

    fn move_messages(&mut self, command: &Command, out: &mut Vec<String>) {
        let (from, to) = (command.numbers("from"), command.numbers("to"));
        let is_among = |ids: &[u64], id: u64| ids.is_empty() || ids.contains(&id);
        let is_meant = |m: &RaftMessage| is_among(&from, m.from) && is_among(&to, m.to);
        for message in self.take(is_meant) {
            match command.name.as_str() {
                "drop" => self.lose(message, out),
                _ => self.deliver(message, out),
            }
        }
    }

    fn disturb(&mut self, command: &Command, out: &mut Vec<String>) {
        let (id, now) = (command.number(0), self.now);
        let member = self.member(id);
        match command.name.as_str() {
            "checkpoint" => member.durable = member.state.clone(),
            "crash" => member.crash(),
            "restart" => match member.start(now, true) {
                Ok(()) => self.work(id, out),
                Err(error) => out.push(format!("  {id} does not start: {error}")),
            },
            "truncate" => member.truncate(command.number(1)),
            "lose-log" => member.lose_entries(command.number(1)),
            "crash-at-install" => member.crashes_at_install = true,
            name => panic!("no command {name:?}"),
        }
    }

    fn status(&mut self, out: &mut Vec<String>) {
        for (id, member) in &self.members {
            let State { applied, membership, data } = &member.state;
            let data = data.join(" ");
            let membership = show_membership(membership);
            let Some(group) = &member.group else {
                out.push(format!("  {id} is down"));
                continue;
            };
            let role = group.role();
            let log: Vec<String> = member.entries().into_iter().map(show).collect();
            out.push(format!(
                "  {id} term={} leader={} log=[{}] commit={} applied={} [{data}] {membership}",
                role.term,
                role.leader,
                log.join(" "),
                group.commit_index(),
                show(*applied),
            ));
        }
    }
}
