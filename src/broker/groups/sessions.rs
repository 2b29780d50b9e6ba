//! When each member that this node vouches for was last heard from. In memory only: heartbeats cost nothing.
//!
//! A node that dies takes this along; its members then have their session timeout to show up at another.
//! A process that was paused must not blame its members for it: [`Sessions::pulse`] notices the gap and takes
//! it off everybody's silence.
//!
//! There is one entry for each member that the state shows as vouched for by this node, and one for each
//! request that waits, so the table is bounded by what bounds those.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::state::State;
use crate::state::group::{Group, Member, Voucher};
use crate::types::{GroupId, MemberId, NodeId};

/// How often the clock is looked at.
pub(super) const PULSE: Duration = Duration::from_millis(500);

/// A pulse that comes later than this was held up by a pause of the process and not by work.
const LATE: Duration = Duration::from_secs(2);

type Key = (GroupId, MemberId);

/// The table. Cheap to clone; clones share it. Times are [`Env::boot`](crate::env::Env::boot)'s.
#[derive(Clone)]
pub(super) struct Sessions {
    table: Arc<Mutex<Table>>,
}

struct Table {
    heard: BTreeMap<Key, Heard>,
    last_pulse: Duration,
    /// Somebody pulses: else there is no telling of pauses.
    pulsing: bool,
    /// The end of the last pause.
    resumed: Option<Duration>,
}

#[derive(Clone, Copy, Default)]
struct Heard {
    at: Duration,
    /// How many of its requests are waiting here: as long as one is, it lives.
    waiting: u32,
    /// This node has told, or is about to tell, that the member is gone.
    given_up: bool,
}

impl Heard {
    /// When the session is over unless there is a sign of life; `None` while a request waits.
    fn end(&self, session_timeout: Duration) -> Option<Duration> {
        (self.waiting == 0).then(|| self.at.saturating_add(session_timeout))
    }
}

impl Sessions {
    pub(super) fn new(now: Duration) -> Sessions {
        let table = Table {
            heard: BTreeMap::new(),
            last_pulse: now,
            pulsing: false,
            resumed: None,
        };
        Sessions {
            table: Arc::new(Mutex::new(table)),
        }
    }

    /// The member has shown itself, and the state shows that this node vouches for it.
    pub(super) fn touch(&self, group: &GroupId, member: &MemberId, now: Duration) {
        let mut table = self.lock();
        let heard = table
            .heard
            .entry((group.clone(), member.clone()))
            .or_default();
        heard.at = heard.at.max(now);
        heard.given_up = false;
    }

    /// As [`touch`](Self::touch), if the member is known here and not given up; false if not.
    pub(super) fn touch_known(&self, group: &GroupId, member: &MemberId, now: Duration) -> bool {
        match self.lock().heard.get_mut(&(group.clone(), member.clone())) {
            Some(heard) if !heard.given_up => {
                heard.at = heard.at.max(now);
                true
            }
            _ => false,
        }
    }

    /// The member has left.
    pub(super) fn forget(&self, group: &GroupId, member: &MemberId) {
        let mut table = self.lock();
        let key = (group.clone(), member.clone());
        if table
            .heard
            .get(&key)
            .is_some_and(|heard| heard.waiting == 0)
        {
            table.heard.remove(&key);
        }
    }

    /// A request of the member waits here; as long as the guard lives, so does the member.
    pub(super) fn wait(
        &self,
        group: &GroupId,
        member: &MemberId,
        env: &crate::env::Env,
    ) -> Waiting {
        let key = (group.clone(), member.clone());
        self.lock().heard.entry(key.clone()).or_default().waiting += 1;
        Waiting {
            sessions: self.clone(),
            key,
            env: env.clone(),
        }
    }

    /// Says that [`pulse`](Self::pulse) is called from now on, for as long as the guard lives.
    pub(super) fn pulses(&self, now: Duration) -> Pulsing {
        self.pulse(now);
        self.lock().pulsing = true;
        Pulsing(self.clone())
    }

    /// Whether this node vouches for anybody, or is about to.
    pub(super) fn any(&self) -> bool {
        !self.lock().heard.is_empty()
    }

    /// To be called every [`PULSE`]. Time in which it was not called was lost to everybody.
    pub(super) fn pulse(&self, now: Duration) {
        let mut table = self.lock();
        let gap = now.saturating_sub(table.last_pulse);
        table.last_pulse = now;
        if gap > LATE {
            if table.pulsing {
                table.resumed = Some(now);
            }
            tracing::warn!(
                ?gap,
                "this process was paused; the sessions of group members are extended by the length of the pause"
            );
            table
                .heard
                .values_mut()
                .for_each(|heard| heard.at = (heard.at + gap).min(now));
        }
    }

    /// Whether what arrives now may have waited while this process was paused.
    pub(super) fn has_just_resumed(&self, now: Duration) -> bool {
        let table = self.lock();
        let pauses = table.pulsing && now.saturating_sub(table.last_pulse) > LATE;
        let resumed = |at| now.saturating_sub(at) < PULSE;
        pauses || table.resumed.is_some_and(resumed)
    }

    /// Compares with the state: enters members of this node that are new to it, drops those that are its own no
    /// more, and returns those that were silent for their session timeout; and when the next session ends if no
    /// sign of life comes.
    pub(super) fn sweep(
        &self,
        state: &State,
        me: NodeId,
        now: Duration,
    ) -> (Vec<Key>, Option<Duration>) {
        self.pulse(now);
        let mut table = self.lock();
        let mut known = std::mem::take(&mut table.heard);
        let mut silent = Vec::new();
        let mut next: Option<Duration> = None;
        for (group_id, group) in state.groups_vouched_by(me) {
            let mine = group
                .members()
                .filter(|(_, m)| m.voucher() == Voucher::Node(me));
            for (member_id, member) in mine {
                let key = (group_id.clone(), member_id.clone());
                let fresh = Heard {
                    at: now,
                    ..Heard::default()
                };
                let mut heard = known.remove(&key).unwrap_or(fresh);
                let end = heard.end(member.session_timeout());
                if end.is_some_and(|end| end <= now) {
                    heard.given_up = true;
                    silent.push(key.clone());
                } else if let Some(end) = end {
                    next = Some(next.map_or(end, |next| next.min(end)));
                }
                table.heard.insert(key, heard);
            }
        }
        // Not in this state, but perhaps in the one that its commit is about to make.
        known.retain(|_, heard| heard.waiting > 0 || now.saturating_sub(heard.at) < LATE);
        table.heard.append(&mut known);
        (silent, next)
    }

    /// The members of a group for which this node vouches and whose session is over at `now`. With `give_up` they are
    /// given up: what they say from here on does not count before the fold has judged.
    pub(super) fn silent_in(
        &self,
        id: &GroupId,
        group: &Group,
        me: NodeId,
        now: Duration,
        give_up: bool,
    ) -> Vec<MemberId> {
        self.pulse(now);
        let mut table = self.lock();
        let mut is_silent = |member_id: &MemberId, member: &Member| {
            let key = (id.clone(), member_id.clone());
            let Some(heard) = table.heard.get_mut(&key) else {
                return false;
            };
            let over = heard
                .end(member.session_timeout())
                .is_some_and(|end| end <= now);
            heard.given_up |= over && give_up;
            over
        };
        let mine = group
            .members()
            .filter(|(_, m)| m.voucher() == Voucher::Node(me));
        mine.filter(|(id, member)| is_silent(id, member))
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock leaves the table usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, the table is pulsed.
pub(super) struct Pulsing(Sessions);

impl Drop for Pulsing {
    fn drop(&mut self) {
        self.0.lock().pulsing = false;
    }
}

/// Keeps a member alive while its request waits; dropped, also when its client is gone, the session begins.
pub(super) struct Waiting {
    sessions: Sessions,
    key: Key,
    env: crate::env::Env,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let now = self.env.boot();
        if let Some(heard) = self.sessions.lock().heard.get_mut(&self.key) {
            heard.waiting = heard.waiting.saturating_sub(1);
            heard.at = heard.at.max(now);
        }
    }
}
