//! The model as such: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use super::{Action, Broken, Life, Object, Op, READ, Read, Rule, Sweeper, Sweeping, World};

impl Model for Sweeping {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 0,
            log: Vec::new(),
            objects: vec![Object::default(); self.segments as usize],
            sweepers: vec![Sweeper::Idle; self.sweepers as usize],
            read: None,
            swept: false,
            returned: false,
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
        for segment in 0..self.segments {
            self.object_actions(world, segment, actions);
        }
        for at in 0..self.sweepers {
            self.sweeper_actions(world, at, actions);
        }
        if world.read.is_some() {
            actions.push(Action::EndRead);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let now = world.now;
        let seq = world.log.len() as u8;
        match action {
            Action::Tick => {
                world.now += 1;
                // A read that takes too long is given up.
                world.read = world.read.filter(|read| read.started + READ > now);
            }
            Action::Mint(segment, at) => {
                let object = &mut world.objects[segment as usize];
                (object.minted, object.uploads) = (Some(at), 1);
            }
            Action::RepeatUpload(segment) => {
                let object = &mut world.objects[segment as usize];
                object.uploads += 1;
                object.repeats += 1;
            }
            Action::LandUpload(segment) => {
                let object = &mut world.objects[segment as usize];
                world.returned |= world.swept && !object.stored;
                object.uploads -= 1;
                object.stored = true;
            }
            Action::HearUpload(segment) => world.objects[segment as usize].is_heard = true,
            Action::SendAppend(segment) => {
                let object = &mut world.objects[segment as usize];
                object.appends += 1;
                object.tries += 1;
            }
            Action::LandAppend(segment) => {
                world.objects[segment as usize].appends -= 1;
                world.log.push((Op::Append(segment), now));
            }
            Action::Retire(segment) => world.log.push((Op::Retire(segment), now)),
            Action::DeleteDead(segment) => {
                self.delete(&mut world, segment);
                world.log.push((Op::ObjectDeleted(segment), now));
            }
            Action::Raise(at, before) => {
                let after = if self.on(Rule::BoundaryFirst) {
                    world.log.push((Op::RaiseSweepBoundary(before), now));
                    seq + 1
                } else {
                    seq
                };
                let seq = if self.on(Rule::StateWithBoundary) {
                    after
                } else {
                    // It had not folded the last commit when it made the op.
                    seq.saturating_sub(1)
                };
                world.sweepers[at as usize] = Sweeper::Ready { before, seq };
            }
            Action::List(at) => {
                let Sweeper::Ready { before, seq } = world.sweepers[at as usize] else {
                    return None;
                };
                let stored = (0..)
                    .zip(&world.objects)
                    .filter(|(_, object)| object.stored);
                let names = stored.fold(0, |names, (segment, _)| names | 1 << segment);
                world.sweepers[at as usize] = Sweeper::Listed { before, seq, names };
            }
            Action::Sweep(at, segment) => {
                if let Sweeper::Listed { names, .. } = &mut world.sweepers[at as usize] {
                    *names &= !(1 << segment);
                }
                world.swept = true;
                self.delete(&mut world, segment);
            }
            Action::Finish(at) => world.sweepers[at as usize] = Sweeper::Idle,
            Action::StartRead(segment) => {
                world.read = Some(Read {
                    segment,
                    started: now,
                });
            }
            Action::EndRead => world.read = None,
        }
        let state = self.newest(&world);
        let missing = |(life, object): (&Life, &Object)| *life == Life::Live && !object.stored;
        if state.segments.iter().zip(&world.objects).any(missing) {
            world.broken = Some(Broken::LiveMissing);
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Sweeping>> {
        vec![
            Property::always(says::STORED, |_, world: &World| {
                world.broken != Some(Broken::LiveMissing)
            }),
            Property::always(says::NO_READ_CUT_SHORT, |_, world: &World| {
                world.broken != Some(Broken::ReadCutShort)
            }),
            Property::sometimes("an orphan is swept", |_, world: &World| world.swept),
            Property::sometimes(
                "a late upload brings a swept name back",
                |_, world: &World| world.returned,
            ),
        ]
    }
}

/// The properties, in words.
pub(super) mod says {
    pub(in crate::sweep) const STORED: &str = "I4: every segment in which a slice lies is stored";
    pub(in crate::sweep) const NO_READ_CUT_SHORT: &str =
        "I10: no segment is deleted that a running read needs";
}
