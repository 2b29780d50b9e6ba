//! Replaced slices: two compactors of one partition, retention, readers with older states, and the deletion of what
//! died.
//!
//! The partition holds three records in three segments; the first and the last have one key. One compactor puts slices
//! together, the other also leaves out what a later record supersedes. What they commit arrives as late as it likes.

mod cases;
mod steps;

use crate::check::{Rules, rules};

type Instant = u8;
type Object = u8;
type Offset = u8;

/// How long a reader relies on having seen the end of the log.
const TAIL_PROOF_LIFE: Instant = 1;
/// The longest that a read may take.
const READ: Instant = 1;
/// How long an object is dead before it is deleted.
const GRACE: Instant = TAIL_PROOF_LIFE + READ + 1;
/// How long a claim holds.
const CLAIM: Instant = 1;

/// The offset after the last record.
const END: Offset = 3;
/// The records that later ones supersede, as bits.
const SUPERSEDED: u8 = 0b001;

rules! {
    /// A replacement is refused if slices were replaced since its inputs were read.
    LayoutChecked,
    /// ... and if it does not begin and end where slices do.
    BoundsChecked,
    /// The compacted segment is stored before the replacement is committed.
    OutputFirst,
    /// What was decided by settings that were altered since is refused.
    SettingsChecked,
    /// A dead segment is deleted only after GRACE.
    Grace,
    /// GRACE counts on the boot-time clock of the node that deletes, from when it learned of the death.
    GraceByOwnClock,
    /// A reader that misses a segment refreshes its state and reads again.
    MissingMeansRefresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Op {
    Replace {
        layout: u8,
        base: Offset,
        end: Offset,
        object: Object,
        /// The seq of the settings, if superseded records were left out.
        cleaned: Option<u8>,
    },
    /// Retention, by the settings at this seq.
    Expire {
        before: Offset,
        as_of: u8,
    },
    /// The settings say: delete nothing any more.
    KeepAll,
    Claim(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Commit {
    op: Op,
    time: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slice {
    base: Offset,
    end: Offset,
    object: Object,
}

/// What the fold of a prefix of the log comes to.
#[derive(Clone, Debug)]
struct Folded {
    time: Instant,
    start: Offset,
    slices: Vec<Slice>,
    layout: u8,
    cleaned_to: Offset,
    /// The seq at which the settings were altered.
    altered: u8,
    dead: Vec<(Object, Instant)>,
    claim: Option<(u8, Instant)>,
    /// Something was decided by settings that did not hold any more.
    is_against_settings: bool,
}

/// What stands in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Stored {
    records: u8,
    is_there: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Compactor {
    Idle,
    /// Has taken its inputs from the state at this seq.
    Reading {
        seq: u8,
        base: Offset,
        end: Offset,
    },
    /// Has an output to commit.
    Wrote {
        seq: u8,
        base: Offset,
        end: Offset,
        object: Object,
    },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Read {
    object: Object,
    started: Instant,
    /// Whether the state was not old when the read began.
    is_fresh: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reader {
    applied: u8,
    proven: Instant,
    read: Option<Read>,
}

/// The node that deletes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Deleter {
    applied: u8,
    /// What it knows to be dead, and since when.
    mourned: Vec<(Object, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Broken {
    Hole,
    Lost,
    CameBack,
    Missing,
    AgainstSettings,
    ReadCutShort,
    SaidLost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    now: Instant,
    log: Vec<Commit>,
    flying: Vec<Commit>,
    objects: Vec<Stored>,
    compactors: Vec<Compactor>,
    reader: Reader,
    deleter: Deleter,
    retained: bool,
    altered: bool,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    /// A compactor takes the slices from one to another as inputs.
    Begin(u8, Offset, Offset),
    /// It reads them and writes its output.
    Write(u8),
    SendReplace(u8),
    Claim(u8),
    SendExpire(Offset),
    KeepAll,
    /// A commit comes into the log.
    Land(Commit),
    Follow,
    StartRead(Object),
    EndRead,
    FollowDeleter,
    Delete(Object),
}

/// The model, at one size.
#[derive(Clone, Debug)]
struct Compacting {
    rules: Rules,
    /// Whether each leaves out what is superseded.
    compactors: &'static [bool],
    /// Whether a compactor needs a claim to begin.
    claims: bool,
    retention: bool,
    reads: bool,
    most_time: Instant,
    most_log: usize,
}

impl Compacting {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }

    fn fold(&self, log: &[Commit]) -> Folded {
        let slice = |object: Object| Slice {
            base: object,
            end: object + 1,
            object,
        };
        let mut state = Folded {
            time: 0,
            start: 0,
            slices: (0..END).map(slice).collect(),
            layout: 0,
            cleaned_to: 0,
            altered: 0,
            dead: Vec::new(),
            claim: None,
            is_against_settings: false,
        };
        for (seq, commit) in (1..).zip(log) {
            state.time = state.time.max(commit.time);
            self.apply(&mut state, seq, commit.op);
        }
        state
    }

    fn apply(&self, state: &mut Folded, seq: u8, op: Op) {
        match op {
            Op::KeepAll => state.altered = seq,
            Op::Claim(who) => {
                let is_open = |(holder, until)| holder == who || until < state.time;
                if state.claim.is_none_or(is_open) {
                    state.claim = Some((who, state.time + CLAIM));
                }
            }
            Op::Expire { before, as_of } => {
                if self.goes_by_settings(state, as_of) {
                    state.start = state.start.max(before);
                    let start = state.start;
                    state.release(|slice| slice.end <= start);
                }
            }
            Op::Replace {
                layout,
                base,
                end,
                object,
                cleaned,
            } => {
                let is_input = |slice: &&Slice| base <= slice.base && slice.base < end;
                let inputs: Vec<Slice> = state.slices.iter().filter(is_input).copied().collect();
                let fits = inputs.first().is_some_and(|first| first.base == base)
                    && inputs.last().is_some_and(|last| last.end == end);
                if (layout != state.layout && self.on(Rule::LayoutChecked))
                    || (!fits && self.on(Rule::BoundsChecked))
                    || cleaned.is_some_and(|as_of| !self.goes_by_settings(state, as_of))
                {
                    return;
                }
                state.release(|slice| inputs.contains(slice));
                state.slices.push(Slice { base, end, object });
                state.slices.sort_by_key(|slice| slice.base);
                state.layout += 1;
                if cleaned.is_some() && base <= state.start.max(state.cleaned_to) {
                    state.cleaned_to = state.cleaned_to.max(end);
                }
            }
        }
    }

    fn goes_by_settings(&self, state: &mut Folded, as_of: u8) -> bool {
        let is_old = as_of < state.altered;
        if is_old && self.on(Rule::SettingsChecked) {
            return false;
        }
        state.is_against_settings |= is_old;
        true
    }

    fn newest(&self, world: &World) -> Folded {
        self.fold(&world.log)
    }

    fn judge(&self, world: &World) -> Option<Broken> {
        let state = self.newest(world);
        let mut ends = state.slices.iter().map(|slice| slice.end);
        let bases = state.slices.iter().map(|slice| slice.base);
        let first = bases.clone().next().unwrap_or(END);
        let is_dense = bases
            .skip(1)
            .eq(ends.clone().take(state.slices.len().saturating_sub(1)));
        let is_whole = ends.next_back().unwrap_or(state.start) == END;
        if !is_dense || !is_whole || first > state.start {
            return Some(Broken::Hole);
        }
        if state.is_against_settings {
            return Some(Broken::AgainstSettings);
        }
        for slice in &state.slices {
            let stored = world.objects[slice.object as usize];
            if !stored.is_there {
                return Some(Broken::Missing);
            }
            if slice.end <= state.start {
                return Some(Broken::CameBack);
            }
            for record in slice.base..slice.end {
                let is_superseded = SUPERSEDED & 1 << record != 0;
                let is_in = stored.records & 1 << record != 0;
                if !is_in && !is_superseded {
                    return Some(Broken::Lost);
                }
                if is_in && is_superseded && record < state.cleaned_to {
                    return Some(Broken::CameBack);
                }
            }
        }
        None
    }

    /// Whether the node may delete a dead segment.
    fn is_due(&self, world: &World, state: &Folded, object: Object, since: Instant) -> bool {
        if !self.on(Rule::Grace) {
            return true;
        }
        if !self.on(Rule::GraceByOwnClock) {
            return since + GRACE <= world.now.max(state.time);
        }
        let mut mourned = world.deleter.mourned.iter();
        mourned.any(|(dead, since)| *dead == object && since + GRACE <= world.now)
    }

    fn compactor_actions(&self, world: &World, at: u8, actions: &mut Vec<Action>) {
        let state = self.newest(world);
        match world.compactors[at as usize] {
            Compactor::Idle => {
                let holds = state
                    .claim
                    .is_some_and(|(who, until)| who == at && world.now <= until);
                if self.claims && !holds {
                    if world.log.len() < self.most_log {
                        actions.push(Action::Claim(at));
                    }
                    return;
                }
                for (first, from) in state.slices.iter().enumerate() {
                    let after = state.slices[first..].iter();
                    actions.extend(after.map(|to| Action::Begin(at, from.base, to.end)));
                }
            }
            Compactor::Reading { .. } => actions.push(Action::Write(at)),
            Compactor::Wrote { .. } => actions.push(Action::SendReplace(at)),
            Compactor::Done => {}
        }
    }
}

impl Folded {
    fn release(&mut self, goes: impl Fn(&Slice) -> bool) {
        let gone = self.slices.iter().filter(|slice| goes(slice));
        self.dead
            .extend(gone.map(|slice| (slice.object, self.time)));
        self.slices.retain(|slice| !goes(slice));
    }
}
