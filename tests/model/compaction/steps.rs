//! The model as such: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use super::{
    Action, Broken, Commit, Compacting, Compactor, Deleter, END, Object, Op, READ, Read, Reader,
    Rule, SUPERSEDED, Slice, Stored, TAIL_PROOF_LIFE, World,
};

impl Model for Compacting {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let stored = |object: Object| Stored {
            records: 1 << object,
            is_there: true,
        };
        vec![World {
            now: 0,
            log: Vec::new(),
            flying: Vec::new(),
            objects: (0..END).map(stored).collect(),
            compactors: vec![Compactor::Idle; self.compactors.len()],
            reader: Reader {
                applied: 0,
                proven: 0,
                read: None,
            },
            deleter: Deleter {
                applied: 0,
                mourned: Vec::new(),
            },
            retained: false,
            altered: false,
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
        let has_room = world.log.len() < self.most_log;
        if has_room {
            actions.extend(world.flying.iter().map(|commit| Action::Land(*commit)));
        }
        for at in 0..world.compactors.len() as u8 {
            self.compactor_actions(world, at, actions);
        }
        if self.retention && !world.retained {
            actions.extend([1, END].map(Action::SendExpire));
        }
        if self.retention && !world.altered && has_room {
            actions.push(Action::KeepAll);
        }
        if !self.reads {
            return;
        }
        let seq = world.log.len() as u8;
        let Reader {
            applied,
            proven,
            read,
        } = world.reader;
        if read.is_some() {
            actions.push(Action::EndRead);
        } else {
            if (applied, proven) != (seq, world.now) {
                actions.push(Action::Follow);
            }
            let known = self.fold(&world.log[..applied as usize]).slices;
            actions.extend(known.iter().map(|slice| Action::StartRead(slice.object)));
        }
        if world.deleter.applied < seq {
            actions.push(Action::FollowDeleter);
        }
        let state = self.fold(&world.log[..world.deleter.applied as usize]);
        for (object, since) in &state.dead {
            let is_there = world.objects[*object as usize].is_there;
            if is_there && self.is_due(world, &state, *object, *since) {
                actions.push(Action::Delete(*object));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        self.step(&mut world, action)?;
        world.broken = world.broken.or_else(|| self.judge(&world));
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Compacting>> {
        macro_rules! never {
            ($what:ident, $says:expr) => {
                Property::always($says, |_: &Compacting, world: &World| {
                    world.broken != Some(Broken::$what)
                })
            };
        }
        vec![
            never!(Hole, says::DENSE),
            never!(Lost, says::NOT_LOST),
            never!(CameBack, says::GONE_FOR_EVER),
            never!(Missing, says::STORED),
            never!(AgainstSettings, says::BY_SETTINGS),
            never!(ReadCutShort, says::NO_READ_CUT_SHORT),
            never!(SaidLost, says::NOT_SAID_LOST),
        ]
    }
}

impl Compacting {
    fn step(&self, world: &mut World, action: Action) -> Option<()> {
        let (now, seq) = (world.now, world.log.len() as u8);
        match action {
            Action::Tick => {
                world.now += 1;
                let old = world.now.saturating_sub(TAIL_PROOF_LIFE + 1);
                world.reader.proven = world.reader.proven.max(old);
                // A read that takes too long is given up.
                let read = world.reader.read;
                world.reader.read = read.filter(|read| read.started + READ >= world.now);
            }
            Action::Begin(at, base, end) => {
                world.compactors[at as usize] = Compactor::Reading { seq, base, end };
            }
            Action::Write(at) => {
                let Compactor::Reading { seq, base, end } = world.compactors[at as usize] else {
                    return None;
                };
                let slices = self.fold(&world.log[..seq as usize]).slices;
                let is_input = |slice: &&Slice| base <= slice.base && slice.end <= end;
                let inputs = slices.iter().filter(is_input);
                let inputs = inputs.map(|slice| world.objects[slice.object as usize]);
                let mut output = Stored {
                    records: 0,
                    is_there: self.on(Rule::OutputFirst),
                };
                for input in inputs {
                    if !input.is_there {
                        // Its inputs are gone: somebody was faster.
                        world.compactors[at as usize] = Compactor::Done;
                        return Some(());
                    }
                    output.records |= input.records;
                }
                if self.compactors[at as usize] {
                    output.records &= !SUPERSEDED;
                }
                let object = world.objects.len() as Object;
                world.objects.push(output);
                world.compactors[at as usize] = Compactor::Wrote {
                    seq,
                    base,
                    end,
                    object,
                };
            }
            Action::SendReplace(at) => {
                let Compactor::Wrote {
                    seq,
                    base,
                    end,
                    object,
                } = world.compactors[at as usize]
                else {
                    return None;
                };
                let state = self.fold(&world.log[..seq as usize]);
                let op = Op::Replace {
                    layout: state.layout,
                    base,
                    end,
                    object,
                    cleaned: self.compactors[at as usize].then_some(seq),
                };
                world.flying.push(Commit { op, time: now });
                world.compactors[at as usize] = Compactor::Done;
            }
            Action::Claim(at) => world.log.push(Commit {
                op: Op::Claim(at),
                time: now,
            }),
            Action::SendExpire(before) => {
                let op = Op::Expire { before, as_of: seq };
                world.flying.push(Commit { op, time: now });
                world.retained = true;
            }
            Action::KeepAll => {
                world.log.push(Commit {
                    op: Op::KeepAll,
                    time: now,
                });
                world.altered = true;
            }
            Action::Land(commit) => {
                world.flying.retain(|known| *known != commit);
                world.log.push(commit);
            }
            Action::Follow => (world.reader.applied, world.reader.proven) = (seq, now),
            Action::StartRead(object) => self.start_read(world, object),
            Action::EndRead => world.reader.read = None,
            Action::FollowDeleter => {
                world.deleter.applied = seq;
                for (object, _) in self.newest(world).dead {
                    let mut mourned = world.deleter.mourned.iter();
                    if mourned.all(|(known, _)| *known != object) {
                        world.deleter.mourned.push((object, now));
                    }
                }
            }
            Action::Delete(object) => {
                world.objects[object as usize].is_there = false;
                let read = world.reader.read;
                if read.is_some_and(|read| read.object == object && read.is_fresh) {
                    world.broken = Some(Broken::ReadCutShort);
                }
            }
        }
        world.flying.sort();
        Some(())
    }

    fn start_read(&self, world: &mut World, object: Object) {
        let (now, seq) = (world.now, world.log.len() as u8);
        if world.objects[object as usize].is_there {
            world.reader.read = Some(Read {
                object,
                started: now,
                is_fresh: now - world.reader.proven <= TAIL_PROOF_LIFE,
            });
        } else if self.on(Rule::MissingMeansRefresh) {
            (world.reader.applied, world.reader.proven) = (seq, now);
        } else {
            world.broken = Some(Broken::SaidLost);
        }
    }
}

/// The properties, in words.
pub(super) mod says {
    pub(in crate::compaction) const DENSE: &str = "I2: the slices of a partition lie end to end";
    pub(in crate::compaction) const NOT_LOST: &str =
        "I1: no record is lost that nothing supersedes";
    pub(in crate::compaction) const GONE_FOR_EVER: &str =
        "what was deleted or left out does not come back";
    pub(in crate::compaction) const STORED: &str =
        "I4: every segment in which a slice lies is stored";
    pub(in crate::compaction) const BY_SETTINGS: &str =
        "nothing goes by settings that do not hold any more";
    pub(in crate::compaction) const NO_READ_CUT_SHORT: &str =
        "I10: no segment is deleted that a running read needs";
    pub(in crate::compaction) const NOT_SAID_LOST: &str =
        "nobody is told that a stored record is lost";
}
