//! The model as such: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use super::{Action, Broken, Commit, Forwarding, Object, Pending, Rule, Told, World};

impl Model for Forwarding {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let commit = |counter| Commit {
            counter,
            // The first is on its way alone, the second behind the first.
            follows: (counter == 3).then_some(2),
            value: counter - 1,
        };
        let pending = |counter| Pending {
            commit: commit(counter),
            is_forwarded: false,
            was_forwarded: false,
        };
        vec![World {
            log: vec![Object::With(commit(1))],
            copies: Vec::new(),
            applied: 1,
            counter: 3,
            pending: vec![pending(2), pending(3)],
            told: [Told::Nothing; 3],
            forwards: self.forwards,
            restarts: self.restarts,
            strangers: self.strangers,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        let is_at_end = usize::from(world.applied) == world.log.len();
        if !is_at_end {
            actions.push(Action::Fold);
        }
        if world.forwards > 0 {
            actions.push(Action::Forward);
        }
        if world.restarts > 0 && !is_at_end {
            actions.push(Action::StartOver);
        }
        let is_any_forwarded = world.pending.iter().any(|pending| pending.is_forwarded);
        if is_any_forwarded {
            actions.push(Action::Recall);
        }
        if !self.on(Rule::BelievesTheLog) {
            actions.extend(world.copies.iter().map(|copy| Action::Acknowledge(*copy)));
        }
        if world.log.len() == self.most_log {
            return;
        }
        // What it stores itself goes to the end of the log, or loses its race and is as if it had not been sent.
        if is_at_end && !(is_any_forwarded && self.on(Rule::OneWayAtATime)) {
            actions.push(Action::Store);
            let is_pair = self.pairs && !is_any_forwarded && world.pending.len() == 2;
            if is_pair && world.log.len() + 2 <= self.most_log {
                actions.push(Action::LoseFirst);
            }
        }
        actions.extend(world.copies.iter().map(|copy| Action::StoreCopy(*copy)));
        if world.strangers > 0 {
            actions.push(Action::Forget);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Forward => self.forward(&mut world),
            Action::Recall => self.recall(&mut world),
            Action::Store => self.store(&mut world),
            Action::LoseFirst => self.lose_first(&mut world),
            Action::Fold => self.follow(&mut world),
            Action::StoreCopy(copy) => world.log.push(Object::With(copy)),
            Action::Acknowledge(copy) => {
                world
                    .pending
                    .retain(|pending| pending.commit.counter != copy.counter);
                world.told[copy.value as usize] = Told::Stored;
            }
            Action::Forget => {
                world.strangers -= 1;
                world.log.push(Object::Strangers);
            }
            Action::StartOver => self.start_over(&mut world),
        }
        self.check(&mut world);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Forwarding>> {
        macro_rules! never {
            ($what:ident, $says:expr) => {
                Property::always($says, |_: &Forwarding, world: &World| {
                    world.broken != Some(Broken::$what)
                })
            };
        }
        vec![
            never!(Twice, says::ONCE),
            never!(Overtaken, says::IN_ORDER),
            never!(Lost, says::DURABLE),
            Property::sometimes(
                "both are stored by receivers",
                |_: &Forwarding, world: &World| {
                    world.told == [Told::Nothing, Told::Stored, Told::Stored]
                        && world.copies.len() > 1
                },
            ),
            Property::sometimes(
                "a copy is stored behind the effect of another",
                |model: &Forwarding, world: &World| {
                    let stored = |object: &Object| matches!(object, Object::With(_));
                    let stored = world.log.iter().filter(|object| stored(object)).count();
                    stored > model.fold(&world.log).0.len() + 1
                },
            ),
        ]
    }
}

/// The properties, in words.
pub(super) mod says {
    pub(in crate::forwarding) const ONCE: &str = "no commit takes effect twice";
    pub(in crate::forwarding) const IN_ORDER: &str =
        "what a forwarder commits takes effect in order";
    pub(in crate::forwarding) const DURABLE: &str = "what is acknowledged is in the log";
}
