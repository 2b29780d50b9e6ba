//! This node among the others: registration, lease, and the end of nodes that are gone.
//!
//! A node that serves clients has a short lease, so that the others soon know when it dies. Each of its
//! commits renews it, so a busy node pays nothing for it. A node without clients has a long lease and renews it
//! seldom: an idle cluster costs next to nothing. A node that was taken for dead (it was paused, or cut off from
//! the store for longer than its lease) registers anew when it finds out, at the latest before it tells clients which
//! nodes there are: it goes by the id that the state gives it, never by one that it remembers.
//!
//! Wall clocks differ, so they have no say in who lives. A node renews its lease by the time since it *made* the last
//! of its commits that is in the log; another takes the lease for lapsed by the time since it *folded* that commit,
//! which is later; both by clocks that nobody sets ([`Manifest::silent_for`](crate::manifest::Manifest::silent_for)).
//! Only a node that has not looked for long goes by the time in the log as well, with [`CLOCKS_APART`] for what clocks
//! may differ.
//!
//! A lease lapses as well because the store is away, and then all of them do. So nobody proposes the end of another
//! before proofs from the store have shown for a while ([`SUSPICION`]) that the other does not renew its lease.
//! Members of groups would lose who vouches for them, and rebalances wait for those who are gone for good.
//!
//! A node whose process was killed refuses connections at once. The server looks every now and then and
//! [says so](Broker::note_looks), and clients are no longer sent there; everything else waits for the lease.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::reachability::Reachability;
use super::{Broker, Home, Unavailable};
use crate::state::op::{Applied, Op, RegisterNode};
use crate::state::{Feature, Node, State};
use crate::types::{Incarnation, NodeId, PeerKey, Timestamp};

/// The lease of a node without clients.
const IDLE_LEASE: Duration = Duration::from_secs(300);

/// How long another node must have been seen not to renew a lease that has lapsed before its end is proposed: so long
/// does it have once the store is there again.
const SUSPICION: Duration = Duration::from_secs(3);

/// How long a node rests whose clock is off, before it looks again.
const CLOCK_OFF: Duration = Duration::from_secs(1);

/// How far apart the wall clocks of two nodes may be: each may be off by half of that from the store's.
const CLOCKS_APART: Duration = Duration::from_secs(10);

/// What clients are told to connect to, by front end: `kafka` -> `host:port`.
pub type Endpoints = BTreeMap<String, String>;

/// This node's registration.
#[derive(Default)]
pub(super) struct Registration {
    pub(super) reachability: Mutex<Reachability>,
    location: Mutex<Option<Location>>,
    /// Held by who registers a node that was taken for dead.
    anew: tokio::sync::Mutex<()>,
    clients: AtomicUsize,
    changed: Notify,
}

/// Where this node is found. Which id it has, the state says.
#[derive(Clone)]
struct Location {
    endpoints: Endpoints,
    rack: Option<String>,
}

/// Nodes whose lease had lapsed in every state that was proven to be up to date, and since when. Times are of the
/// boot-time clock.
#[derive(Default)]
struct Suspects {
    since: BTreeMap<Incarnation, Duration>,
    /// The last proof.
    seen: Duration,
}

impl Suspects {
    /// Takes note of a proof, and returns of each that has lapsed for how long it has been seen so.
    fn note(&mut self, lapsed: &[(NodeId, Incarnation)], now: Duration) -> Vec<Duration> {
        // Between proofs that far apart the store may have been away, from the others as well.
        let gap = now.saturating_sub(self.seen) > SUSPICION * 2;
        self.since.retain(|suspect, _| {
            !gap && lapsed.iter().any(|(_, incarnation)| incarnation == suspect)
        });
        self.seen = now;
        let since = lapsed
            .iter()
            .map(|(_, incarnation)| *self.since.entry(*incarnation).or_insert(now));
        since.map(|since| now.saturating_sub(since)).collect()
    }
}

/// While it lives, this node has a client and holds a short lease. See [`Broker::client_arrived`].
pub struct Presence {
    broker: Broker,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.broker
            .inner
            .presence
            .clients
            .fetch_sub(1, Ordering::Relaxed);
    }
}

impl Broker {
    /// Registers this incarnation of the node with what its clients connect to, and returns its integer id.
    pub async fn register(
        &self,
        endpoints: Endpoints,
        rack: Option<String>,
    ) -> Result<NodeId, Unavailable> {
        let location = Location { endpoints, rack };
        let (id, state) = self.register_at(&location).await?;
        // The first commit of a cluster may be this one, and what the cluster knows is in it.
        if self.has_more_to_say(&state, id) {
            self.register_at(&location).await?;
        }
        *self.location() = Some(location);
        Ok(id)
    }

    /// Registers this incarnation once; its id, and a state that has it.
    async fn register_at(&self, location: &Location) -> Result<(NodeId, Arc<State>), Unavailable> {
        let Location { endpoints, rack } = location.clone();
        let properties = self.inner.properties.get();
        let state = self.inner.logs.of(Home::Cluster).state();
        let properties = properties.filter(|_| state.has(Feature::NodeSettings));
        let op = Op::RegisterNode(RegisterNode {
            incarnation: self.inner.incarnation,
            endpoints,
            rack,
            version: self
                .inner
                .logs
                .of(Home::Cluster)
                .level()
                .label(env!("CARGO_PKG_VERSION")),
            lease_millis: millis(self.wanted_lease()),
            peer_key: self.inner.peer_key.clone(),
            properties: properties.map(|said| said.values().clone()),
        });
        let committed = self.commit(Home::Cluster, vec![op]).await?;
        match committed.outcomes.into_iter().next() {
            Some(Ok(Applied::NodeRegistered(id))) => Ok((id, committed.state)),
            Some(Err(rejected)) => Err(Unavailable::RegistrationRefused(rejected)),
            _ => Err(Unavailable::Internal("a node registered and got no id")),
        }
    }

    /// The id under which this node is registered, and a state not older than `state` that says so. A node that was
    /// taken for dead registers anew first, once for all who ask: its id may be another's by now.
    pub(super) async fn registered_in(
        &self,
        mut state: Arc<State>,
    ) -> Result<(NodeId, Arc<State>), Unavailable> {
        let incarnation = self.inner.incarnation;
        if let Some(id) = state.node_of(incarnation) {
            return Ok((id, state));
        }
        let _turn = self.inner.presence.anew.lock().await;
        state = self.inner.logs.of(Home::Cluster).state();
        if let Some(id) = state.node_of(incarnation) {
            return Ok((id, state));
        }
        let location = self.location().clone().ok_or(Unavailable::NotRegistered)?;
        self.register(location.endpoints, location.rack).await?;
        state = self.inner.logs.of(Home::Cluster).state();
        let id = state.node_of(incarnation);
        let id = id.ok_or(Unavailable::NotRegistered)?;
        tracing::info!(%id, "this node had been taken for dead and has registered again");
        Ok((id, state))
    }

    /// With what this node's peers show that they read the same bucket, if it speaks to any.
    pub fn peer_key(&self) -> Option<&PeerKey> {
        self.inner.peer_key.as_ref()
    }

    /// This node's integer id, while it is registered.
    pub fn node_id(&self) -> Option<NodeId> {
        self.inner
            .logs
            .of(Home::Cluster)
            .state()
            .node_of(self.inner.incarnation)
    }

    /// What this node's clients connect to through `listener`, once it is registered.
    pub(super) fn own_endpoint(&self, listener: &str) -> Option<String> {
        self.location().as_ref()?.endpoints.get(listener).cloned()
    }

    /// Says that a client is connected, for as long as the guard lives.
    pub fn client_arrived(&self) -> Presence {
        if self.inner.presence.clients.fetch_add(1, Ordering::Relaxed) == 0 {
            self.inner.presence.changed.notify_one();
        }
        Presence {
            broker: self.clone(),
        }
    }

    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.inner.presence.clients.load(Ordering::Relaxed)
    }

    /// Takes this node out of the cluster, for good: used once, when it stops.
    pub async fn retire(&self) -> Result<(), Unavailable> {
        self.location().take();
        let Some(node) = self.node_id() else {
            return Ok(());
        };
        let incarnation = self.inner.incarnation;
        self.commit(Home::Cluster, vec![Op::RetireNode { node, incarnation }])
            .await?;
        Ok(())
    }

    /// Keeps this node's lease and ends those of nodes that are gone, until `stop`.
    pub async fn keep_lease(&self, stop: CancellationToken) {
        let mut suspects = Suspects::default();
        loop {
            let pause = match self.tend_leases(&mut suspects).await {
                Ok(pause) => pause,
                Err(error) if error.is_final() => return,
                // It is said already. The store's next answer tells whether it still is.
                Err(Unavailable::Clock(_)) => {
                    let _ = self.fresh(Home::Cluster).await;
                    CLOCK_OFF
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot renew this node's lease; trying again");
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.inner.presence.changed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Renews this node's lease and ends others, if it is time to; returns how long to wait.
    async fn tend_leases(&self, suspects: &mut Suspects) -> Result<Duration, Unavailable> {
        let pause = self.tend_lease().await?;
        let look = self.end_lapsed(suspects).await?;
        Ok(look.map_or(pause, |look| pause.min(look)))
    }

    /// Renews the lease if it is time to; returns how long to wait.
    async fn tend_lease(&self) -> Result<Duration, Unavailable> {
        if self.location().is_none() {
            return Ok(IDLE_LEASE / 3);
        }
        let (node, state) = self
            .registered_in(self.inner.logs.of(Home::Cluster).state())
            .await?;
        let location = self.location().clone();
        if let Some(location) = location.filter(|_| self.has_more_to_say(&state, node)) {
            self.register(location.endpoints, location.rack).await?;
        }
        let lease = self.wanted_lease();
        let held = state.node(node).map(Node::lease);
        let silence = self
            .inner
            .logs
            .of(Home::Cluster)
            .silent_for(self.inner.incarnation);
        if held != Some(lease) || silence > lease / 3 {
            let renewal = Op::RenewLease {
                node,
                incarnation: self.inner.incarnation,
                lease_millis: millis(lease),
            };
            self.commit(Home::Cluster, vec![renewal]).await?;
        }
        Ok(self.inner.env.jittered(lease / 4))
    }

    /// Whether this node registered when nobody could be told of its settings, and now it can.
    fn has_more_to_say(&self, state: &State, id: NodeId) -> bool {
        let said = state.node(id).and_then(Node::properties);
        said.is_none() && state.has(Feature::NodeSettings) && self.inner.properties.get().is_some()
    }

    /// Proposes the end of others whose leases have lapsed and stay so. Returns when to look again, if any is
    /// suspected.
    async fn end_lapsed(&self, suspects: &mut Suspects) -> Result<Option<Duration>, Unavailable> {
        if self
            .lapsed(&self.inner.logs.of(Home::Cluster).state())
            .is_empty()
        {
            *suspects = Suspects::default();
            return Ok(None);
        }
        let state = self.fresh(Home::Cluster).await?;
        let lapsed = self.lapsed(&state);
        let seen = suspects.note(&lapsed, self.inner.env.boot());
        let (mut ends, mut next) = (Vec::new(), None::<Duration>);
        for ((node, incarnation), seen) in lapsed.into_iter().zip(seen) {
            let left = SUSPICION.saturating_sub(seen);
            if left.is_zero() {
                let as_of = state.has(Feature::BoundedTime).then(|| state.seq());
                ends.push(Op::ExpireNode {
                    node,
                    incarnation,
                    as_of,
                });
            } else {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
        if !ends.is_empty() {
            self.commit(Home::Cluster, ends).await?;
        }
        Ok(next)
    }

    /// The others whose leases have lapsed in `state`.
    fn lapsed(&self, state: &State) -> Vec<(NodeId, Incarnation)> {
        let others = state
            .nodes()
            .filter(|(_, node)| node.incarnation() != self.inner.incarnation);
        // What the fold would refuse yet is not proposed.
        let now = self.inner.logs.of(Home::Cluster).time();
        others
            .filter(|(_, node)| node.lease_until() < now && self.has_lapsed(node, now))
            .map(|(id, node)| (id, node.incarnation()))
            .collect()
    }

    /// Whether the lease of that node, as a fresh state says it is, has lapsed, now that the time is `now`.
    pub(super) fn has_lapsed(&self, node: &Node, now: Timestamp) -> bool {
        let silence = self
            .inner
            .logs
            .of(Home::Cluster)
            .silent_for(node.incarnation());
        silence > node.lease() || node.lease_until().after(CLOCKS_APART) < now
    }

    fn wanted_lease(&self) -> Duration {
        let clients = self.inner.presence.clients.load(Ordering::Relaxed);
        // A member whose connection broke is vouched for until it is back or given up.
        if clients > 0 || self.inner.groups.holds_members() {
            self.inner.settings.node_lease
        } else {
            IDLE_LEASE
        }
    }

    fn location(&self) -> MutexGuard<'_, Option<Location>> {
        let location = &self.inner.presence.location;
        location.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
