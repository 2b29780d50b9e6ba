//! Forwarding: commits that others store for their forwarder, once, often, late or never.
//!
//! One node, the forwarder, has a commit in the log and two more to commit, in order. It forwards them to receivers,
//! recalls them, stores them itself; a receiver may put any copy that it was given into any object of its own, for
//! ever, and acknowledge what it likes. So many others may commit that the fold forgets the forwarder. The forwarder
//! may sleep until the log is truncated under it, and starts over from a snapshot.

mod cases;
mod steps;

use crate::check::{Rules, rules};

rules! {
    /// A commit that is recalled keeps its id.
    KeepsItsId,
    /// The fold drops a commit of which it has folded a copy.
    DuplicateGuard,
    /// A commit that is forwarded says which one it follows.
    SaysWhatItFollows,
    /// One that says so is void where that one is not the last of its forwarder.
    ChainedOrVoid,
    /// What became of a commit is what the forwarder sees in the log, not what a receiver says.
    BelievesTheLog,
    /// Nothing is stored by the forwarder itself while it has forwarded something.
    OneWayAtATime,
    /// Commits that go again as others, since the fold has forgotten their forwarder, follow one another as they did
    /// before.
    ChainRenewed,
    /// A forwarder that starts over says "unknown" of what it had forwarded.
    UnknownAfterStartingOver,
}

/// A commit of the forwarder: which value it appends, under which id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Commit {
    counter: u8,
    follows: Option<u8>,
    value: u8,
}

/// One object of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Object {
    /// The forwarder's own, or one with a forwarded copy of its commit: to the fold they are the same.
    With(Commit),
    /// Of so many others that the fold has forgotten the forwarder.
    Strangers,
    /// Of somebody else.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Nothing,
    Unknown,
    Stored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    Twice,
    Overtaken,
    Lost,
}

/// A commit that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    commit: Commit,
    /// A receiver has it, as far as the forwarder knows.
    is_forwarded: bool,
    /// Some receiver has had it.
    was_forwarded: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    log: Vec<Object>,
    /// What receivers have.
    copies: Vec<Commit>,
    /// How far the forwarder has folded the log.
    applied: u8,
    counter: u8,
    pending: Vec<Pending>,
    told: [Told; 3],
    /// How often it may forward, start over, and how many strangers there are.
    forwards: u8,
    restarts: u8,
    strangers: u8,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The forwarder forwards the first commit that it has not.
    Forward,
    Recall,
    /// It stores the first commit that it has not forwarded.
    Store,
    /// It sends both side by side, and somebody else takes the place of the first.
    LoseFirst,
    /// It folds the next object.
    Fold,
    /// A receiver puts its copy into the log.
    StoreCopy(Commit),
    /// A receiver says that its copy is stored.
    Acknowledge(Commit),
    Forget,
    StartOver,
}

/// The model, at one size.
#[derive(Clone, Debug)]
struct Forwarding {
    rules: Rules,
    most_log: usize,
    forwards: u8,
    restarts: u8,
    strangers: u8,
    /// Whether the forwarder may send both side by side.
    pairs: bool,
}

impl Forwarding {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }

    /// The values in their order, and the last commit of the forwarder that is remembered.
    fn fold(&self, log: &[Object]) -> (Vec<u8>, Option<u8>) {
        let (mut values, mut last) = (Vec::new(), None);
        for object in log {
            match *object {
                Object::Strangers => last = None,
                Object::Other => {}
                Object::With(commit) => {
                    let is_known = last.is_some_and(|last| last >= commit.counter);
                    let is_void = commit.follows.is_some() && commit.follows != last;
                    if is_known && self.on(Rule::DuplicateGuard)
                        || is_void && self.on(Rule::ChainedOrVoid)
                    {
                        continue;
                    }
                    last = Some(commit.counter);
                    values.push(commit.value);
                }
            }
        }
        (values, last)
    }

    fn is_effective(&self, log: &[Object]) -> bool {
        let before = self.fold(&log[..log.len() - 1]).0;
        before.len() < self.fold(log).0.len()
    }

    /// The forwarder folds the next object.
    fn follow(&self, world: &mut World) {
        world.applied += 1;
        let log = &world.log[..world.applied as usize];
        let Some(Object::With(commit)) = log.last().copied() else {
            return;
        };
        let at = |pending: &Pending| pending.commit.counter == commit.counter;
        let Some(at) = world.pending.iter().position(at) else {
            return;
        };
        if self.is_effective(log) {
            world.told[commit.value as usize] = Told::Stored;
            world.pending.remove(at);
        }
    }

    /// It stores a commit itself, at the end of the log, which it knows.
    fn store(&self, world: &mut World) {
        let at = world
            .pending
            .iter()
            .position(|pending| !pending.is_forwarded);
        let Some(at) = at else { return };
        let commit = world.pending[at].commit;
        world.log.push(Object::With(commit));
        if self.is_effective(&world.log) {
            return self.follow(world);
        }
        world.applied += 1;
        // Nothing before it is under way, so the fold has forgotten the forwarder: it goes again as another, and so do
        // all behind it.
        let mut before = None;
        for pending in &mut world.pending[at..] {
            world.counter += 1;
            pending.commit.counter = world.counter;
            pending.commit.follows = before;
            before = self.on(Rule::ChainRenewed).then_some(world.counter);
        }
    }

    /// It sends both at once. The place of the first is taken, the second stands behind that.
    fn lose_first(&self, world: &mut World) {
        let [_, second] = world.pending[..] else {
            return;
        };
        world.log.push(Object::Other);
        world.applied += 1;
        world.log.push(Object::With(second.commit));
        self.follow(world);
    }

    fn forward(&self, world: &mut World) {
        let (_, last) = self.fold(&world.log[..world.applied as usize]);
        let at = world
            .pending
            .iter()
            .position(|pending| !pending.is_forwarded);
        let (Some(at), Some(last)) = (at, last) else {
            return;
        };
        let before = match at {
            0 => last,
            _ => world.pending[at - 1].commit.counter,
        };
        let pending = &mut world.pending[at];
        // The first may leave it out, as one that its forwarder stores itself may.
        let says = at > 0 || self.on(Rule::SaysWhatItFollows);
        pending.commit.follows = says.then_some(before);
        (pending.is_forwarded, pending.was_forwarded) = (true, true);
        world.forwards -= 1;
        let commit = pending.commit;
        if !world.copies.contains(&commit) {
            world.copies.push(commit);
            world.copies.sort();
        }
    }

    fn recall(&self, world: &mut World) {
        let mut before = None;
        for pending in &mut world.pending {
            if pending.is_forwarded && !self.on(Rule::KeepsItsId) {
                world.counter += 1;
                pending.commit.counter = world.counter;
                pending.commit.follows = before;
            }
            before = Some(pending.commit.counter);
            pending.is_forwarded = false;
        }
    }

    /// The forwarder takes the newest state for its own, and does not see what became of what.
    fn start_over(&self, world: &mut World) {
        world.restarts -= 1;
        world.applied = world.log.len() as u8;
        let was_forwarded = world.pending.iter().any(|pending| pending.was_forwarded);
        if was_forwarded && self.on(Rule::UnknownAfterStartingOver) {
            for pending in world.pending.drain(..) {
                world.told[pending.commit.value as usize] = Told::Unknown;
            }
        }
        self.recall(world);
    }

    fn check(&self, world: &mut World) {
        let values = self.fold(&world.log).0;
        let count = |value| values.iter().filter(|stored| **stored == value).count();
        let first = |value| values.iter().position(|stored| *stored == value);
        for value in 1..=2 {
            if count(value) > 1 {
                world.broken = Some(Broken::Twice);
            } else if world.told[value as usize] == Told::Stored && count(value) == 0 {
                world.broken = Some(Broken::Lost);
            }
        }
        // What nobody knows anything of may be missing before what comes later.
        let is_known = world.told[1] != Told::Unknown;
        let overtaken = first(2).is_some_and(|second| first(1).is_none_or(|first| first > second));
        if world.broken.is_none() && overtaken && is_known {
            world.broken = Some(Broken::Overtaken);
        }
    }
}
