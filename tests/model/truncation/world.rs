//! The bucket, the requests on their way, and what each node knows.

use super::log::{Commit, Op, Seq};
use super::{Instant, TAIL_PROOF_LIFE, Truncation};

/// What stands under the name of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// The commit of the log.
    Original,
    Deleted,
    /// What a writer put there after the commit of the log had been deleted.
    Garbage(Commit),
}

/// The node that sent a PUT and is gone.
pub(super) const GONE: u8 = u8::MAX;

/// A PUT on its way. It may arrive at any time, or never.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Put {
    pub(super) node: u8,
    pub(super) run: u8,
    pub(super) attempt: u8,
    pub(super) seq: Seq,
    pub(super) commit: Commit,
}

impl std::fmt::Debug for Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Put {
            attempt,
            seq,
            commit,
            ..
        } = self;
        write!(f, "PUT {seq} (attempt {attempt}): {commit:?}")
    }
}

/// When a request was sent, and what was then: to judge what is made of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    pub(super) at: Instant,
    /// How long the log was.
    pub(super) log: Seq,
    /// The highest boundary: for those who look too early.
    pub(super) boundary: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) commit: Commit,
    pub(super) first: Sent,
    pub(super) last: Sent,
    pub(super) number: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Absent,
    Found(Commit),
}

/// What a node waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    /// For the answer to a PUT at the next seq; true is "created".
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
pub(super) struct Read {
    pub(super) seq: Seq,
    pub(super) started: Instant,
    /// The proof of the state that named the commit.
    pub(super) proven: Instant,
    /// Whether that was not old when the read began.
    pub(super) is_fresh: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) run: u8,
    pub(super) counter: u8,
    /// Its state is the fold of the log up to here. (That it is, is what is checked.)
    pub(super) applied: Seq,
    /// No commit beyond its state was superfluous before this instant: for believing answers about the next seq.
    pub(super) trusted: Instant,
    /// Its state holds all that was in the log at this instant: for fresh questions and for reads.
    pub(super) proven: Instant,
    pub(super) phase: Phase,
    /// The snapshot that it wrote and has not recorded.
    pub(super) wrote: Seq,
    /// The boundary object that it knows to exist.
    pub(super) made: Seq,
    /// The snapshots that it knows, and since when.
    pub(super) known: Vec<(Seq, Instant)>,
    /// The dead commits that it knows of, and since when.
    pub(super) mourned: Vec<(Seq, Instant)>,
    pub(super) read: Option<Read>,
    pub(super) attempts: u8,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    GarbageFolded,
    GarbageAcknowledged,
    StaleProof,
    FoldedTwice,
    LiveDeleted,
    ReadCutShort,
    WrongBytes,
    LeftBehind,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now: Instant,
    /// The log: what was created first under each name.
    pub(super) history: Vec<Commit>,
    pub(super) slots: Vec<Slot>,
    /// The highest boundary object.
    pub(super) boundary: Seq,
    /// The newest snapshot object.
    pub(super) snapshot: Seq,
    pub(super) nodes: Vec<Node>,
    pub(super) flying: Vec<Put>,
    pub(super) broken: Option<Broken>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let World {
            now,
            history,
            slots,
            boundary,
            snapshot,
            nodes,
            flying,
            broken,
        } = self;
        write!(
            f,
            "now {now}, log {history:?}, stands {slots:?}, boundary {boundary}, snapshot {snapshot}, flying {flying:?}, broken {broken:?}"
        )?;
        for (at, node) in nodes.iter().enumerate() {
            write!(f, "\n     node {at}: {node:?}")?;
        }
        Ok(())
    }
}

impl World {
    pub(super) fn len(&self) -> Seq {
        self.history.len() as Seq
    }

    pub(super) fn stands(&self, seq: Seq) -> Option<Commit> {
        match self.slots.get(seq as usize - 1)? {
            Slot::Original => Some(self.history[seq as usize - 1]),
            Slot::Deleted => None,
            Slot::Garbage(commit) => Some(*commit),
        }
    }

    /// What a read of the next seq of a node finds.
    pub(super) fn answer(&self, node: u8) -> Answer {
        let next = self.nodes[node as usize].applied + 1;
        self.stands(next).map_or(Answer::Absent, Answer::Found)
    }

    /// Create if absent.
    pub(super) fn create(&mut self, seq: Seq, commit: Commit) -> bool {
        if self.stands(seq).is_some() {
            return false;
        }
        if seq > self.len() {
            assert_eq!(seq, self.len() + 1, "the log is dense");
            self.history.push(commit);
            self.slots.push(Slot::Original);
        } else {
            self.slots[seq as usize - 1] = Slot::Garbage(commit);
        }
        true
    }

    /// The prefix of the log that a node has folded.
    pub(super) fn folded_by(&self, node: u8) -> &[Commit] {
        &self.history[..self.nodes[node as usize].applied as usize]
    }

    pub(super) fn sent(&self) -> Sent {
        Sent {
            at: self.now,
            log: self.len(),
            boundary: self.boundary,
        }
    }

    /// Whether a running read by a state that was not old needs the commit.
    pub(super) fn is_being_read(&self, seq: Seq) -> bool {
        let mut reads = self.nodes.iter().filter_map(|node| node.read);
        reads.any(|read| read.seq == seq && read.is_fresh)
    }
}

impl Truncation {
    /// Forgets what makes no difference any more: how much older than old something is.
    pub(super) fn normalize(&self, world: &mut World) {
        let old = world.now.saturating_sub(TAIL_PROOF_LIFE + 1);
        let dead = world.now.saturating_sub(self.grace);
        let of_age = world.now.saturating_sub(self.age);
        for node in &mut world.nodes {
            node.trusted = node.trusted.max(old);
            node.proven = node.proven.max(old);
            for (_, since) in &mut node.mourned {
                *since = dead.max(*since);
            }
            for (_, since) in &mut node.known {
                *since = of_age.max(*since);
            }
            if let Some(read) = &mut node.read {
                read.proven = read.proven.max(old);
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

/// What a model takes for an op with bytes.
pub(super) fn is_data(slot: Slot) -> bool {
    matches!(slot, Slot::Garbage(Commit { op: Op::Data, .. }))
}
