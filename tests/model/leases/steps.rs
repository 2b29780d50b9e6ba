//! The model as such: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use super::{Action, Broken, Commit, Leasing, Process, Registered, World};

impl Model for Leasing {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let process = |_| Process {
            is_alive: true,
            is_busy: false,
            applied: 0,
        };
        let runs = if self.nodes { 3 } else { 2 };
        vec![World {
            now: 0,
            log: Vec::new(),
            flying: Vec::new(),
            runs: (0..runs).map(process).collect(),
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        if world.now < self.most_time {
            actions.push(Action::Tick);
        }
        if world.log.len() == self.most_log {
            return;
        }
        actions.extend(world.flying.iter().map(|commit| Action::Land(*commit)));
        for (run, process) in (0..).zip(&world.runs) {
            if !process.is_alive {
                continue;
            }
            if !process.is_busy {
                if process.applied < world.log.len() as u8 {
                    actions.push(Action::Follow(run));
                }
                let ops = self.proposals(world, run).into_iter();
                actions.extend(ops.map(|op| Action::Send(run, op)));
            } else if run == 0 {
                actions.push(Action::Crash(run));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let seq = world.log.len() as u8;
        match action {
            Action::Tick => world.now += 1,
            Action::Follow(run) => world.runs[run as usize].applied = seq,
            Action::Send(run, op) => {
                let commit = Commit {
                    author: run,
                    time: self.wall(&world, run),
                    op,
                };
                world.flying.push(commit);
                world.flying.sort();
                world.runs[run as usize].is_busy = true;
            }
            Action::Land(commit) => {
                world.flying.retain(|known| *known != commit);
                world.log.push(commit);
                let author = &mut world.runs[commit.author as usize];
                if author.is_alive {
                    (author.is_busy, author.applied) = (false, seq + 1);
                }
                world.broken = self.fold(&world.log).broken;
            }
            Action::Crash(run) => world.runs[run as usize].is_alive = false,
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Leasing>> {
        macro_rules! never {
            ($what:ident, $says:expr) => {
                Property::always($says, |_: &Leasing, world: &World| {
                    world.broken != Some(Broken::$what)
                })
            };
        }
        vec![
            never!(LeaseEnded, says::LEASE_HOLDS),
            never!(AnotherRunEnded, says::ONLY_THE_RUN),
            never!(MemberGivenUp, says::MEMBER_KEPT),
            never!(SessionCut, says::WHOLE_SESSION),
            never!(StaleOffset, says::OWNER),
            Property::sometimes(
                "a node is taken for dead",
                |model: &Leasing, world: &World| {
                    let has_first = |node: &Registered| node.run == 0;
                    !model.fold(&world.log).nodes.iter().any(has_first)
                },
            ),
        ]
    }
}

/// The properties, in words.
pub(super) mod says {
    pub(in crate::leases) const LEASE_HOLDS: &str = "nobody ends a lease that holds";
    pub(in crate::leases) const ONLY_THE_RUN: &str = "a run that stops takes no other off";
    pub(in crate::leases) const MEMBER_KEPT: &str = "a member is given up by the run that it talks to, and by no other while that is registered";
    pub(in crate::leases) const WHOLE_SESSION: &str =
        "a member whose node is gone has its whole session to find another";
    pub(in crate::leases) const OWNER: &str =
        "I6: only the owner in the present generation commits offsets";
}
