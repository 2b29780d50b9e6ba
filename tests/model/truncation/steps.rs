//! The model as such: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use super::keeper::is_cleared;
use super::log::{Author, Commit, Op, Seq};
use super::world::{Attempt, Broken, GONE, Node, Phase, Put, Read, Slot, World, is_data};
use super::{READ, Role, Rule, TAIL_PROOF_LIFE, Truncation};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Time passes.
    Tick,
    /// The node asks for the next seq and hears the answer at once.
    Probe(u8),
    /// The node commits, in one instant.
    Commit(u8, Op),
    WriteSnapshot(u8),
    MakeBoundary(u8),
    Delete(u8, Seq),
    Crash(u8),
    StartRead(u8, Seq),
    EndRead(u8),
    /// The slow node sends a commit.
    Send(u8),
    /// A PUT reaches the store.
    Land(u8),
    /// The slow node gives up waiting for the answer to its PUT, and reads.
    TimeOut(u8),
    SendProbe(u8),
    /// The store answers what the slow node reads.
    Serve(u8),
    /// The slow node hears the answer.
    Hear(u8),
    ReadSnapshot(u8),
}

impl Model for Truncation {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let last = self.roles.len() - 1;
        let commit = |(at, op): (usize, &Op)| Commit {
            author: Author {
                node: last as u8,
                run: 0,
            },
            counter: at as u8 + 1,
            time: 0,
            op: *op,
        };
        let history: Vec<Commit> = self.begin.iter().enumerate().map(commit).collect();
        let state = self.fold(&history);
        let len = history.len() as Seq;
        let node = |at: usize| Node {
            run: 0,
            counter: if at == last { len } else { 0 },
            applied: if at == last && self.behind { 0 } else { len },
            trusted: 0,
            proven: 0,
            phase: Phase::Idle,
            wrote: 0,
            made: 0,
            known: state.snapshots.clone(),
            mourned: state.dead.clone(),
            read: None,
            attempts: 0,
        };
        let late = |op: Op| Put {
            node: GONE,
            run: 0,
            attempt: 1,
            seq: len + 1,
            commit: Commit {
                author: Author { node: GONE, run: 0 },
                counter: 1,
                time: 0,
                op,
            },
        };
        vec![World {
            now: 0,
            slots: vec![Slot::Original; history.len()],
            boundary: 0,
            snapshot: state.newest_snapshot(),
            nodes: (0..self.roles.len()).map(node).collect(),
            flying: self.flying.map(late).into_iter().collect(),
            broken: None,
            history,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        if world.now < self.most_time {
            actions.push(Action::Tick);
        }
        for (at, put) in world.flying.iter().enumerate() {
            // One that finds its name taken, with nobody waiting, is as good as lost.
            let is_free = world.stands(put.seq).is_none();
            if (is_free && self.has_room(world, put.seq)) || awaited_by(world, put).is_some() {
                actions.push(Action::Land(at as u8));
            }
        }
        for (at, role) in self.roles.iter().enumerate() {
            let at = at as u8;
            if world.nodes[at as usize].run < self.crashes {
                actions.push(Action::Crash(at));
            }
            match role {
                Role::Follower => actions.push(Action::Probe(at)),
                Role::Reader => self.reader_actions(world, at, actions),
                Role::Keeper => self.keeper_actions(world, at, actions),
                Role::Slow(op) => self.slow_actions(world, at, *op, actions),
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        self.step(&mut world, action)?;
        if world.broken.is_none() {
            let state = self.fold(&world.history);
            if state.is_double {
                world.broken = Some(Broken::FoldedTwice);
            } else if !is_cleared(&world, &state, state.truncated) {
                world.broken = Some(Broken::LeftBehind);
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Truncation>> {
        macro_rules! never {
            ($what:ident, $says:expr) => {
                Property::always($says, |_: &Truncation, world: &World| {
                    world.broken != Some(Broken::$what)
                })
            };
        }
        vec![
            never!(GarbageFolded, says::ONLY_THE_LOG),
            never!(GarbageAcknowledged, says::ACKNOWLEDGED_IN_THE_LOG),
            never!(StaleProof, says::AT_THE_TAIL),
            never!(FoldedTwice, says::ONCE),
            never!(LiveDeleted, says::NO_LIVE_DELETED),
            never!(ReadCutShort, says::NO_READ_CUT_SHORT),
            never!(WrongBytes, says::RIGHT_BYTES),
            never!(LeftBehind, says::TRUNCATED),
            Property::always(says::WHOLE_AFTER_SNAPSHOT, |_, world: &World| {
                let mut after = world.snapshot + 1..=world.len();
                after.all(|seq| world.slots[seq as usize - 1] == Slot::Original)
            }),
        ]
    }
}

/// The properties, in words.
pub(super) mod says {
    pub(crate) const ONLY_THE_LOG: &str = "nobody folds a commit that is not of the log";
    pub(crate) const ACKNOWLEDGED_IN_THE_LOG: &str =
        "nobody acknowledges a commit that is not of the log";
    pub(crate) const AT_THE_TAIL: &str = "a node that believes itself at the tail has all that was in the log at the instant of its proof";
    pub(crate) const ONCE: &str = "a commit is folded once";
    pub(crate) const NO_LIVE_DELETED: &str = "I10: no commit is deleted in which a slice lies";
    pub(crate) const NO_READ_CUT_SHORT: &str =
        "I10: no commit is deleted that a running read needs";
    pub(crate) const RIGHT_BYTES: &str = "I4: a read gets the bytes of the log or none";
    pub(crate) const TRUNCATED: &str = "what is truncated is deleted";
    pub(crate) const WHOLE_AFTER_SNAPSHOT: &str =
        "a node that starts finds every commit after the snapshot";
}

/// The node that waits for the answer to this PUT.
fn awaited_by(world: &World, put: &Put) -> Option<usize> {
    let node = world.nodes.get(put.node as usize)?;
    match node.phase {
        Phase::Putting(Attempt { number, .. }, None) => {
            ((number, node.run) == (put.attempt, put.run)).then_some(put.node as usize)
        }
        _ => None,
    }
}

impl Truncation {
    /// Whether the model's bound lets something be created there.
    fn has_room(&self, world: &World, seq: Seq) -> bool {
        seq <= world.len() || world.history.len() < self.most_commits
    }

    fn reader_actions(&self, world: &World, node: u8, actions: &mut Vec<Action>) {
        actions.push(Action::Probe(node));
        if world.nodes[node as usize].read.is_some() {
            return actions.push(Action::EndRead(node));
        }
        let live = self.fold(world.folded_by(node)).live;
        actions.extend(live.iter().map(|seq| Action::StartRead(node, *seq)));
    }

    fn keeper_actions(&self, world: &World, node: u8, actions: &mut Vec<Action>) {
        actions.push(Action::Probe(node));
        let this = &world.nodes[node as usize];
        let state = self.fold(world.folded_by(node));
        if this.applied > world.snapshot {
            actions.push(Action::WriteSnapshot(node));
        }
        if state.truncated < state.boundary && this.made < state.boundary {
            actions.push(Action::MakeBoundary(node));
        }
        for seq in 1..=this.applied {
            if world.stands(seq).is_some() && self.deletes(world, node, &state, seq) {
                actions.push(Action::Delete(node, seq));
            }
        }
        let next = this.applied + 1;
        if world.stands(next).is_none() && self.has_room(world, next) {
            let ops = self.proposals(world, node, &state).into_iter();
            actions.extend(ops.map(|op| Action::Commit(node, op)));
        }
    }

    fn slow_actions(&self, world: &World, node: u8, op: Option<Op>, actions: &mut Vec<Action>) {
        let this = &world.nodes[node as usize];
        match this.phase {
            Phase::Idle if op.is_none() => actions.push(Action::SendProbe(node)),
            Phase::Idle if this.attempts == 0 => actions.push(Action::Send(node)),
            Phase::Idle => {}
            Phase::Putting(_, answer) => {
                actions.push(Action::TimeOut(node));
                if answer.is_some() {
                    actions.push(Action::Hear(node));
                }
            }
            Phase::Settling(.., None) | Phase::Probing(_, None) => {
                actions.push(Action::Serve(node));
            }
            Phase::Settling(..) | Phase::Probing(..) => actions.push(Action::Hear(node)),
            Phase::Opening { .. } => actions.push(Action::ReadSnapshot(node)),
        }
    }

    /// `None` if nothing comes of it.
    fn step(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Tick => {
                world.now += 1;
                self.normalize(world);
                // A read that takes too long is given up.
                for node in &mut world.nodes {
                    node.read = node.read.filter(|read| read.started + READ >= world.now);
                }
            }
            Action::Probe(node) => {
                let (sent, answer) = (world.sent(), world.answer(node));
                self.probed(world, node, sent, answer);
            }
            Action::Commit(node, op) => {
                let commit = self.next_commit(world, node, op);
                let sent = world.sent();
                let seq = world.nodes[node as usize].applied + 1;
                if !world.create(seq, commit) {
                    return None;
                }
                let attempt = Attempt {
                    commit,
                    first: sent,
                    last: sent,
                    number: 0,
                };
                self.created(world, node, attempt);
            }
            Action::WriteSnapshot(node) => {
                let this = &mut world.nodes[node as usize];
                this.wrote = this.applied;
                world.snapshot = this.applied;
            }
            Action::MakeBoundary(node) => {
                let boundary = self.fold(world.folded_by(node)).boundary;
                world.nodes[node as usize].made = boundary;
                world.boundary = world.boundary.max(boundary);
            }
            Action::Delete(_, seq) => {
                world.slots[seq as usize - 1] = Slot::Deleted;
                if self.fold(&world.history).live.contains(&seq) {
                    world.broken = Some(Broken::LiveDeleted);
                } else if world.is_being_read(seq) {
                    world.broken = Some(Broken::ReadCutShort);
                }
            }
            Action::Crash(node) => {
                let this = &mut world.nodes[node as usize];
                this.run += 1;
                (this.counter, this.read) = (0, None);
                self.start_over(world, node, None);
            }
            Action::StartRead(node, seq) => {
                let (started, this) = (world.now, &mut world.nodes[node as usize]);
                this.read = Some(Read {
                    seq,
                    started,
                    proven: this.proven,
                    is_fresh: started - this.proven <= TAIL_PROOF_LIFE,
                });
            }
            Action::EndRead(node) => {
                let read = world.nodes[node as usize].read.take()?;
                let is_old = world.now - read.proven > TAIL_PROOF_LIFE;
                let is_handed_out = !is_old || !self.on(Rule::ReadsNeedProof);
                if is_handed_out && is_data(world.slots[read.seq as usize - 1]) {
                    world.broken = Some(Broken::WrongBytes);
                }
            }
            Action::Send(node) => {
                let Role::Slow(Some(op)) = self.roles[node as usize] else {
                    return None;
                };
                let commit = self.next_commit(world, node, op);
                self.put(world, node, commit, None);
            }
            Action::Land(at) => {
                let put = world.flying.remove(at as usize);
                let awaited_by = awaited_by(world, &put);
                let created = world.create(put.seq, put.commit);
                if let Some(node) = awaited_by
                    && let Phase::Putting(_, answer) = &mut world.nodes[node].phase
                {
                    *answer = Some(created);
                }
            }
            Action::SendProbe(node) => {
                world.nodes[node as usize].phase = Phase::Probing(world.sent(), None);
            }
            Action::TimeOut(node) => {
                let Phase::Putting(attempt, _) = world.nodes[node as usize].phase else {
                    return None;
                };
                world.nodes[node as usize].phase = Phase::Settling(attempt, world.sent(), None);
            }
            Action::Serve(node) => {
                let found = world.answer(node);
                match &mut world.nodes[node as usize].phase {
                    Phase::Settling(.., answer) | Phase::Probing(_, answer) => {
                        *answer = Some(found);
                    }
                    _ => return None,
                }
            }
            Action::Hear(node) => self.hear(world, node)?,
            Action::ReadSnapshot(node) => self.read_snapshot(world, node),
        }
        Some(())
    }

    fn hear(&self, world: &mut World, node: u8) -> Option<()> {
        match world.nodes[node as usize].phase {
            Phase::Putting(attempt, Some(true)) => self.created(world, node, attempt),
            Phase::Putting(attempt, Some(false)) => {
                world.nodes[node as usize].phase = Phase::Settling(attempt, world.sent(), None);
            }
            Phase::Settling(attempt, sent, Some(answer)) => {
                self.settled(world, node, attempt, sent, answer);
            }
            Phase::Probing(sent, Some(answer)) => self.probed(world, node, sent, answer),
            _ => return None,
        }
        Some(())
    }
}
