//! The model as such: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use super::{
    Action, Attempt, Broken, Committing, Node, Phase, Put, Rule, Told, Wish, World, awaiting,
};

impl Model for Committing {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let node = Node {
            run: 0,
            counter: 0,
            attempts: 0,
            applied: 0,
            guess: 0,
            phase: Phase::Idle,
            behind: None,
            again: None,
            asked: None,
            sent_before: false,
            questions: 0,
        };
        let wish = Wish {
            tries: 0,
            told: Told::Nothing,
        };
        vec![World {
            log: Vec::new(),
            nodes: vec![node; self.nodes as usize],
            puts: Vec::new(),
            clients: vec![wish; self.clients.len()],
            crashes: 0,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for (client, wish) in world.clients.iter().enumerate() {
            // First at its own node, then at the next one.
            let node = (client as u8 + wish.tries) % self.nodes;
            let again = self.clients[client] && wish.told == Told::Unknown && wish.tries < 2;
            let is_idle = world.nodes[node as usize].phase == Phase::Idle;
            // Of one producer: the second value is sent when the first is on its way, and not if that was given up.
            let first = self.settling(world, node).map(|first| first.commit.value);
            let is_stored = matches!(world.clients[0].told, Told::Offset(_));
            let is_due = client != 2 || !self.overlaps || first == Some(0) || is_stored;
            if (is_idle || self.settling(world, node).is_some())
                && is_due
                && (wish.tries == 0 || again)
            {
                actions.push(Action::Submit(client as u8, node));
            }
            if self.clients[client] && wish.tries == 1 && wish.told == Told::Nothing {
                actions.push(Action::GiveUp(client as u8));
            }
        }
        for put in &world.puts {
            actions.push(Action::Land(*put, true));
            if awaiting(&mut world.clone(), *put).is_some() {
                actions.push(Action::Land(*put, false));
            }
        }
        for (at, node) in world.nodes.iter().enumerate() {
            let at = at as u8;
            match node.phase {
                Phase::Idle => actions.push(Action::Probe(at)),
                Phase::Putting(attempt, answer) => {
                    actions.push(Action::TimeOut(at));
                    match answer {
                        Some(_) => actions.push(Action::Hear(at)),
                        None if self.hedges && !attempt.hedged => actions.push(Action::Hedge(at)),
                        None => {}
                    }
                }
                Phase::Settling(_, None) | Phase::Probing(None) => actions.push(Action::Serve(at)),
                Phase::Settling(..) | Phase::Probing(_) => actions.push(Action::Hear(at)),
            }
            if world.crashes < self.crashes {
                actions.push(Action::Crash(at));
            }
            if node.asked.is_none() && node.questions < self.questions {
                actions.push(Action::Ask(at));
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Submit(client, node) => {
                world.clients[client as usize].tries += 1;
                world.clients[client as usize].told = Told::Nothing;
                if let Some(first) = self.settling(&world, node) {
                    self.put_behind(&mut world, node, client, first);
                    return self.finish(last, world);
                }
                let applied = world.nodes[node as usize].applied as usize;
                world.nodes[node as usize].attempts = 0;
                world.nodes[node as usize].guess = self.fold(&world.log[..applied]).len() as u8;
                let commit = self.next_commit(&mut world, node, client);
                self.try_next(&mut world, node, commit);
            }
            Action::GiveUp(client) => world.clients[client as usize].told = Told::Unknown,
            Action::Land(put, is_heard) => self.land(&mut world, put, is_heard),
            Action::Hedge(node) => {
                if let Phase::Putting(attempt, _) = &mut world.nodes[node as usize].phase {
                    attempt.hedged = true;
                    world.puts.push(Put {
                        seq: attempt.seq,
                        commit: attempt.commit,
                        attempt: attempt.number,
                    });
                }
            }
            Action::TimeOut(node) => self.time_out(&mut world, node)?,
            Action::Probe(node) => {
                let this = &mut world.nodes[node as usize];
                (this.phase, this.sent_before) = (Phase::Probing(None), false);
            }
            Action::Serve(node) => {
                let this = &mut world.nodes[node as usize];
                let next = this.applied as usize;
                let found = world.log.get(next).copied().flatten();
                match &mut this.phase {
                    Phase::Settling(_, answer) | Phase::Probing(answer) => *answer = Some(found),
                    _ => return None,
                }
            }
            Action::Hear(node) => self.hear(&mut world, node)?,
            Action::Crash(node) => {
                world.crashes += 1;
                let this = &mut world.nodes[node as usize];
                (this.run, this.counter, this.applied) = (this.run + 1, 0, 0);
                (this.phase, this.asked) = (Phase::Idle, None);
                (this.behind, this.again) = (None, None);
                for (client, wish) in world.clients.iter_mut().enumerate() {
                    let at = (client as u8 + wish.tries + self.nodes - 1) % self.nodes;
                    if at == node && wish.tries > 0 && wish.told == Told::Nothing {
                        wish.told = Told::Unknown;
                    }
                }
            }
            Action::Ask(node) => {
                let told = |(_, wish): &(usize, &Wish)| matches!(wish.told, Told::Offset(_));
                let acknowledged = world.clients.iter().enumerate().filter(told);
                let mask = acknowledged.fold(0, |mask, (client, _)| mask | 1 << client);
                let this = &mut world.nodes[node as usize];
                this.questions += 1;
                (this.asked, this.sent_before) = (Some(mask), true);
                if let Some(behind) = &mut this.behind {
                    behind.sent_before = true;
                }
            }
        }
        self.finish(last, world)
    }

    fn properties(&self) -> Vec<Property<Committing>> {
        macro_rules! never {
            ($what:ident, $says:expr) => {
                Property::always($says, |_: &Committing, world: &World| {
                    world.broken != Some(Broken::$what)
                })
            };
        }
        vec![
            never!(Hole, says::DENSE),
            never!(Twice, says::ONCE),
            never!(Lost, says::STORED),
            never!(FailedButStored, says::FAILED),
            never!(WrongOffset, says::OFFSET),
            never!(Stale, says::FRESH),
            never!(Overtaken, says::ORDER),
            never!(Overwritten, says::IMMUTABLE),
            Property::sometimes("all are acknowledged", |_, world: &World| {
                let told = |wish: &Wish| matches!(wish.told, Told::Offset(_));
                world.clients.iter().all(told)
            }),
        ]
    }
}

impl Committing {
    /// The commit that the node settles, if it may send another behind it.
    fn settling(&self, world: &World, node: u8) -> Option<Attempt> {
        let this = &world.nodes[node as usize];
        let has_room = self.overlaps && this.behind.is_none() && this.again.is_none();
        match this.phase {
            Phase::Putting(first, _) | Phase::Settling(first, _) if has_room => Some(first),
            _ => None,
        }
    }

    /// Drops PUTs that can do nothing any more, and judges.
    fn finish(&self, last: &World, mut world: World) -> Option<World> {
        if self.on(Rule::CreateIfAbsent) {
            // A PUT that finds its name taken, with nobody waiting, is as good as lost.
            let mut puts = std::mem::take(&mut world.puts);
            let is_taken = |put: &Put| world.log.get(put.seq as usize - 1).copied().flatten();
            puts.retain(|put| {
                is_taken(put).is_none() || awaiting(&mut world.clone(), *put).is_some()
            });
            world.puts = puts;
        }
        world.puts.sort();
        self.check(&mut world);
        (world != *last).then_some(world)
    }

    fn time_out(&self, world: &mut World, node: u8) -> Option<()> {
        let Phase::Putting(attempt, _) = world.nodes[node as usize].phase else {
            return None;
        };
        if self.on(Rule::SettleBeforeNext) {
            world.nodes[node as usize].phase = Phase::Settling(attempt, None);
        } else if world.nodes[node as usize].attempts < self.most_attempts {
            self.put(world, node, attempt.commit, attempt.seq + 1);
        }
        Some(())
    }

    fn hear(&self, world: &mut World, node: u8) -> Option<()> {
        match world.nodes[node as usize].phase {
            Phase::Putting(attempt, Some(true)) => self.acknowledge(world, node, attempt),
            Phase::Putting(attempt, Some(false)) => {
                world.nodes[node as usize].phase = Phase::Settling(attempt, None);
            }
            Phase::Settling(attempt, Some(found)) => self.settled(world, node, attempt, found),
            Phase::Probing(Some(Some(_))) => {
                world.nodes[node as usize].applied += 1;
                world.nodes[node as usize].phase = Phase::Idle;
            }
            Phase::Probing(Some(None)) => {
                self.prove(world, node);
                world.nodes[node as usize].phase = Phase::Idle;
            }
            _ => return None,
        }
        Some(())
    }
}

/// The properties, in words.
pub(super) mod says {
    pub(in crate::commit) const DENSE: &str = "the log has no holes";
    pub(in crate::commit) const ONCE: &str = "I5: what a client wants stored is stored once";
    pub(in crate::commit) const STORED: &str = "I1: what is acknowledged is stored";
    pub(in crate::commit) const FAILED: &str = "what is said to have failed is not stored";
    pub(in crate::commit) const OFFSET: &str =
        "I1: what is acknowledged is at the offset acknowledged";
    pub(in crate::commit) const FRESH: &str = "what was acknowledged is seen by whoever asks later";
    pub(in crate::commit) const ORDER: &str =
        "what a producer sent later is not stored without what it sent before";
    pub(in crate::commit) const IMMUTABLE: &str = "I3: what was once at a seq stays there";
}
