//! Leases: nodes that are taken for dead, live on or come back, and the group members that they vouch for.
//!
//! Two runs of nodes are registered, each with a member of one group; a third may register when an id is free. Whoever
//! proposes goes by the state that it knows, which may be old, and by its own clock, which may be ahead. What it
//! proposes comes into the log at once, late or never; the fold judges.

mod cases;
mod steps;

use crate::check::{Rules, rules};

type Instant = u8;
/// A run of a node.
type Run = u8;
/// The integer id under which a run is registered.
type Id = u8;
/// A member of the group; the first that is left owns the partition.
type Member = u8;

/// How long a lease lasts.
const LEASE: Instant = 1;
/// How long a member may look for another node when its own is gone.
const SESSION: Instant = 1;

rules! {
    /// Whether a lease has lapsed is judged when the op is folded, not only when it is proposed.
    JudgedByFold,
    /// Any commit of a run renews its lease.
    AnyCommitRenews,
    /// An op that ends a registration names the run, not only the id, which another may have by then.
    NamesTheRun,
    /// Time in the fold is the highest of all commits: it does not go back.
    TimeIsHighest,
    /// A member that a node vouches for is given up by that node alone.
    Vouched,
    /// ... by the run of it that vouches: another may have its id by then.
    VouchedByTheRun,
    /// A member whose node is gone has the time of its session to find another.
    SessionAfterNode,
    /// An offset is committed only by a member of the present generation.
    GenerationChecked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Op {
    Register,
    /// Any commit of a node: it shows that it lives.
    Work,
    ExpireNode(Id, Run),
    RetireNode(Id, Run),
    /// A member talks to this node now.
    Adopt(Member, Id),
    /// By the node that vouches for it, or `None` because nobody does.
    ExpireMember(Member, Option<Id>),
    CommitOffset(Member, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Commit {
    author: Run,
    time: Instant,
    op: Op,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voucher {
    Node(Id),
    Nobody { until: Instant },
}

/// A member with who vouches for it, and what is really so.
#[derive(Clone, Copy, Debug)]
struct Membership {
    member: Member,
    voucher: Voucher,
    /// The run that it talks to, if that is registered.
    run: Option<Run>,
    /// When its run was gone, by the highest time.
    gone: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Registered {
    id: Id,
    run: Run,
    until: Instant,
    /// The highest time at its last commit, and a lease more: what `until` ought to be.
    held: Instant,
}

/// What the fold of a prefix of the log comes to.
#[derive(Clone, Debug)]
struct Folded {
    time: Instant,
    /// What time ought to be.
    highest: Instant,
    nodes: Vec<Registered>,
    members: Vec<Membership>,
    generation: u8,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    LeaseEnded,
    AnotherRunEnded,
    MemberGivenUp,
    SessionCut,
    StaleOffset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Process {
    is_alive: bool,
    /// Whether a commit of it is on its way.
    is_busy: bool,
    /// Its state is the fold of the log up to here.
    applied: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Instant,
    log: Vec<Commit>,
    flying: Vec<Commit>,
    runs: Vec<Process>,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Follow(Run),
    Send(Run, Op),
    Land(Commit),
    Crash(Run),
}

/// The model, at one size.
#[derive(Clone, Debug)]
struct Leasing {
    rules: Rules,
    most_time: Instant,
    most_log: usize,
    /// How far the clock of the second run is ahead.
    skew: Instant,
    /// Whether members are given up, move and commit.
    members: bool,
    /// Whether nodes stop in order, and a third comes.
    nodes: bool,
}

impl Leasing {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }

    fn fold(&self, log: &[Commit]) -> Folded {
        let registered = |run: Run| Registered {
            id: run,
            run,
            until: LEASE,
            held: LEASE,
        };
        let member = |run: Run| Membership {
            member: run,
            voucher: Voucher::Node(run),
            run: Some(run),
            gone: 0,
        };
        let mut state = Folded {
            time: 0,
            highest: 0,
            nodes: (0..2).map(registered).collect(),
            members: (0..2).map(member).collect(),
            generation: 1,
            broken: None,
        };
        for commit in log {
            state.highest = state.highest.max(commit.time);
            state.time = if self.on(Rule::TimeIsHighest) {
                state.highest
            } else {
                commit.time
            };
            let (time, highest) = (state.time, state.highest);
            for node in &mut state.nodes {
                if node.run == commit.author {
                    node.held = highest + LEASE;
                    if self.on(Rule::AnyCommitRenews) {
                        node.until = node.until.max(time + LEASE);
                    }
                }
            }
            self.apply(&mut state, *commit);
        }
        state
    }

    fn apply(&self, state: &mut Folded, commit: Commit) {
        match commit.op {
            Op::Work => {}
            Op::Register => {
                let time = state.time;
                let lapsed = state.nodes.iter().filter(|node| node.until < time);
                for node in lapsed.copied().collect::<Vec<_>>() {
                    if node.run != commit.author {
                        self.end_lease(state, node);
                    }
                }
                if state.id_of(commit.author).is_none() {
                    let is_free = |id: &Id| state.nodes.iter().all(|node| node.id != *id);
                    state.nodes.push(Registered {
                        id: (0..).find(is_free).unwrap_or(Id::MAX),
                        run: commit.author,
                        until: state.time + LEASE,
                        held: state.highest + LEASE,
                    });
                }
            }
            Op::ExpireNode(id, run) => {
                let Some(node) = self.named(state, id, run) else {
                    return;
                };
                if node.until < state.time || !self.on(Rule::JudgedByFold) {
                    self.end_lease(state, node);
                }
            }
            Op::RetireNode(id, run) => {
                if let Some(node) = self.named(state, id, run) {
                    if node.run != run {
                        state.broken = Some(Broken::AnotherRunEnded);
                    }
                    self.remove(state, node);
                }
            }
            Op::Adopt(member, id) => {
                let run = state.run_at(id);
                let is_said_by_it = run == Some(commit.author) || !self.on(Rule::VouchedByTheRun);
                if let Some(this) = state.member_mut(member)
                    && run.is_some()
                    && is_said_by_it
                {
                    (this.voucher, this.run) = (Voucher::Node(id), run);
                }
            }
            Op::ExpireMember(member, by) => self.expire_member(state, commit.author, member, by),
            Op::CommitOffset(member, generation) => {
                let is_owner = state
                    .members
                    .first()
                    .is_some_and(|first| first.member == member);
                let is_present = generation == state.generation;
                let is_accepted = is_present || !self.on(Rule::GenerationChecked);
                if is_accepted && !(is_present && is_owner) {
                    state.broken = Some(Broken::StaleOffset);
                }
            }
        }
    }

    fn named(&self, state: &Folded, id: Id, run: Run) -> Option<Registered> {
        let node = state.nodes.iter().find(|node| node.id == id)?;
        (node.run == run || !self.on(Rule::NamesTheRun)).then_some(*node)
    }

    fn end_lease(&self, state: &mut Folded, node: Registered) {
        if node.held >= state.highest {
            state.broken = Some(Broken::LeaseEnded);
        }
        self.remove(state, node);
    }

    fn remove(&self, state: &mut Folded, node: Registered) {
        let (time, highest) = (state.time, state.highest);
        state.nodes.retain(|known| known.run != node.run);
        for member in &mut state.members {
            if member.voucher == Voucher::Node(node.id) {
                let until = if self.on(Rule::SessionAfterNode) {
                    time + SESSION
                } else {
                    time
                };
                member.voucher = Voucher::Nobody { until };
                (member.run, member.gone) = (None, highest);
            }
        }
    }

    fn expire_member(&self, state: &mut Folded, author: Run, member: Member, by: Option<Id>) {
        let (time, highest) = (state.time, state.highest);
        let by_run = by.and_then(|id| state.run_at(id));
        let Some(this) = state.member_mut(member).copied() else {
            return;
        };
        let is_over = match (by, this.voucher) {
            (Some(by), Voucher::Node(id)) => {
                by == id && (by_run == Some(author) || !self.on(Rule::VouchedByTheRun))
            }
            (None, Voucher::Nobody { until }) => until <= time,
            _ => false,
        };
        if !is_over && self.on(Rule::Vouched) {
            return;
        }
        match this.run {
            Some(run) if run != author => state.broken = Some(Broken::MemberGivenUp),
            None if highest < this.gone + SESSION => state.broken = Some(Broken::SessionCut),
            _ => {}
        }
        state.members.retain(|known| known.member != member);
        state.generation += 1;
    }

    fn wall(&self, world: &World, run: Run) -> Instant {
        world.now + if run == 1 { self.skew } else { 0 }
    }

    /// What a run may propose, by the state that it knows.
    fn proposals(&self, world: &World, run: Run) -> Vec<Op> {
        let state = self.fold(&world.log[..world.runs[run as usize].applied as usize]);
        let now = self.wall(world, run).max(state.time);
        let own = state.id_of(run);
        let mut ops = vec![Op::Work];
        let others = state.nodes.iter().filter(|node| node.run != run);
        let lapsed = others.filter(|node| node.until < now);
        ops.extend(lapsed.map(|node| Op::ExpireNode(node.id, node.run)));
        match own {
            None => ops.push(Op::Register),
            Some(id) if self.nodes => ops.push(Op::RetireNode(id, run)),
            Some(_) => {}
        }
        if !self.members {
            return ops;
        }
        for member in &state.members {
            match member.voucher {
                Voucher::Node(id) if own == Some(id) => {
                    ops.push(Op::ExpireMember(member.member, Some(id)));
                    ops.push(Op::CommitOffset(member.member, state.generation));
                }
                Voucher::Nobody { until } => {
                    ops.extend(own.map(|id| Op::Adopt(member.member, id)));
                    if until <= now {
                        ops.push(Op::ExpireMember(member.member, None));
                    }
                }
                // Nobody gives up another's member, unless nothing forbids it.
                Voucher::Node(_) if !self.on(Rule::Vouched) => {
                    ops.push(Op::ExpireMember(member.member, None));
                }
                Voucher::Node(_) => {}
            }
        }
        // Only the owner has anything to commit.
        let owner = state.members.first().map(|first| first.member);
        ops.retain(|op| !matches!(op, Op::CommitOffset(member, _) if Some(*member) != owner));
        ops
    }
}

impl Folded {
    fn id_of(&self, run: Run) -> Option<Id> {
        let mut nodes = self.nodes.iter();
        nodes.find(|node| node.run == run).map(|node| node.id)
    }

    fn run_at(&self, id: Id) -> Option<Run> {
        let mut nodes = self.nodes.iter();
        nodes.find(|node| node.id == id).map(|node| node.run)
    }

    fn member_mut(&mut self, member: Member) -> Option<&mut Membership> {
        let mut members = self.members.iter_mut();
        members.find(|known| known.member == member)
    }
}
