//! The receiver's side: commits that other nodes forwarded to this one, until they are in one of its objects.

use super::received::Received;
use super::{Forwarding, Route};
use crate::manifest::peers::Declined;
use crate::manifest::prepared::{LogView, MAX_DATA};
use crate::state::Level;
use crate::state::op::Commit;
use crate::types::CommitId;

/// The largest object of a commit that is forwarded: all but those with very many ops. A larger one races for its seq,
/// and may wait for long while others do not.
pub(in crate::manifest) const MAX_FORWARDED: usize = MAX_DATA + (2 << 20);

/// The most forwarded commits in one object, and the most bytes of their ops.
const MAX_COUNT: usize = 256;
const MAX_HEADS: usize = 4 << 20;

impl Forwarding {
    /// Admits a commit of another node, unless this node forwards its own: it will be in one of the next objects.
    /// `level` is the highest that this node takes part in, `route` where its own commits go.
    pub(in crate::manifest) fn admit(&mut self, received: Received, level: Level, route: &Route) {
        let is_too_new = received.commit.level() > level;
        if is_too_new || received.commit.id.incarnation == self.own {
            return received.decline(Declined::Unfit);
        }
        if matches!(route, Route::Forward(_)) {
            return received.decline(Declined::NotWinning);
        }
        let CommitId {
            incarnation,
            counter,
        } = received.commit.id;
        let comes_later = |waiting: &Received| {
            let id = waiting.commit.id;
            id.incarnation == incarnation && id.counter > counter
        };
        let later = self.received.iter().position(comes_later);
        self.received
            .insert(later.unwrap_or(self.received.len()), received);
    }

    /// Whether an admitted commit can go into the next object. Those whose forwarders have recalled them are dropped.
    pub(in crate::manifest) fn has_received(&mut self, log: LogView<'_>) -> bool {
        self.received.retain(|received| !received.is_recalled());
        self.received
            .iter()
            .any(|received| !is_early(received, &[], log))
    }

    /// Takes of the admitted commits that can go what fits in one object beside `data` bytes.
    pub(in crate::manifest) fn take_received(
        &mut self,
        mut data: usize,
        log: LogView<'_>,
    ) -> Vec<Received> {
        let mut heads = 0;
        let (mut taken, mut early) = (Vec::new(), Vec::new());
        while let Some(next) = self.received.pop_front() {
            if is_early(&next, &taken, log) {
                early.push(next);
                continue;
            }
            data += next.data.len();
            heads += next.head_len;
            let is_full = data > MAX_DATA || heads > MAX_HEADS;
            // One is taken in any case, so that none waits for ever.
            if !taken.is_empty() && (is_full || taken.len() == MAX_COUNT) {
                self.received.push_front(next);
                break;
            }
            taken.push(next);
        }
        self.return_received(early);
        taken
    }

    /// They wait for the next object, before those that were admitted later.
    pub(in crate::manifest) fn return_received(&mut self, received: Vec<Received>) {
        for received in received.into_iter().rev() {
            self.received.push_front(received);
        }
    }

    /// Declines all admitted commits that are in no object.
    pub(in crate::manifest) fn decline_received(&mut self, why: Declined) {
        self.received
            .drain(..)
            .for_each(|received| received.decline(why));
    }
}

/// Whether the commit that this one follows is neither in the log nor on its way there nor taken, and may still come.
fn is_early(received: &Received, taken: &[Received], log: LogView<'_>) -> bool {
    let forwarder = received.commit.id.incarnation;
    let under_way = log.in_flight.iter();
    let forwarded = under_way.flat_map(|sent| &sent.prepared.commit.forwarded);
    let before = forwarded
        .map(|forwarded| forwarded.id)
        .chain(taken.iter().map(|taken| taken.commit.id))
        .filter(|id| id.incarnation == forwarder)
        .map(|id| id.counter)
        .chain(log.state.last_commit_of(forwarder));
    log.is_storing() && before.max().unwrap_or(Commit::NOTHING) < received.follows
}
