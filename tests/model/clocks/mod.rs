//! Time in the fold, wall clocks that jump, and leases that go by neither.
//!
//! Three runs of nodes are registered. The wall clock of the first is right, that of the second is ahead by as much as
//! is allowed, and that of the third is set ahead or back by much while it runs, whenever it likes. All boot-time
//! clocks run alike. What is committed comes into the log at once, late or never; a run hears of the log late. A run
//! ends another's lease when it has not heard of it for as long as that lasts.

mod cases;
mod steps;

use crate::check::{Rules, rules};

type Instant = i8;
/// A run of a node.
type Run = u8;

/// How many runs there are.
const RUNS: usize = 3;
/// How long a lease lasts.
const LEASE: Instant = 1;
/// How far a right clock may be ahead.
const SKEW: Instant = 1;
/// How far a wall clock may move time beyond another's: as far apart as right ones may be, one ahead and one behind.
const LEAD: Instant = 2;
/// How far the wrong clock is set ahead, or back.
const JUMP: Instant = 9;

rules! {
    /// A commit moves time at least to where its author carried it on.
    CarriedOn,
    /// A wall clock moves time no further than another vouches for, and the lead.
    BoundedByOthers,
    /// What another vouches for is what its wall clock said, not what it took for the time.
    VouchedByWallClock,
    /// A lease is taken for lapsed by who has not heard of its holder for so long by its boot-time clock.
    SilenceByBoot,
    /// An op that ends a lease says by which state it was judged, and is refused if its holder has committed since.
    NothingHeardSince,
    /// A holder counts its lease from when it made the commit that renewed it.
    CountsFromMaking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Op {
    /// Any commit of a node: it shows that it lives.
    Work,
    /// Ends the lease of a run, judged by the fold of the log up to there.
    Expire(Run, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Commit {
    author: Run,
    /// The fold's time, carried on by the author.
    carried: Instant,
    wall: Instant,
    op: Op,
    /// How much of the log its author had folded, and when it made the commit.
    seen: u8,
    made: Instant,
    /// How much time had passed since the author folded the last commit.
    passed: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registered {
    run: Run,
    until: Instant,
    /// What its wall clock said, and what it took for the time.
    said: (Instant, Instant),
    /// How long the log was with its last commit.
    last: u8,
}

/// What the fold of a prefix of the log comes to.
#[derive(Clone, Debug)]
struct Folded {
    time: Instant,
    nodes: Vec<Registered>,
    /// Whose lease the last commit ended.
    ended: Option<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    TimeAhead,
    TimeStoodStill,
    LeaseEnded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Process {
    /// A commit of it is on its way, or in the log and it has not heard of that.
    is_busy: bool,
    /// Its state is the fold of the log up to here, since then.
    applied: u8,
    folded_at: Instant,
    /// When it heard of each run last.
    heard: [Instant; RUNS],
    /// When it made the last of its own commits that it knows to be in the log, and when it heard so.
    own: (Instant, Instant),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Instant,
    log: Vec<Commit>,
    flying: Vec<Commit>,
    runs: [Process; RUNS],
    /// The wrong clock minus the real time.
    off: Instant,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    /// Somebody sets the wrong clock.
    Set(Instant),
    Follow(Run),
    Send(Run, Op),
    Land(Commit),
}

/// The model, at one size.
#[derive(Clone, Debug)]
struct Clocks {
    rules: Rules,
    most_time: Instant,
    most_log: usize,
    /// How far time is ahead in the beginning.
    ahead: Instant,
    /// Whether leases are ended.
    leases: bool,
}

impl Clocks {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }

    fn fold(&self, log: &[Commit]) -> Folded {
        let registered = |run: usize| Registered {
            run: run as Run,
            until: self.ahead + LEASE,
            said: (0, self.ahead),
            last: 0,
        };
        let mut state = Folded {
            time: self.ahead,
            nodes: (0..RUNS).map(registered).collect(),
            ended: None,
        };
        for (seq, commit) in (1..).zip(log) {
            self.apply(&mut state, seq, *commit);
        }
        state
    }

    fn apply(&self, state: &mut Folded, seq: u8, commit: Commit) {
        state.ended = None;
        let others = state.nodes.iter().filter(|node| node.run != commit.author);
        let vouched = others.map(|node| match self.on(Rule::VouchedByWallClock) {
            true => node.said.0,
            false => node.said.1,
        });
        let believed = match vouched.max() {
            Some(vouched) if self.on(Rule::BoundedByOthers) => commit.wall.min(vouched + LEAD),
            _ => commit.wall,
        };
        state.time = state.time.max(believed);
        if self.on(Rule::CarriedOn) {
            state.time = state.time.max(commit.carried);
        }
        let time = state.time;
        let author = state
            .nodes
            .iter_mut()
            .find(|node| node.run == commit.author);
        if let Some(author) = author {
            author.until = author.until.max(time + LEASE);
            author.said = (commit.wall, commit.wall.max(commit.carried));
            author.last = seq;
        }
        if let Op::Expire(run, as_of) = commit.op
            && let Some(node) = state.nodes.iter().find(|node| node.run == run)
            && node.until < time
            && (node.last <= as_of || !self.on(Rule::NothingHeardSince))
        {
            state.nodes.retain(|node| node.run != run);
            state.ended = Some(run);
        }
    }

    fn known(&self, world: &World, run: Run) -> Folded {
        self.fold(&world.log[..world.runs[run as usize].applied as usize])
    }

    fn wall(&self, world: &World, run: Run) -> Instant {
        world.now
            + match run {
                0 => 0,
                1 => SKEW,
                _ => world.off,
            }
    }

    fn commit(&self, world: &World, author: Run, op: Op) -> Commit {
        let process = &world.runs[author as usize];
        let passed = world.now - process.folded_at;
        Commit {
            author,
            carried: self.known(world, author).time + passed,
            wall: self.wall(world, author),
            op,
            seen: process.applied,
            made: world.now,
            passed,
        }
    }

    /// What a run may propose, by the state that it knows.
    fn proposals(&self, world: &World, run: Run) -> Vec<Op> {
        let state = self.known(world, run);
        let process = &world.runs[run as usize];
        let mut ops = vec![Op::Work];
        if !self.leases || state.nodes.iter().all(|node| node.run != run) {
            return ops;
        }
        for node in state.nodes.iter().filter(|node| node.run != run) {
            let silence = world.now - process.heard[node.run as usize];
            let has_lapsed = match self.on(Rule::SilenceByBoot) {
                true => silence >= LEASE,
                false => node.until < self.wall(world, run),
            };
            if has_lapsed {
                ops.push(Op::Expire(node.run, process.applied));
            }
        }
        ops
    }

    /// Whether a run relies on its lease.
    fn relies(&self, world: &World, run: Run) -> bool {
        let (made, heard) = world.runs[run as usize].own;
        let since = match self.on(Rule::CountsFromMaking) {
            true => made,
            false => heard,
        };
        world.now - since < LEASE
    }

    /// What has become of the world with the last commit in the log.
    fn judge(&self, world: &World) -> Option<Broken> {
        let (last, before) = world.log.split_last()?;
        let (old, new) = (self.fold(before), self.fold(&world.log));
        let is_all_there = new.nodes.len() == RUNS;
        let most = (world.now + SKEW + LEAD).max(self.ahead + world.now);
        if is_all_there && new.time > most {
            return Some(Broken::TimeAhead);
        }
        if usize::from(last.seen) == before.len() && new.time - old.time < last.passed {
            return Some(Broken::TimeStoodStill);
        }
        match new.ended {
            Some(run) if self.relies(world, run) => Some(Broken::LeaseEnded),
            _ => None,
        }
    }
}
