//! What every node does: believes or doubts an answer about the next seq, folds, starts over.

use super::log::{Author, Commit, Op, Seq};
use super::world::{Answer, Attempt, Broken, Phase, Put, Sent, World};
use super::{Instant, Role, Rule, TAIL_PROOF_LIFE, Truncation};

impl Truncation {
    /// The node's wall clock.
    pub(super) fn wall(&self, world: &World, node: u8) -> Instant {
        match self.roles[node as usize] {
            Role::Keeper => world.now + self.skew,
            _ => world.now,
        }
    }

    pub(super) fn next_commit(&self, world: &mut World, node: u8, op: Op) -> Commit {
        let time = self.wall(world, node);
        let this = &mut world.nodes[node as usize];
        this.counter += 1;
        let run = this.run;
        Commit {
            author: Author { node, run },
            counter: this.counter,
            time,
            op,
        }
    }

    /// The rule of the old proof: whether an answer that has just come is not to be believed.
    fn is_left_behind(&self, world: &World, node: u8, sent: Sent, rule: Rule) -> bool {
        let this = &world.nodes[node as usize];
        let is_old = world.now - this.trusted > TAIL_PROOF_LIFE;
        let boundary = if self.on(Rule::ListAfterAnswer) {
            world.boundary
        } else {
            sent.boundary
        };
        self.on(rule) && is_old && boundary > this.applied
    }

    fn is_read_left_behind(&self, world: &World, node: u8, sent: Sent, answer: Answer) -> bool {
        let rule = match answer {
            Answer::Absent => Rule::CheckAbsent,
            Answer::Found(_) => Rule::CheckFound,
        };
        self.is_left_behind(world, node, sent, rule)
    }

    /// Folds what the node takes for the commit at the next seq.
    fn fold_next(&self, world: &mut World, node: u8, commit: Commit, ours: bool) {
        let next = world.nodes[node as usize].applied;
        world.nodes[node as usize].applied += 1;
        if world.history.get(next as usize) != Some(&commit) {
            world.broken = Some(if ours {
                Broken::GarbageAcknowledged
            } else {
                Broken::GarbageFolded
            });
            return;
        }
        self.learn(world, node);
    }

    /// Notes since when the node knows the snapshots and the deaths in its state.
    fn learn(&self, world: &mut World, node: u8) {
        let now = world.now;
        let state = self.fold(world.folded_by(node));
        let this = &mut world.nodes[node as usize];
        note(&mut this.known, state.snapshots, now);
        note(&mut this.mourned, state.dead, now);
    }

    /// A request that was sent then showed that nothing stood at the next seq.
    fn prove(&self, world: &mut World, node: u8, sent: Sent) {
        if world.broken.is_some() {
            return;
        }
        let this = &mut world.nodes[node as usize];
        if this.applied < sent.log {
            world.broken = Some(Broken::StaleProof);
        }
        this.trusted = this.trusted.max(sent.at);
        this.proven = this.proven.max(sent.at);
    }

    /// Forgets its state; lists the snapshots. `pending` is what it was committing.
    pub(super) fn start_over(&self, world: &mut World, node: u8, pending: Option<Commit>) {
        let (snapshot, listed) = (world.snapshot, world.now);
        let this = &mut world.nodes[node as usize];
        this.phase = Phase::Opening {
            snapshot,
            listed,
            pending,
        };
        (this.wrote, this.made) = (0, 0);
        this.known.clear();
        this.mourned.clear();
        if !matches!(self.roles[node as usize], Role::Slow(_)) {
            self.read_snapshot(world, node);
        }
    }

    pub(super) fn read_snapshot(&self, world: &mut World, node: u8) {
        let sent = world.sent();
        let this = &mut world.nodes[node as usize];
        let Phase::Opening {
            snapshot,
            listed,
            pending,
        } = this.phase
        else {
            return;
        };
        this.phase = Phase::Idle;
        this.applied = snapshot;
        this.trusted = if self.on(Rule::OpeningProofBeforeListing) {
            listed
        } else {
            sent.at
        };
        if !self.on(Rule::OpeningIsNoTail) {
            self.prove(world, node, sent);
        }
        self.learn(world, node);
        if let Some(commit) = pending
            && !self.on(Rule::UnknownAfterStartingOver)
            && world.nodes[node as usize].attempts < self.most_attempts
        {
            self.put(world, node, commit, None);
        }
    }

    /// Sends the commit to the next seq, for the first time or again.
    pub(super) fn put(&self, world: &mut World, node: u8, commit: Commit, first: Option<Sent>) {
        let sent = world.sent();
        let this = &mut world.nodes[node as usize];
        this.attempts += 1;
        let attempt = Attempt {
            commit,
            first: first.unwrap_or(sent),
            last: sent,
            number: this.attempts,
        };
        this.phase = Phase::Putting(attempt, None);
        world.flying.push(Put {
            node,
            run: this.run,
            attempt: this.attempts,
            seq: this.applied + 1,
            commit,
        });
        let order = |put: &Put| (put.node, put.run, put.attempt);
        world.flying.sort_by_key(order);
    }

    /// The node hears what stands at the next seq.
    pub(super) fn probed(&self, world: &mut World, node: u8, sent: Sent, answer: Answer) {
        if self.is_read_left_behind(world, node, sent, answer) {
            return self.start_over(world, node, None);
        }
        match answer {
            Answer::Absent => {
                let sent = if self.on(Rule::ProofWhenSent) {
                    sent
                } else {
                    world.sent()
                };
                self.prove(world, node, sent);
            }
            Answer::Found(commit) => self.fold_next(world, node, commit, false),
        }
        world.nodes[node as usize].phase = Phase::Idle;
    }

    /// The node hears that its commit was created.
    pub(super) fn created(&self, world: &mut World, node: u8, attempt: Attempt) {
        if self.is_left_behind(world, node, attempt.last, Rule::CheckCreated) {
            return self.start_over(world, node, Some(attempt.commit));
        }
        self.acknowledge(world, node, attempt);
    }

    /// The node has read what became of its commit.
    pub(super) fn settled(
        &self,
        world: &mut World,
        node: u8,
        attempt: Attempt,
        sent: Sent,
        answer: Answer,
    ) {
        if self.is_read_left_behind(world, node, sent, answer) {
            return self.start_over(world, node, Some(attempt.commit));
        }
        let first = match answer {
            Answer::Absent => Some(attempt.first),
            Answer::Found(commit) if commit == attempt.commit => {
                return self.acknowledge(world, node, attempt);
            }
            Answer::Found(commit) => {
                self.fold_next(world, node, commit, false);
                None
            }
        };
        if world.nodes[node as usize].attempts < self.most_attempts {
            self.put(world, node, attempt.commit, first);
        } else {
            // The model's bound: it never hears of it.
            world.nodes[node as usize].phase = Phase::Idle;
        }
    }

    fn acknowledge(&self, world: &mut World, node: u8, attempt: Attempt) {
        self.fold_next(world, node, attempt.commit, true);
        let proof = if self.on(Rule::ProofOfFirstAttempt) {
            attempt.first
        } else {
            attempt.last
        };
        self.prove(world, node, proof);
        world.nodes[node as usize].phase = Phase::Idle;
    }
}

fn note(known: &mut Vec<(Seq, Instant)>, all: Vec<(Seq, Instant)>, now: Instant) {
    for (seq, _) in all {
        if known.iter().all(|(known, _)| *known != seq) {
            known.push((seq, now));
        }
    }
}
