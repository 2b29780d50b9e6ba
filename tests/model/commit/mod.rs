//! Committing: PUTs that are lost, late or repeated, answers that are lost or late, and clients that try another node.
//!
//! Each client wants one value appended. A node sends a commit to the seq after its state, and settles what became of
//! it; where it may, it sends a second one behind before it knows. Nothing is deleted here; see `truncation`.

mod cases;
mod steps;

use crate::check::{Rules, rules};

rules! {
    /// The store does not create what exists.
    CreateIfAbsent,
    /// No other seq is tried before it is known what became of the commit at this one.
    SettleBeforeNext,
    /// What stands at the seq is ours if it has our id, whatever the answer to the PUT was.
    OursById,
    /// Nothing stands there: the commit is sent again to the same seq, not given up.
    AgainIfAbsent,
    /// ... with the same id.
    SameId,
    /// Nothing is acknowledged before its commit is in the log.
    DurableFirst,
    /// The outcome is that of folding the commit where it stands, not that of the state it was made by.
    OutcomeByFold,
    /// The fold drops a commit that it has folded before.
    DuplicateGuard,
    /// The fold drops a batch of a producer that it has appended before, and answers with the first offset.
    ProducerSequence,
    /// A question is answered by what was asked of the store after it came.
    ProofAfterQuestion,
    /// A commit sent behind another is void where that one is not the last of its author before it.
    ChainedOrVoid,
    /// Nothing is acknowledged before everything in front of it is settled.
    SettledInOrder,
    /// A create proves the tail at the instant of the first attempt at its seq, whichever of them was applied.
    ProofOfFirstAttempt,
}

/// Which client: it wants one value stored.
type Client = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Commit {
    node: u8,
    run: u8,
    counter: u8,
    /// The one of its author that it was sent behind.
    follows: Option<u8>,
    value: Client,
}

/// A PUT on its way. It may arrive at any time, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Put {
    seq: u8,
    commit: Commit,
    /// Which of those that the node sends; all copies of a hedged one are the same.
    attempt: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    commit: Commit,
    seq: u8,
    number: u8,
    hedged: bool,
}

/// A commit sent behind the one that the node settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Behind {
    attempt: Attempt,
    answer: Option<bool>,
    sent_before: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Waits for the answer to a PUT; true is "created".
    Putting(Attempt, Option<bool>),
    /// Reads the seq to see what became of it.
    Settling(Attempt, Option<Option<Commit>>),
    Probing(Option<Option<Commit>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    run: u8,
    counter: u8,
    attempts: u8,
    /// Its state is the fold of the log up to here.
    applied: u8,
    /// What a client would be told by the state that its commit was made by.
    guess: u8,
    phase: Phase,
    behind: Option<Behind>,
    /// What was sent behind a commit that lost its race, to be sent again after it.
    again: Option<Commit>,
    /// A question for a fresh state waits; those clients had been acknowledged when it came.
    asked: Option<u8>,
    /// Whether what the node waits for was sent before the question came.
    sent_before: bool,
    questions: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Nothing,
    /// By the timeout of the client, or because its node died.
    Unknown,
    Failed,
    Offset(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Wish {
    tries: u8,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    Hole,
    Twice,
    Lost,
    FailedButStored,
    WrongOffset,
    Stale,
    Overtaken,
    Overwritten,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    log: Vec<Option<Commit>>,
    nodes: Vec<Node>,
    puts: Vec<Put>,
    clients: Vec<Wish>,
    crashes: u8,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A client hands its value to a node, for the first time or again.
    Submit(Client, u8),
    /// A client waits no longer.
    GiveUp(Client),
    /// A PUT reaches the store; false: its answer is lost.
    Land(Put, bool),
    /// The same bytes are sent again, before there is an answer.
    Hedge(u8),
    /// The node waits no longer for the answer to its PUT, and reads.
    TimeOut(u8),
    Probe(u8),
    Serve(u8),
    Hear(u8),
    Crash(u8),
    /// Somebody asks a node for a fresh state.
    Ask(u8),
}

/// The model, at one size.
#[derive(Clone, Debug)]
struct Committing {
    rules: Rules,
    nodes: u8,
    /// Whether each client gives its batches sequences: then it may try again when it knows nothing.
    clients: &'static [bool],
    most_attempts: u8,
    crashes: u8,
    questions: u8,
    hedges: bool,
    /// Whether a node sends a second commit behind the first. Then clients 0 and 2 are one producer, of whom the first
    /// value comes before the second.
    overlaps: bool,
}

impl Committing {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }

    /// The values in the order of their offsets.
    fn fold(&self, log: &[Option<Commit>]) -> Vec<Client> {
        let mut seen: Vec<Commit> = Vec::new();
        let mut values = Vec::new();
        // The log ends where nothing stands.
        for commit in log.iter().map_while(|slot| slot.as_ref()) {
            if self.on(Rule::DuplicateGuard) && seen.contains(commit) {
                continue;
            }
            let author = |known: &&Commit| (known.node, known.run) == (commit.node, commit.run);
            let last = seen.iter().rev().find(author).map(|known| known.counter);
            if commit.follows.is_some_and(|before| last != Some(before))
                && self.on(Rule::ChainedOrVoid)
            {
                continue;
            }
            seen.push(*commit);
            let is_retry = self.clients[commit.value as usize] && values.contains(&commit.value);
            if !(is_retry && self.on(Rule::ProducerSequence)) {
                values.push(commit.value);
            }
        }
        values
    }

    fn put(&self, world: &mut World, node: u8, commit: Commit, seq: u8) {
        let this = &mut world.nodes[node as usize];
        this.attempts += 1;
        let attempt = Attempt {
            commit,
            seq,
            number: this.attempts,
            hedged: false,
        };
        let guess = this.guess;
        this.phase = Phase::Putting(attempt, None);
        world.puts.push(Put {
            seq,
            commit,
            attempt: attempt.number,
        });
        if !self.on(Rule::DurableFirst) {
            self.tell(world, commit.value, Told::Offset(guess));
        }
    }

    fn next_commit(&self, world: &mut World, node: u8, value: Client) -> Commit {
        let this = &mut world.nodes[node as usize];
        this.counter += 1;
        Commit {
            node,
            run: this.run,
            counter: this.counter,
            follows: None,
            value,
        }
    }

    /// Sends a second commit behind the one that the node settles.
    fn put_behind(&self, world: &mut World, node: u8, value: Client, first: Attempt) {
        let mut commit = self.next_commit(world, node, value);
        commit.follows = Some(first.commit.counter);
        let this = &mut world.nodes[node as usize];
        this.attempts += 1;
        let attempt = Attempt {
            commit,
            seq: first.seq + 1,
            number: this.attempts,
            hedged: false,
        };
        this.behind = Some(Behind {
            attempt,
            answer: None,
            sent_before: false,
        });
        world.puts.push(Put {
            seq: attempt.seq,
            commit,
            attempt: attempt.number,
        });
    }

    /// Goes on with what was sent behind the commit that is settled now, or is to be sent again after it.
    fn go_on(&self, world: &mut World, node: u8) {
        let this = &mut world.nodes[node as usize];
        this.phase = Phase::Idle;
        if let Some(next) = this.behind.take() {
            this.phase = Phase::Putting(next.attempt, next.answer);
            this.sent_before = next.sent_before;
        } else if let Some(again) = this.again.take() {
            self.try_next(world, node, again);
        }
    }

    /// Sends to the seq after the node's state.
    fn try_next(&self, world: &mut World, node: u8, commit: Commit) {
        if world.nodes[node as usize].attempts < self.most_attempts {
            world.nodes[node as usize].sent_before = false;
            let seq = world.nodes[node as usize].applied + 1;
            self.put(world, node, commit, seq);
        } else {
            // The model's bound: nobody ever hears of it.
            let this = &mut world.nodes[node as usize];
            (this.phase, this.behind, this.again) = (Phase::Idle, None, None);
        }
    }

    /// Judges what a client is told.
    fn tell(&self, world: &mut World, client: Client, told: Told) {
        let before = world.clients[client as usize].told;
        if let (Told::Offset(known), Told::Offset(now)) = (before, told)
            && known != now
        {
            world.broken = Some(Broken::WrongOffset);
        }
        world.clients[client as usize].told = told;
    }

    /// The node has seen its commit in the log, after its state.
    fn acknowledge(&self, world: &mut World, node: u8, attempt: Attempt) {
        world.nodes[node as usize].applied = attempt.seq;
        self.prove(world, node);
        let values = self.fold(&world.log[..attempt.seq as usize]);
        let value = attempt.commit.value;
        let earlier = &world.log[..attempt.seq as usize - 1];
        let offset = if !self.on(Rule::OutcomeByFold) {
            Some(world.nodes[node as usize].guess)
        } else if self.on(Rule::DuplicateGuard) && earlier.contains(&Some(attempt.commit)) {
            // The fold dropped it: there is no outcome.
            None
        } else {
            // A retry gets the first offset.
            let mut values = values.iter();
            values.position(|known| *known == value).map(|at| at as u8)
        };
        self.tell(world, value, offset.map_or(Told::Unknown, Told::Offset));
        self.go_on(world, node);
    }

    /// Nothing stood at the next seq when the request was sent.
    fn prove(&self, world: &mut World, node: u8) {
        let this = &mut world.nodes[node as usize];
        let Some(asked) = this.asked else { return };
        if this.sent_before && self.on(Rule::ProofAfterQuestion) {
            return;
        }
        this.asked = None;
        let values = self.fold(&world.log[..this.applied as usize]);
        let has = |client: &u8| asked & 1 << client == 0 || values.contains(client);
        if !(0..self.clients.len() as u8).all(|client| has(&client)) {
            world.broken = Some(Broken::Stale);
        }
    }

    fn settled(&self, world: &mut World, node: u8, attempt: Attempt, found: Option<Commit>) {
        match found {
            Some(commit) if commit == attempt.commit && self.on(Rule::OursById) => {
                self.acknowledge(world, node, attempt);
            }
            Some(_) => {
                let this = &mut world.nodes[node as usize];
                this.applied = attempt.seq;
                if let Some(behind) = this.behind.take() {
                    this.again = Some(behind.attempt.commit);
                }
                self.try_next(world, node, attempt.commit);
            }
            None if !self.on(Rule::AgainIfAbsent) => {
                world.nodes[node as usize].phase = Phase::Idle;
                self.tell(world, attempt.commit.value, Told::Failed);
            }
            None => {
                let commit = if self.on(Rule::SameId) {
                    attempt.commit
                } else {
                    self.next_commit(world, node, attempt.commit.value)
                };
                let sent_before = world.nodes[node as usize].sent_before;
                self.try_next(world, node, commit);
                if self.on(Rule::ProofOfFirstAttempt) {
                    world.nodes[node as usize].sent_before = sent_before;
                }
            }
        }
    }

    fn land(&self, world: &mut World, put: Put, is_heard: bool) {
        let at = world.puts.iter().position(|known| *known == put);
        at.map(|at| world.puts.swap_remove(at));
        let at = put.seq as usize - 1;
        if world.log.len() <= at {
            world.log.resize(at + 1, None);
        }
        let created = world.log[at].is_none() || !self.on(Rule::CreateIfAbsent);
        if created {
            if world.log[at].is_some_and(|there| there != put.commit) {
                world.broken = Some(Broken::Overwritten);
            }
            world.log[at] = Some(put.commit);
        }
        if is_heard && let Some(answer) = awaiting(world, put) {
            *answer = Some(created);
            let behind = world.nodes[put.commit.node as usize].behind;
            let is_behind = behind.is_some_and(|behind| behind.attempt.number == put.attempt);
            if is_behind && created && !self.on(Rule::SettledInOrder) {
                let applied = world.nodes[put.commit.node as usize].applied as usize;
                let guess = self.fold(&world.log[..applied]).len() as u8 + 1;
                self.tell(world, put.commit.value, Told::Offset(guess));
            }
        }
    }

    fn check(&self, world: &mut World) {
        let values = self.fold(&world.log);
        let count = |client| values.iter().filter(|value| **value == client).count();
        let judge = |(client, wish): (usize, &Wish)| {
            let stored = count(client as u8);
            match wish.told {
                _ if stored > 1 => Some(Broken::Twice),
                Told::Failed if stored > 0 => Some(Broken::FailedButStored),
                Told::Offset(_) if stored == 0 => Some(Broken::Lost),
                Told::Offset(offset) if values.get(offset as usize) != Some(&(client as u8)) => {
                    Some(Broken::WrongOffset)
                }
                _ => None,
            }
        };
        if world.log.contains(&None) && !self.overlaps {
            world.broken = Some(Broken::Hole);
        }
        let at = |client: Client| values.iter().position(|value| *value == client);
        if self.overlaps && at(2).is_some_and(|second| at(0).is_none_or(|first| first > second)) {
            world.broken = Some(Broken::Overtaken);
        }
        world.broken = world
            .broken
            .or_else(|| world.clients.iter().enumerate().find_map(judge));
    }
}

/// Where the node waits for the answer to this PUT.
fn awaiting(world: &mut World, put: Put) -> Option<&mut Option<bool>> {
    let node = world.nodes.get_mut(put.commit.node as usize)?;
    let run = node.run;
    let is_it = |attempt: &Attempt| (attempt.number, run) == (put.attempt, put.commit.run);
    if let Some(behind) = &mut node.behind
        && is_it(&behind.attempt)
    {
        return behind.answer.is_none().then_some(&mut behind.answer);
    }
    match &mut node.phase {
        Phase::Putting(attempt, answer @ None) if is_it(attempt) => Some(answer),
        _ => None,
    }
}
