//! The model as such: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use super::{Action, Broken, Clocks, JUMP, Process, RUNS, World};

impl Model for Clocks {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let process = Process {
            is_busy: false,
            applied: 0,
            folded_at: 0,
            heard: [0; RUNS],
            own: (0, 0),
        };
        vec![World {
            now: 0,
            log: Vec::new(),
            flying: Vec::new(),
            runs: [process; RUNS],
            off: 0,
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
        let settings = [-JUMP, 0, JUMP].into_iter().filter(|off| *off != world.off);
        actions.extend(settings.map(Action::Set));
        actions.extend(world.flying.iter().map(|commit| Action::Land(*commit)));
        for (run, process) in (0..).zip(&world.runs) {
            if process.applied < world.log.len() as u8 {
                actions.push(Action::Follow(run));
            }
            if !process.is_busy {
                let ops = self.proposals(world, run).into_iter();
                actions.extend(ops.map(|op| Action::Send(run, op)));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Tick => world.now += 1,
            Action::Set(off) => world.off = off,
            Action::Follow(run) => {
                let now = world.now;
                let process = &mut world.runs[run as usize];
                for commit in &world.log[process.applied as usize..] {
                    process.heard[commit.author as usize] = now;
                    if commit.author == run {
                        process.own = (commit.made, now);
                        process.is_busy = false;
                    }
                }
                process.applied = world.log.len() as u8;
                process.folded_at = now;
            }
            Action::Send(run, op) => {
                let commit = self.commit(&world, run, op);
                world.flying.push(commit);
                world.flying.sort();
                world.runs[run as usize].is_busy = true;
            }
            Action::Land(commit) => {
                world.flying.retain(|known| *known != commit);
                world.log.push(commit);
                world.broken = self.judge(&world);
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Clocks>> {
        macro_rules! never {
            ($what:ident, $says:expr) => {
                Property::always($says, |_: &Clocks, world: &World| {
                    world.broken != Some(Broken::$what)
                })
            };
        }
        vec![
            never!(TimeAhead, says::BOUNDED),
            never!(TimeStoodStill, says::GOES_ON),
            never!(LeaseEnded, says::LEASE_HOLDS),
            Property::sometimes("time is moved", |model: &Clocks, world: &World| {
                model.fold(&world.log).time > model.ahead
            }),
        ]
    }
}

/// The properties, in words.
pub(super) mod says {
    pub(in crate::clocks) const BOUNDED: &str =
        "while nobody's lease was ended, one wrong clock moves time no further than the lead";
    pub(in crate::clocks) const GOES_ON: &str =
        "time goes on by what has passed, however far it is ahead of every clock";
    pub(in crate::clocks) const LEASE_HOLDS: &str = "nobody ends a lease that its holder relies on";
}
