//! The truncation of the log, the deletion of dead commits behind it, and the node that slept through it.

use stateright::{Model, Property};

use crate::check::Rules;

type Instant = u8;
type Seq = u8;

/// How long a node relies on having seen the end of the log.
const TAIL_PROOF_LIFE: Instant = 1;
/// How long a snapshot is known before the boundary may be raised to it.
const TRUNCATION_AGE: Instant = 2;
/// How long an object is dead before it is deleted.
const GRACE: Instant = 3;
/// The longest that a read may take.
const READ: Instant = 1;

/// What keeps it safe. Each is switched off by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The boundary object is created before any commit up to it is deleted.
    BoundaryBeforeDeleting,
    /// The fold accepts a boundary only up to a snapshot that was recorded.
    SnapshotBehindBoundary,
    /// ... and only TRUNCATION_AGE after it was.
    TruncationAge,
    /// ... and TRUNCATION_AGE after the node that raises it folded that, by its boot-time clock.
    AgeByOwnClock,
    /// With an old proof, "created" is not believed before the boundaries were listed.
    CheckCreated,
    /// With an old proof, a commit that was found is not.
    CheckFound,
    /// With an old proof, "absent" is not.
    CheckAbsent,
    /// The boundaries are listed after the answer came, not before it was asked for.
    ListAfterAnswer,
    /// A probe proves the tail at the instant at which it was sent, not at that of its answer.
    ProofWhenSent,
    /// A create of our own that is found by reading proves the tail at the instant of its first attempt.
    ProofOfFirstAttempt,
    /// At opening the proof is the instant before the snapshots were listed, not that after reading.
    OpeningProofBeforeListing,
    /// ... and it proves nothing about what the log holds: questions for a fresh state wait for the tail.
    OpeningIsNoTail,
    /// After starting over, a commit of unknown outcome is tried again only if the authors prove that it was not folded.
    UnknownUnlessProven,
    /// An author who is not in the table proves nothing.
    AbsentAuthorProvesNothing,
    /// No commit is deleted in which a slice lies.
    KeepLive,
    /// Truncation leaves out what is dead: that waits for its grace.
    DeadWait,
    /// A dead commit is deleted only after GRACE.
    Grace,
    /// GRACE counts on the boot-time clock of the node that deletes, from when it folded the death.
    GraceByOwnClock,
    /// A dead commit is deleted only behind what is truncated (so behind a boundary object).
    DeadBehindTruncated,
    /// Bytes of a commit are believed only if the proof of the state that named it is not old when they arrive.
    ReadsNeedProof,
    /// LogTruncated is committed only when the commits are gone.
    TruncatedAfterDeleting,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// Any op that brings no bytes.
    Plain,
    /// An append whose bytes are in the commit.
    Data,
    /// The last slice in the commit goes: deleted, expired or replaced.
    Retire(Seq),
    SnapshotTaken(Seq),
    RaiseLogBoundary(Seq),
    LogTruncated(Seq),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Author {
    node: u8,
    run: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Commit {
    author: Author,
    counter: u8,
    time: Instant,
    op: Op,
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Commit {
            author,
            counter,
            time,
            op,
        } = self;
        write!(
            f,
            "{op:?} by {}.{}#{counter} at {time}",
            author.node, author.run
        )
    }
}

/// What the fold of a prefix of the log comes to.
#[derive(Clone, Debug, Default)]
struct Folded {
    time: Instant,
    /// By the seq of their last commit, oldest first.
    authors: Vec<(Author, u8)>,
    snapshots: Vec<(Seq, Instant)>,
    boundary: Seq,
    truncated: Seq,
    live: Vec<Seq>,
    dead: Vec<(Seq, Instant)>,
}

/// What stands under the name of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    /// The commit of the log.
    Original,
    Deleted,
    /// What a writer put there after the commit of the log had been deleted.
    Garbage(Commit),
}

/// The node that sent a PUT and is gone.
const GONE: u8 = u8::MAX;

/// A PUT on its way. It may arrive at any time, or never.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct PutKey {
    node: u8,
    run: u8,
    attempt: u8,
    seq: Seq,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Put {
    key: PutKey,
    commit: Commit,
}

impl std::fmt::Debug for Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PUT {} (attempt {}): {:?}",
            self.key.seq, self.key.attempt, self.commit
        )
    }
}

/// When a request was sent, and how long the log was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sent {
    at: Instant,
    log: Seq,
    /// The highest boundary then: for those who look too early.
    boundary: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    commit: Commit,
    first: Sent,
    last: Sent,
    number: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    Absent,
    Found(Commit),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Waits for the answer to a PUT at the next seq; true is "created".
    Putting(Attempt, Option<bool>),
    /// Reads the next seq to see what became of it.
    Settling(Attempt, Sent, Option<Answer>),
    Probing(Sent, Option<Answer>),
    /// Has listed the snapshots and reads the newest.
    Opening {
        snapshot: Seq,
        listed: Instant,
        pending: Option<Commit>,
    },
}

/// A read of the bytes in a commit that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Read {
    seq: Seq,
    started: Instant,
    /// The proof of the tail of the state that named the commit.
    tail: Instant,
    /// Whether that was not old when the read began.
    is_fresh: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    run: u8,
    counter: u8,
    /// Its state is the fold of the log up to here. (That it is, is what is checked.)
    applied: Seq,
    /// Nothing that is not in its state was superfluous before this instant: for judging answers about the next seq.
    proven: Instant,
    /// Its state holds all that was in the log at this instant: for fresh questions and for reads.
    tail: Instant,
    phase: Phase,
    /// The snapshot that it wrote and has not recorded.
    wrote: Seq,
    /// The boundary object that it knows to exist.
    made: Seq,
    /// The newest snapshot of which it has known for how long: up to which it may raise the boundary.
    known: Option<(Seq, Instant)>,
    /// When it folded the death of a commit.
    mourned: Option<Instant>,
    read: Option<Read>,
    attempts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    GarbageFolded,
    GarbageAcknowledged,
    StaleProof,
    TwiceInTheLog,
    LiveDeleted,
    ReadCutShort,
    WrongBytes,
    LeftBehind,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    now: Instant,
    /// The log: what was created first under each name.
    history: Vec<Commit>,
    slots: Vec<Slot>,
    /// The highest boundary object.
    boundary: Seq,
    /// The newest snapshot object.
    snapshot: Seq,
    nodes: Vec<Node>,
    flying: Vec<Put>,
    broken: Option<Broken>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "now {}, log {:?}, stands {:?}, boundary {}, snapshot {}, flying {:?}, broken {:?}",
            self.now,
            self.history,
            self.slots,
            self.boundary,
            self.snapshot,
            self.flying,
            self.broken
        )?;
        for (at, node) in self.nodes.iter().enumerate() {
            write!(f, "\n     node {at}: {node:?}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
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
    Send(u8, Op),
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

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Housekeeping, in one instant each.
    Keeper,
    /// Commits once, with every delay that there is.
    Writer(&'static [Op]),
    /// Follows, and reads bytes.
    Reader,
    /// Follows, in one instant.
    Follower,
}

#[derive(Clone, Debug)]
pub(crate) struct Truncation {
    pub(crate) rules: Rules,
    pub(crate) roles: Vec<Role>,
    /// The log at the beginning, by the last node; all have folded it.
    pub(crate) begin: &'static [Op],
    /// The last node has folded nothing of that.
    pub(crate) behind: bool,
    /// A PUT to the next seq that is under way from the beginning, from a node that is gone.
    pub(crate) flying: Option<Op>,
    pub(crate) keeper_ops: &'static [Op],
    pub(crate) most_commits: usize,
    pub(crate) most_time: Instant,
    pub(crate) most_attempts: u8,
    pub(crate) most_authors: usize,
    pub(crate) crashes: u8,
    /// How far the keepers' clocks are ahead.
    pub(crate) skew: Instant,
}

impl Truncation {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule as u32)
    }

    fn is_awaited(&self, world: &World, put: &Put) -> bool {
        let Some(author) = world.nodes.get(put.key.node as usize) else {
            return false;
        };
        let is_this =
            |attempt: &Attempt| (attempt.number, author.run) == (put.key.attempt, put.key.run);
        matches!(&author.phase, Phase::Putting(attempt, None) if is_this(attempt))
    }

    fn wall(&self, world: &World, node: u8) -> Instant {
        match self.roles[node as usize] {
            Role::Keeper => world.now + self.skew,
            _ => world.now,
        }
    }

    fn fold(&self, log: &[Commit]) -> Folded {
        let mut state = Folded::default();
        for (at, commit) in log.iter().enumerate() {
            let seq = at as Seq + 1;
            let known = state
                .authors
                .iter()
                .position(|(author, _)| *author == commit.author);
            if let Some(known) = known {
                if state.authors[known].1 >= commit.counter {
                    continue;
                }
                state.authors.remove(known);
            }
            state.authors.push((commit.author, commit.counter));
            if state.authors.len() > self.most_authors {
                state.authors.remove(0);
            }
            state.time = state.time.max(commit.time);
            match commit.op {
                Op::Plain => {}
                Op::Data => state.live.push(seq),
                Op::Retire(seq) => {
                    if state.live.contains(&seq) {
                        state.live.retain(|live| *live != seq);
                        state.dead.push((seq, state.time));
                    }
                }
                Op::SnapshotTaken(seq) => {
                    if state.snapshots.iter().all(|(known, _)| *known < seq) {
                        state.snapshots.push((seq, state.time));
                    }
                }
                Op::RaiseLogBoundary(to) => {
                    if to <= self.limit(&state, seq - 1, state.time) {
                        state.boundary = state.boundary.max(to);
                    }
                }
                Op::LogTruncated(to) => {
                    state.truncated = state.truncated.max(to.min(state.boundary));
                }
            }
        }
        state
    }

    /// The highest seq that the boundary may be raised to.
    fn limit(&self, state: &Folded, seq: Seq, now: Instant) -> Seq {
        if !self.on(Rule::SnapshotBehindBoundary) {
            return seq;
        }
        let of_age =
            |since: Instant| since + TRUNCATION_AGE <= now || !self.on(Rule::TruncationAge);
        let newest = state
            .snapshots
            .iter()
            .filter(|(_, since)| of_age(*since))
            .map(|(seq, _)| *seq)
            .max();
        newest.unwrap_or(0).max(state.boundary)
    }

    /// Whether the node may delete the commit, by its own state.
    fn deletes(&self, world: &World, node: &Node, wall: Instant, state: &Folded, seq: Seq) -> bool {
        let truncating = seq <= state.boundary
            && state.truncated < state.boundary
            && (node.made >= state.boundary || !self.on(Rule::BoundaryBeforeDeleting));
        if state.live.contains(&seq) {
            return truncating && !self.on(Rule::KeepLive);
        }
        let Some((_, since)) = state.dead.iter().find(|(dead, _)| *dead == seq) else {
            return truncating;
        };
        let waited = match (self.on(Rule::Grace), self.on(Rule::GraceByOwnClock)) {
            (false, _) => true,
            (true, true) => node.mourned.is_some_and(|since| since + GRACE <= world.now),
            (true, false) => since + GRACE <= wall.max(state.time),
        };
        let behind = if self.on(Rule::DeadBehindTruncated) {
            state.truncated
        } else {
            state.boundary
        };
        (waited && seq <= behind) || (truncating && !self.on(Rule::DeadWait))
    }

    /// Whether the truncation has nothing more to delete.
    fn is_cleared(&self, world: &World, state: &Folded) -> bool {
        (1..=state.boundary).all(|seq| {
            world.slots[seq as usize - 1] != Slot::Original
                || state.live.contains(&seq)
                || state.dead.iter().any(|(dead, _)| *dead == seq)
        })
    }
}

impl World {
    fn len(&self) -> Seq {
        self.history.len() as Seq
    }

    fn stands(&self, seq: Seq) -> Option<Commit> {
        match self.slots.get(seq as usize - 1)? {
            Slot::Original => Some(self.history[seq as usize - 1]),
            Slot::Deleted => None,
            Slot::Garbage(commit) => Some(*commit),
        }
    }

    /// Create if absent.
    fn create(&mut self, seq: Seq, commit: Commit) -> bool {
        if self.stands(seq).is_some() {
            return false;
        }
        if seq > self.len() {
            assert_eq!(seq, self.len() + 1, "the log is dense");
            let again =
                |known: &Commit| (known.author, known.counter) == (commit.author, commit.counter);
            if self.history.iter().any(again) {
                self.broken = Some(Broken::TwiceInTheLog);
            }
            self.history.push(commit);
            self.slots.push(Slot::Original);
        } else {
            self.slots[seq as usize - 1] = Slot::Garbage(commit);
        }
        true
    }

    fn sent(&self) -> Sent {
        Sent {
            at: self.now,
            log: self.len(),
            boundary: self.boundary,
        }
    }
}

impl World {
    /// Forgets what makes no difference any more: how much older than old something is.
    fn normalize(&mut self) {
        let old = self.now.saturating_sub(TAIL_PROOF_LIFE + 1);
        let grace = self.now.saturating_sub(GRACE);
        let age = self.now.saturating_sub(TRUNCATION_AGE);
        for node in &mut self.nodes {
            node.proven = node.proven.max(old);
            node.tail = node.tail.max(old);
            node.mourned = node.mourned.map(|since| since.max(grace));
            node.known = node.known.map(|(seq, since)| (seq, since.max(age)));
            if let Some(read) = &mut node.read {
                read.tail = read.tail.max(old);
            }
            match &mut node.phase {
                Phase::Idle => {}
                Phase::Putting(attempt, _) => attempt.normalize(old),
                Phase::Settling(attempt, sent, _) => {
                    attempt.normalize(old);
                    sent.at = sent.at.max(old);
                }
                Phase::Probing(sent, _) => sent.at = sent.at.max(old),
                Phase::Opening { listed, .. } => *listed = (*listed).max(old),
            }
        }
    }
}

impl Attempt {
    fn normalize(&mut self, old: Instant) {
        self.first.at = self.first.at.max(old);
        self.last.at = self.last.at.max(old);
    }
}

/// What a node makes of an answer about the next seq.
enum Heard {
    Believed,
    StartOver,
}

impl Truncation {
    /// The rule of the old proof.
    fn weigh(&self, world: &World, node: u8, sent: Sent, rule: Rule) -> Heard {
        let this = &world.nodes[node as usize];
        let is_old = world.now - this.proven > TAIL_PROOF_LIFE;
        let boundary = if self.on(Rule::ListAfterAnswer) {
            world.boundary
        } else {
            sent.boundary
        };
        if self.on(rule) && is_old && boundary > this.applied {
            Heard::StartOver
        } else {
            Heard::Believed
        }
    }

    /// Folds what the node takes for the commit at the next seq.
    fn fold_next(&self, world: &mut World, node: u8, commit: Commit, ours: bool) {
        let (len, now) = (world.len(), world.now);
        let this = &mut world.nodes[node as usize];
        this.applied += 1;
        let genuine = this.applied <= len && world.history[this.applied as usize - 1] == commit;
        if !genuine {
            world.broken = Some(if ours {
                Broken::GarbageAcknowledged
            } else {
                Broken::GarbageFolded
            });
            return;
        }
        match commit.op {
            Op::Retire(_) => this.mourned = Some(now),
            Op::SnapshotTaken(seq) if this.known.is_none() => this.known = Some((seq, now)),
            _ => {}
        }
    }

    /// The node believes that its state held every commit at `sent`; notes `at` as the proof.
    fn prove(&self, world: &mut World, node: u8, claimed: Sent) {
        // What it says is judged by the log as it was at the instant that it claims.
        let this = &mut world.nodes[node as usize];
        if this.applied < claimed.log {
            world.broken = Some(Broken::StaleProof);
        }
        this.proven = this.proven.max(claimed.at);
        this.tail = this.tail.max(claimed.at);
    }

    fn start_over(&self, world: &mut World, node: u8, pending: Option<Commit>) {
        let (snapshot, listed) = (world.snapshot, world.now);
        let this = &mut world.nodes[node as usize];
        this.phase = Phase::Opening {
            snapshot,
            listed,
            pending,
        };
        (this.wrote, this.made, this.mourned, this.known) = (0, 0, None, None);
        if !matches!(self.roles[node as usize], Role::Writer(_)) {
            self.read_snapshot(world, node);
        }
    }

    fn read_snapshot(&self, world: &mut World, node: u8) {
        let now = world.now;
        let sent = world.sent();
        let Phase::Opening {
            snapshot,
            listed,
            pending,
        } = world.nodes[node as usize].phase
        else {
            return;
        };
        let this = &mut world.nodes[node as usize];
        this.applied = snapshot;
        this.proven = if self.on(Rule::OpeningProofBeforeListing) {
            listed
        } else {
            now
        };
        this.phase = Phase::Idle;
        if !self.on(Rule::OpeningIsNoTail) {
            self.prove(world, node, sent);
        }
        let state = self.fold(&world.history[..snapshot as usize]);
        let this = &mut world.nodes[node as usize];
        if !state.dead.is_empty() {
            this.mourned = Some(now);
        }
        this.known = state.snapshots.last().map(|(seq, _)| (*seq, now));
        let Some(commit) = pending else { return };
        let known = state
            .authors
            .iter()
            .find(|(author, _)| *author == commit.author);
        let not_folded = match known {
            Some((_, counter)) => *counter < commit.counter,
            None => !self.on(Rule::AbsentAuthorProvesNothing),
        };
        if (not_folded || !self.on(Rule::UnknownUnlessProven)) && this.attempts < self.most_attempts
        {
            self.put(world, node, commit, None, sent);
        }
        // Otherwise its waiters are told that the outcome is unknown.
    }

    /// Sends the commit to the next seq, for the first time or again.
    fn put(&self, world: &mut World, node: u8, commit: Commit, first: Option<Sent>, sent: Sent) {
        let this = &mut world.nodes[node as usize];
        this.attempts += 1;
        let attempt = Attempt {
            commit,
            first: first.unwrap_or(sent),
            last: sent,
            number: this.attempts,
        };
        this.phase = Phase::Putting(attempt, None);
        let key = PutKey {
            node,
            run: this.run,
            attempt: this.attempts,
            seq: this.applied + 1,
        };
        world.flying.push(Put { key, commit });
        world.flying.sort_by_key(|put| put.key);
    }

    fn next_commit(&self, world: &mut World, node: u8, op: Op) -> Commit {
        let time = self.wall(world, node);
        let this = &mut world.nodes[node as usize];
        this.counter += 1;
        Commit {
            author: Author {
                node,
                run: this.run,
            },
            counter: this.counter,
            time,
            op,
        }
    }

    /// A prompt node hears what stands at the next seq.
    fn probed(&self, world: &mut World, node: u8, sent: Sent, answer: Answer) {
        let rule = match answer {
            Answer::Absent => Rule::CheckAbsent,
            Answer::Found(_) => Rule::CheckFound,
        };
        if let Heard::StartOver = self.weigh(world, node, sent, rule) {
            return self.start_over(world, node, None);
        }
        match answer {
            Answer::Absent => {
                let claimed = if self.on(Rule::ProofWhenSent) {
                    sent
                } else {
                    Sent {
                        at: world.now,
                        ..sent
                    }
                };
                self.prove(world, node, claimed);
            }
            Answer::Found(commit) => self.fold_next(world, node, commit, false),
        }
        world.nodes[node as usize].phase = Phase::Idle;
    }

    /// The slow node hears what became of its commit.
    fn settled(&self, world: &mut World, node: u8, attempt: Attempt, sent: Sent, answer: Answer) {
        let rule = match answer {
            Answer::Absent => Rule::CheckAbsent,
            Answer::Found(_) => Rule::CheckFound,
        };
        if let Heard::StartOver = self.weigh(world, node, sent, rule) {
            return self.start_over(world, node, Some(attempt.commit));
        }
        let again = match answer {
            Answer::Absent => Some(attempt.first),
            Answer::Found(commit) if commit == attempt.commit => {
                self.fold_next(world, node, commit, true);
                let proof = if self.on(Rule::ProofOfFirstAttempt) {
                    attempt.first
                } else {
                    attempt.last
                };
                if world.broken.is_none() {
                    self.prove(world, node, proof);
                }
                world.nodes[node as usize].phase = Phase::Idle;
                return;
            }
            Answer::Found(commit) => {
                self.fold_next(world, node, commit, false);
                None
            }
        };
        if world.nodes[node as usize].attempts < self.most_attempts {
            let sent = world.sent();
            self.put(world, node, attempt.commit, again, sent);
        } else {
            // The model's bound: it never hears of it.
            world.nodes[node as usize].phase = Phase::Idle;
        }
    }

    fn created(&self, world: &mut World, node: u8, commit: Commit, sent: Sent) {
        if let Heard::StartOver = self.weigh(world, node, sent, Rule::CheckCreated) {
            return self.start_over(world, node, Some(commit));
        }
        self.fold_next(world, node, commit, true);
        if world.broken.is_none() {
            self.prove(world, node, sent);
        }
        world.nodes[node as usize].phase = Phase::Idle;
    }
}

impl Model for Truncation {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let last = self.roles.len() as u8 - 1;
        let author = Author { node: last, run: 0 };
        let commit = |(at, op): (usize, &Op)| Commit {
            author,
            counter: at as u8 + 1,
            time: 0,
            op: *op,
        };
        let history: Vec<Commit> = self.begin.iter().enumerate().map(commit).collect();
        let node = |at: usize| Node {
            run: 0,
            counter: if at == last as usize {
                history.len() as u8
            } else {
                0
            },
            applied: if self.behind && at == last as usize {
                0
            } else {
                history.len() as Seq
            },
            proven: 0,
            tail: 0,
            phase: Phase::Idle,
            wrote: 0,
            made: 0,
            known: self
                .fold(&history)
                .snapshots
                .last()
                .map(|(seq, _)| (*seq, 0)),
            mourned: None,
            read: None,
            attempts: 0,
        };
        vec![World {
            now: 0,
            slots: vec![Slot::Original; history.len()],
            boundary: 0,
            snapshot: self
                .fold(&history)
                .snapshots
                .last()
                .map_or(0, |(seq, _)| *seq),
            nodes: (0..self.roles.len()).map(node).collect(),
            flying: self
                .flying
                .map(|op| Put {
                    key: PutKey {
                        node: GONE,
                        run: 0,
                        attempt: 1,
                        seq: history.len() as Seq + 1,
                    },
                    commit: Commit {
                        author: Author { node: GONE, run: 0 },
                        counter: 1,
                        time: 0,
                        op,
                    },
                })
                .into_iter()
                .collect(),
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
        let room = world.history.len() < self.most_commits;
        for (at, put) in world.flying.iter().enumerate() {
            // One that finds its name taken, with nobody waiting, is as good as lost.
            let is_free = world.stands(put.key.seq).is_none();
            let has_room = put.key.seq <= world.len() || room;
            if (is_free && has_room) || self.is_awaited(world, put) {
                actions.push(Action::Land(at as u8));
            }
        }
        for (at, role) in self.roles.iter().enumerate() {
            let (at, this) = (at as u8, &world.nodes[at]);
            if this.run < self.crashes {
                actions.push(Action::Crash(at));
            }
            match role {
                Role::Follower => actions.push(Action::Probe(at)),
                Role::Reader => {
                    actions.push(Action::Probe(at));
                    match this.read {
                        None => {
                            let state = self.fold(&world.history[..this.applied as usize]);
                            actions
                                .extend(state.live.iter().map(|seq| Action::StartRead(at, *seq)));
                        }
                        Some(_) => actions.push(Action::EndRead(at)),
                    }
                }
                Role::Keeper => {
                    actions.push(Action::Probe(at));
                    let state = self.fold(&world.history[..this.applied as usize]);
                    let wall = self.wall(world, at);
                    if this.applied > world.snapshot {
                        actions.push(Action::WriteSnapshot(at));
                    }
                    if state.truncated < state.boundary && this.made < state.boundary {
                        actions.push(Action::MakeBoundary(at));
                    }
                    for seq in 1..=this.applied {
                        if world.stands(seq).is_some()
                            && self.deletes(world, this, wall, &state, seq)
                        {
                            actions.push(Action::Delete(at, seq));
                        }
                    }
                    if world.stands(this.applied + 1).is_none()
                        && (room || this.applied < world.len())
                    {
                        self.proposals(world, this, wall, &state, |op| {
                            actions.push(Action::Commit(at, op))
                        });
                    }
                }
                Role::Writer(ops) => match this.phase {
                    Phase::Idle => {
                        if ops.is_empty() {
                            actions.push(Action::SendProbe(at));
                        }
                        if this.attempts == 0 {
                            actions.extend(ops.iter().map(|op| Action::Send(at, *op)));
                        }
                    }
                    Phase::Putting(_, answer) => {
                        actions.push(Action::TimeOut(at));
                        if answer.is_some() {
                            actions.push(Action::Hear(at));
                        }
                    }
                    Phase::Settling(.., answer) | Phase::Probing(.., answer) => {
                        actions.push(match answer {
                            None => Action::Serve(at),
                            Some(_) => Action::Hear(at),
                        });
                    }
                    Phase::Opening { .. } => actions.push(Action::ReadSnapshot(at)),
                },
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        match action {
            Action::Tick => {
                world.now += 1;
                let now = world.now;
                world.normalize();
                // A read that takes too long is given up.
                for node in &mut world.nodes {
                    node.read = node.read.filter(|read| read.started + READ >= now);
                }
            }
            Action::Probe(node) => {
                let sent = world.sent();
                let next = world.nodes[node as usize].applied + 1;
                let answer = world.stands(next).map_or(Answer::Absent, Answer::Found);
                self.probed(&mut world, node, sent, answer);
            }
            Action::Commit(node, op) => {
                let commit = self.next_commit(&mut world, node, op);
                let sent = world.sent();
                let seq = world.nodes[node as usize].applied + 1;
                if !world.create(seq, commit) {
                    return None;
                }
                self.created(&mut world, node, commit, sent);
            }
            Action::WriteSnapshot(node) => {
                let this = &mut world.nodes[node as usize];
                this.wrote = this.applied;
                world.snapshot = this.applied;
            }
            Action::MakeBoundary(node) => {
                let state =
                    self.fold(&world.history[..world.nodes[node as usize].applied as usize]);
                world.nodes[node as usize].made = state.boundary;
                world.boundary = world.boundary.max(state.boundary);
            }
            Action::Delete(_, seq) => {
                world.slots[seq as usize - 1] = Slot::Deleted;
                if self.fold(&world.history).live.contains(&seq) {
                    world.broken = Some(Broken::LiveDeleted);
                }
                let is_cut = |read: &Read| read.seq == seq && read.is_fresh;
                if world
                    .nodes
                    .iter()
                    .filter_map(|node| node.read)
                    .any(|read| is_cut(&read))
                {
                    world.broken = Some(Broken::ReadCutShort);
                }
            }
            Action::Crash(node) => {
                let this = &mut world.nodes[node as usize];
                this.run += 1;
                (this.counter, this.read) = (0, None);
                self.start_over(&mut world, node, None);
            }
            Action::StartRead(node, seq) => {
                let (started, tail) = (world.now, world.nodes[node as usize].tail);
                world.nodes[node as usize].read = Some(Read {
                    seq,
                    started,
                    tail,
                    is_fresh: started - tail <= TAIL_PROOF_LIFE,
                });
            }
            Action::EndRead(node) => {
                let read = world.nodes[node as usize].read.take()?;
                let is_old = world.now - read.tail > TAIL_PROOF_LIFE;
                if let Slot::Garbage(Commit { op: Op::Data, .. }) =
                    world.slots[read.seq as usize - 1]
                    && !(is_old && self.on(Rule::ReadsNeedProof))
                {
                    world.broken = Some(Broken::WrongBytes);
                }
            }
            Action::Send(node, op) => {
                let commit = self.next_commit(&mut world, node, op);
                let sent = world.sent();
                self.put(&mut world, node, commit, None, sent);
            }
            Action::Land(at) => {
                let put = world.flying.remove(at as usize);
                let created = world.create(put.key.seq, put.commit);
                if let Some(this) = world.nodes.get_mut(put.key.node as usize)
                    && let Phase::Putting(attempt, answer) = &mut this.phase
                    && (attempt.number, this.run) == (put.key.attempt, put.key.run)
                {
                    *answer = Some(created);
                }
            }
            Action::TimeOut(node) => {
                let sent = world.sent();
                let this = &mut world.nodes[node as usize];
                if let Phase::Putting(attempt, _) = this.phase {
                    this.phase = Phase::Settling(attempt, sent, None);
                }
            }
            Action::SendProbe(node) => {
                let sent = world.sent();
                world.nodes[node as usize].phase = Phase::Probing(sent, None);
            }
            Action::Serve(node) => {
                let next = world.nodes[node as usize].applied + 1;
                let found = world.stands(next).map_or(Answer::Absent, Answer::Found);
                match &mut world.nodes[node as usize].phase {
                    Phase::Settling(.., answer) | Phase::Probing(.., answer) => {
                        *answer = Some(found)
                    }
                    _ => return None,
                }
            }
            Action::Hear(node) => match world.nodes[node as usize].phase {
                Phase::Putting(attempt, Some(true)) => {
                    self.created(&mut world, node, attempt.commit, attempt.last);
                }
                Phase::Putting(attempt, Some(false)) => {
                    let sent = world.sent();
                    world.nodes[node as usize].phase = Phase::Settling(attempt, sent, None);
                }
                Phase::Settling(attempt, sent, Some(answer)) => {
                    self.settled(&mut world, node, attempt, sent, answer);
                }
                Phase::Probing(sent, Some(answer)) => self.probed(&mut world, node, sent, answer),
                _ => return None,
            },
            Action::ReadSnapshot(node) => self.read_snapshot(&mut world, node),
        }
        if world.broken.is_none() {
            let state = self.fold(&world.history);
            if state.truncated > 0 {
                let whole = Folded {
                    boundary: state.truncated,
                    ..state
                };
                if !self.is_cleared(&world, &whole) {
                    world.broken = Some(Broken::LeftBehind);
                }
            }
        }
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Truncation>> {
        macro_rules! never {
            ($what:ident, $says:literal) => {
                Property::always($says, |_: &Truncation, world: &World| {
                    world.broken != Some(Broken::$what)
                })
            };
        }
        vec![
            never!(
                GarbageFolded,
                "nobody folds a commit that is not of the log"
            ),
            never!(
                GarbageAcknowledged,
                "nobody acknowledges a commit that is not of the log"
            ),
            never!(
                StaleProof,
                "a node that believes itself at the tail has all that was in the log at the instant of its proof"
            ),
            never!(TwiceInTheLog, "a commit is in the log once"),
            never!(
                LiveDeleted,
                "I10: no commit is deleted in which a slice lies"
            ),
            never!(
                ReadCutShort,
                "I10: no commit is deleted that a running read needs"
            ),
            never!(WrongBytes, "I4: a read gets the bytes of the log or none"),
            never!(LeftBehind, "what is truncated is deleted"),
            Property::always(
                "a node that starts finds every commit after the snapshot",
                |_, world: &World| {
                    (world.snapshot + 1..=world.len())
                        .all(|seq| world.slots[seq as usize - 1] == Slot::Original)
                },
            ),
        ]
    }
}

impl Truncation {
    /// What the keeper may commit.
    fn proposals(
        &self,
        world: &World,
        this: &Node,
        wall: Instant,
        state: &Folded,
        mut propose: impl FnMut(Op),
    ) {
        for op in self.keeper_ops {
            match op {
                Op::Retire(seq) if !state.live.contains(seq) => {}
                _ if this.applied as usize >= self.begin.len() + self.keeper_ops.len() => {}
                op => propose(*op),
            }
        }
        if this.wrote > state.snapshots.last().map_or(0, |(seq, _)| *seq) {
            propose(Op::SnapshotTaken(this.wrote));
        }
        let limit = self.limit(state, this.applied, wall.max(state.time));
        let own = match this.known {
            _ if !self.on(Rule::AgeByOwnClock) => limit,
            Some((seq, since)) if since + TRUNCATION_AGE <= world.now => limit.min(seq),
            _ => 0,
        };
        for to in state.boundary + 1..=own {
            propose(Op::RaiseLogBoundary(to));
        }
        if state.truncated < state.boundary
            && this.made >= state.boundary
            && (self.is_cleared(world, state) || !self.on(Rule::TruncatedAfterDeleting))
        {
            propose(Op::LogTruncated(state.boundary));
        }
    }
}
