//! The state as it is published: the newest one, and a wake-up for whoever waits for the next.
//!
//! As tokio's `watch`, but whoever waits is woken in the order in which they came. `watch` draws lots for that, and a
//! simulation could not repeat itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::state::State;

/// No further state will be published: the task that folds has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node no longer follows the log")]
pub struct Ended;

/// The one who publishes. Dropped, it ends the waiting.
#[derive(Debug)]
pub(super) struct Publisher {
    board: Arc<Board>,
}

/// The states that a node publishes, one after the other. A slow reader may skip states, but always gets the newest.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct States {
    board: Arc<Board>,
    seen: u64,
}

#[derive(Debug)]
struct Board {
    newest: ArcSwap<Edition>,
    changed: Notify,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Edition {
    number: u64,
    state: Arc<State>,
}

/// Both ends, with a first state that counts as seen.
pub(super) fn publish(state: State) -> (Publisher, States) {
    let first = Edition {
        number: 0,
        state: Arc::new(state),
    };
    let board = Arc::new(Board {
        newest: ArcSwap::from_pointee(first),
        changed: Notify::new(),
        ended: AtomicBool::new(false),
    });
    let states = States {
        board: board.clone(),
        seen: 0,
    };
    (Publisher { board }, states)
}

impl Publisher {
    /// Publishes a state.
    pub(super) fn send(&self, state: State) {
        let number = self.board.newest.load().number + 1;
        let state = Arc::new(state);
        self.board.newest.store(Arc::new(Edition { number, state }));
        self.board.changed.notify_waiters();
    }

    /// The state published last.
    pub(super) fn latest(&self) -> Arc<State> {
        self.board.newest.load().state.clone()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.board.ended.store(true, Ordering::Release);
        self.board.changed.notify_waiters();
    }
}

impl States {
    /// The newest state.
    pub fn latest(&self) -> Arc<State> {
        self.board.newest.load().state.clone()
    }

    /// The newest state, which counts as seen from now on.
    pub fn see(&mut self) -> Arc<State> {
        let newest = self.board.newest.load();
        self.seen = newest.number;
        newest.state.clone()
    }

    /// Waits for a state that was not seen, which counts as seen then. May be dropped at any time.
    ///
    /// # Errors
    ///
    /// There will be none.
    pub async fn changed(&mut self) -> Result<(), Ended> {
        let board = &self.board;
        loop {
            let changed = board.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let newest = board.newest.load().number;
            if newest != self.seen {
                self.seen = newest;
                return Ok(());
            }
            if board.ended.load(Ordering::Acquire) {
                return Err(Ended);
            }
            changed.await;
        }
    }

    /// Waits until the newest state is such, and returns it; it may be so already.
    ///
    /// # Errors
    ///
    /// There will be none.
    pub async fn wait_for(
        &mut self,
        mut is_wanted: impl FnMut(&State) -> bool,
    ) -> Result<Arc<State>, Ended> {
        loop {
            let state = self.see();
            if is_wanted(&state) {
                return Ok(state);
            }
            self.changed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;
    use crate::state::op::Commit;
    use crate::types::{CommitId, Incarnation, LogId, Timestamp};

    fn state(seq: u64) -> State {
        let mut state = State::new();
        for counter in 1..=seq {
            let incarnation = Incarnation::default();
            let commit = Commit {
                id: CommitId {
                    incarnation,
                    counter,
                },
                time: Timestamp(0),
                ops: Vec::new(),
                follows: None,
                forwarded: Vec::new(),
                wall: None,
                log: LogId::ZERO,
            };
            state.apply(state.seq().next(), &commit, 0);
        }
        state
    }

    #[tokio::test]
    async fn who_waits_sees_the_newest_state_and_each_only_once() {
        let (publisher, mut states) = publish(state(0));
        assert!(states.changed().now_or_never().is_none());
        publisher.send(state(1));
        publisher.send(state(2));
        assert_eq!(states.changed().now_or_never(), Some(Ok(())));
        assert_eq!(states.see().seq().0, 2);
        assert!(states.changed().now_or_never().is_none());
        let mut late = states.clone();
        publisher.send(state(3));
        assert_eq!(late.wait_for(|s| s.seq().0 == 3).await.unwrap().seq().0, 3);
        // What was published last is seen even though its publisher is gone.
        drop(publisher);
        assert_eq!(states.changed().await, Ok(()));
        assert_eq!(states.changed().await, Err(Ended));
        assert_eq!(states.latest().seq().0, 3);
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_came() {
        let (publisher, states) = publish(state(0));
        let woken = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..40)
            .map(|n| {
                let (mut states, woken) = (states.clone(), woken.clone());
                tokio::spawn(async move {
                    states.changed().await.unwrap();
                    woken.lock().unwrap().push(n);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        publisher.send(state(1));
        join_all(waiting).await;
        assert_eq!(*woken.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }
}
