//! The orphan sweep: segments that were uploaded and never committed, and the boundary that lets them be deleted.
//!
//! Uploads and commits are on their way for as long as they like, sweepers stop for as long as they like between any
//! two steps. The log itself is sound here: a commit arrives at its end at once, or never; see `commit`.

mod cases;
mod steps;

use crate::check::{Rules, rules};

type Instant = u8;
type Segment = u8;

/// The longest that a read may take.
const READ: Instant = 1;
/// How long a segment is dead before it is deleted.
const GRACE: Instant = READ + 1;

rules! {
    /// A segment is stored before anything refers to it.
    UploadFirst,
    /// The fold refuses segments that were minted before the sweep boundary.
    RefuseOld,
    /// The boundary is in the log before anything is listed, not only in the mind of the sweeper.
    BoundaryFirst,
    /// What is an orphan is told by a state that holds the boundary, not by one before it.
    StateWithBoundary,
    /// The boundary is only ever raised.
    OnlyRaised,
    /// A dead segment is no orphan: it waits for its grace.
    DeadAreNoOrphans,
    /// Only what is minted before the boundary is an orphan.
    OnlyOld,
    /// A dead segment is refused, also when it is deleted, until the boundary has passed it.
    DeadForEver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    /// Slices are placed in a segment.
    Append(Segment),
    /// The last of them goes.
    Retire(Segment),
    RaiseSweepBoundary(Instant),
    ObjectDeleted(Segment),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
    #[default]
    Unknown,
    Live,
    Dead {
        since: Instant,
        deleted: bool,
    },
}

/// What the fold of a prefix of the log comes to.
#[derive(Clone, Debug, Default)]
struct Folded {
    time: Instant,
    boundary: Instant,
    segments: Vec<Life>,
}

/// A segment as its node and the store see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Object {
    minted: Option<Instant>,
    /// PUTs on their way: the upload is repeated when nothing is heard of it.
    uploads: u8,
    repeats: u8,
    stored: bool,
    /// The upload was heard to be done.
    is_heard: bool,
    /// Commits on their way that refer to it.
    appends: u8,
    tries: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sweeper {
    Idle,
    /// Means to sweep what is minted before, by the state at this seq.
    Ready {
        before: Instant,
        seq: u8,
    },
    /// Found these names.
    Listed {
        before: Instant,
        seq: u8,
        names: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Read {
    segment: Segment,
    started: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    LiveMissing,
    ReadCutShort,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Instant,
    log: Vec<(Op, Instant)>,
    objects: Vec<Object>,
    sweepers: Vec<Sweeper>,
    read: Option<Read>,
    /// An orphan was deleted; a deleted name came back.
    swept: bool,
    returned: bool,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    /// A node mints a segment, by a clock that may be late, and begins to upload it.
    Mint(Segment, Instant),
    RepeatUpload(Segment),
    LandUpload(Segment),
    HearUpload(Segment),
    SendAppend(Segment),
    LandAppend(Segment),
    Retire(Segment),
    /// The deletion of dead objects.
    DeleteDead(Segment),
    /// A sweeper begins: it raises the boundary.
    Raise(u8, Instant),
    List(u8),
    Sweep(u8, Segment),
    Finish(u8),
    StartRead(Segment),
    EndRead,
}

/// The model, at one size.
#[derive(Clone, Debug)]
struct Sweeping {
    rules: Rules,
    segments: u8,
    sweepers: u8,
    most_time: Instant,
    most_log: usize,
    /// How far the clocks of those who mint may be late.
    lag: Instant,
    /// How often a commit may refer to the same segment: more than once only if all else fails.
    tries: u8,
    repeats: u8,
    /// Whether slices go again, and are read.
    retires: bool,
}

impl Sweeping {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }

    fn fold(&self, world: &World, seq: u8) -> Folded {
        let mut state = Folded {
            segments: vec![Life::Unknown; self.segments as usize],
            ..Folded::default()
        };
        for (op, time) in &world.log[..seq as usize] {
            state.time = state.time.max(*time);
            match *op {
                Op::Append(segment) if self.admits(world, &state, segment) => {
                    state.segments[segment as usize] = Life::Live;
                }
                Op::Append(_) => {}
                Op::Retire(segment) => {
                    if state.segments[segment as usize] == Life::Live {
                        state.segments[segment as usize] = Life::Dead {
                            since: state.time,
                            deleted: false,
                        };
                    }
                }
                Op::RaiseSweepBoundary(before) => {
                    state.boundary = if self.on(Rule::OnlyRaised) {
                        state.boundary.max(before)
                    } else {
                        before
                    };
                }
                Op::ObjectDeleted(segment) => {
                    if let Life::Dead { deleted, .. } = &mut state.segments[segment as usize] {
                        *deleted = true;
                    }
                }
            }
            for (life, object) in state.segments.iter_mut().zip(&world.objects) {
                // What nobody can refer to again is forgotten.
                let is_past = object.minted < Some(state.boundary);
                if matches!(life, Life::Dead { deleted: true, .. })
                    && (is_past || !self.on(Rule::DeadForEver))
                {
                    *life = Life::Unknown;
                }
            }
        }
        state
    }

    fn admits(&self, world: &World, state: &Folded, segment: Segment) -> bool {
        let is_old = world.objects[segment as usize].minted < Some(state.boundary);
        let is_dead = matches!(state.segments[segment as usize], Life::Dead { .. });
        !(is_dead || is_old && self.on(Rule::RefuseOld))
    }

    fn newest(&self, world: &World) -> Folded {
        self.fold(world, world.log.len() as u8)
    }

    fn is_orphan(
        &self,
        state: &Folded,
        before: Instant,
        object: &Object,
        segment: Segment,
    ) -> bool {
        let is_old = object.minted < Some(before) || !self.on(Rule::OnlyOld);
        is_old
            && match state.segments[segment as usize] {
                Life::Unknown => true,
                Life::Live => false,
                Life::Dead { .. } => !self.on(Rule::DeadAreNoOrphans),
            }
    }

    fn delete(&self, world: &mut World, segment: Segment) {
        world.objects[segment as usize].stored = false;
        if world.read.is_some_and(|read| read.segment == segment) {
            world.broken = Some(Broken::ReadCutShort);
        }
    }

    fn sweeper_actions(&self, world: &World, at: u8, actions: &mut Vec<Action>) {
        let has_room = world.log.len() < self.most_log;
        match world.sweepers[at as usize] {
            Sweeper::Idle if has_room => {
                actions.extend((1..=world.now).map(|before| Action::Raise(at, before)));
            }
            Sweeper::Idle => {}
            Sweeper::Ready { .. } => actions.push(Action::List(at)),
            Sweeper::Listed { before, seq, names } => {
                let state = self.fold(world, seq);
                for (segment, object) in (0..).zip(&world.objects) {
                    let is_listed = names & 1 << segment != 0;
                    if is_listed && self.is_orphan(&state, before, object, segment) {
                        actions.push(Action::Sweep(at, segment));
                    }
                }
                actions.push(Action::Finish(at));
            }
        }
    }

    fn object_actions(&self, world: &World, segment: Segment, actions: &mut Vec<Action>) {
        let object = world.objects[segment as usize];
        let has_room = world.log.len() < self.most_log;
        if object.minted.is_none() {
            let earliest = world.now.saturating_sub(self.lag);
            actions.extend((earliest..=world.now).map(|at| Action::Mint(segment, at)));
            return;
        }
        if object.uploads > 0 {
            actions.push(Action::LandUpload(segment));
        }
        if !object.is_heard && object.repeats < self.repeats {
            actions.push(Action::RepeatUpload(segment));
        }
        if !object.is_heard && object.stored {
            actions.push(Action::HearUpload(segment));
        }
        if object.tries < self.tries && (object.is_heard || !self.on(Rule::UploadFirst)) {
            actions.push(Action::SendAppend(segment));
        }
        if object.appends > 0 && has_room {
            actions.push(Action::LandAppend(segment));
        }
        let state = self.newest(world);
        match state.segments[segment as usize] {
            Life::Live if self.retires => {
                if world.read.is_none() {
                    actions.push(Action::StartRead(segment));
                }
                if has_room {
                    actions.push(Action::Retire(segment));
                }
            }
            Life::Dead {
                since,
                deleted: false,
            } if since + GRACE <= world.now && has_room => {
                actions.push(Action::DeleteDead(segment))
            }
            _ => {}
        }
    }
}
