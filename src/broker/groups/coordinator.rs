//! What the operations on groups share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::dynamic_config::{GroupConfig, Layers};
use crate::env::Env;
use crate::manifest::{Committed, Stopped};
use crate::state::State;
use crate::state::group::{Group, GroupAction, GroupError, GroupReply};
use crate::state::op::{Applied, Op, Outcome, Rejected};
use crate::types::{GroupId, Incarnation, MemberId, NodeId};

use super::GroupOpError;
use super::sessions::Sessions;
use crate::broker::asked::Asking;
use crate::broker::{Arrival, Home, Logs, Session, Unavailable};

/// The groups as one node serves them. Its only state is [`Sessions`]; everything else is in the log.
pub(in crate::broker) struct Groups {
    pub(super) logs: Logs,
    pub(super) env: Env,
    pub(super) incarnation: Incarnation,
    pub(super) sessions: Sessions,
    /// How long an operation waits for the store.
    timeout: Duration,
}

/// What [`Groups`] is made of.
pub(in crate::broker) struct Parts {
    pub(in crate::broker) logs: Logs,
    pub(in crate::broker) env: Env,
    pub(in crate::broker) incarnation: Incarnation,
    pub(in crate::broker) timeout: Duration,
}

impl Groups {
    pub(in crate::broker) fn new(parts: Parts) -> Groups {
        let Parts {
            logs,
            env,
            incarnation,
            timeout,
        } = parts;
        let sessions = Sessions::new(env.boot());
        Groups {
            logs,
            env,
            incarnation,
            sessions,
            timeout,
        }
    }

    /// Whether this node vouches for members: then it must hold a short lease and follow the log.
    pub(in crate::broker) fn holds_members(&self) -> bool {
        self.sessions.any()
    }

    /// The settings in force on this node, as far as it has followed.
    pub(super) fn settings(&self) -> GroupConfig {
        let state = self.logs.of(Home::Cluster).state();
        let set = Layers {
            node: state.configs_of(self.incarnation),
            cluster: state.configs(),
        };
        GroupConfig::effective(&set.in_force())
    }

    /// A state that is up to date.
    pub(super) async fn fresh(&self, home: Home<'_>) -> Result<Arc<State>, Unavailable> {
        let fresh = timeout(self.timeout, self.logs.of(home).fresh()).await;
        fresh
            .map_err(|_| Unavailable::TimedOut)?
            .map_err(Unavailable::from)
    }

    /// Commits ops of this node's own, of any groups.
    pub(super) async fn propose(&self, ops: Vec<Op>) -> Result<Committed, Unavailable> {
        let committed = timeout(self.timeout, self.logs.of(Home::Groups).commit(ops)).await;
        committed
            .map_err(|_| Unavailable::TimedOut)?
            .map_err(Unavailable::from)
    }

    /// The session of a request that arrives now, unless it did before.
    pub(super) fn arrives(&self, session: &Session) -> Session {
        let arrival = session.arrival.unwrap_or_else(|| Arrival::now(&self.logs));
        session.at(arrival)
    }

    /// Commits what a client asks of a group: the ops to which a state leads, `state` at first.
    pub(super) async fn commit(
        &self,
        session: &Session,
        group: &GroupId,
        state: Arc<State>,
        ops: impl Fn(&State) -> Vec<Op>,
    ) -> Result<Committed, GroupOpError> {
        let arrival = session.arrival.unwrap_or_else(|| Arrival::now(&self.logs));
        self.check_not_resumed()?;
        let limit = self.timeout;
        let mut asking = Asking::new((&self.logs, Home::Group(group)), arrival, limit, state);
        loop {
            let ops = ops(asking.state());
            match asking.commit(ops).await {
                Ok(Some(committed)) => return Ok(committed),
                Ok(None) => {}
                Err(Unavailable::Stopped(Stopped::TooLarge { size, limit })) => {
                    return Err(GroupOpError::RequestTooLarge { size, limit });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Commits one action that a client asks for; the state right after it, and what the group says.
    pub(super) async fn act(
        &self,
        session: &Session,
        group: &GroupId,
        action: GroupAction,
    ) -> Result<(Arc<State>, GroupReply), GroupOpError> {
        let op = Op::Group {
            group: group.clone(),
            action,
        };
        let state = self.logs.of(Home::Group(group)).state();
        let mut committed = self
            .commit(session, group, state, |_| vec![op.clone()])
            .await?;
        let reply = reply(committed.outcomes.pop())?;
        Ok((committed.state, reply))
    }

    /// What arrives right after this process was paused may have been sent long before.
    pub(in crate::broker) fn check_not_resumed(&self) -> Result<(), Unavailable> {
        match self.sessions.has_just_resumed(self.env.boot()) {
            true => Err(Unavailable::TimedOut),
            false => Ok(()),
        }
    }

    /// As [`act`](Self::act), with what is due in the group carried out first: who administers a group sees it as it is
    /// by its members' timeouts, and not as the last look of some node at its clock has left it.
    pub(super) async fn act_in_time(
        &self,
        session: &Session,
        group: &GroupId,
        action: GroupAction,
    ) -> Result<(Arc<State>, GroupReply), GroupOpError> {
        let ops = |state: &State| {
            let overdue = match state.group(group) {
                Some(found) => self.overdue(state, group, &found, true),
                None => Vec::new(),
            };
            let actions = overdue.into_iter().chain([action.clone()]);
            let ops = actions.map(|action| Op::Group {
                group: group.clone(),
                action,
            });
            ops.collect()
        };
        let state = self.logs.of(Home::Group(group)).state();
        let mut committed = self.commit(session, group, state, ops).await?;
        let reply = reply(committed.outcomes.pop())?;
        Ok((committed.state, reply))
    }

    /// What the fold will accept for the group because its time has come. Of silent members those for which this node
    /// vouches: nobody else can say so.
    pub(super) fn overdue(
        &self,
        state: &State,
        id: &GroupId,
        group: &Group,
        give_up: bool,
    ) -> Vec<GroupAction> {
        let me = state.node_of(self.incarnation);
        let silent = me.map_or_else(Vec::new, |me| {
            let boot = self.env.boot();
            self.sessions.silent_in(id, group, me, boot, give_up)
        });
        let silent = silent
            .into_iter()
            .map(|member| GroupAction::ExpireMember { member, node: me });
        let now = self.logs.of(Home::Group(id)).time();
        silent.chain(group.due(now)).collect()
    }

    /// The group as it is by its members' timeouts, whether or not a node has noticed.
    pub(super) fn in_time(&self, state: &State, id: &GroupId, group: &Group) -> Option<Group> {
        let overdue = self.overdue(state, id, group, false);
        let now = || self.logs.of(Home::Group(id)).time();
        (!overdue.is_empty()).then(|| group.after(&overdue, now()))
    }

    /// The integer id under which this node is registered. While it is not, because its lease had lapsed, waits for
    /// its return.
    pub(super) async fn me(&self) -> Result<NodeId, Unavailable> {
        let mut states = self.logs.of(Home::Cluster).subscribe();
        let registered = states.wait_for(|state| state.node_of(self.incarnation).is_some());
        let state = timeout(self.timeout, registered)
            .await
            .map_err(|_| Unavailable::TimedOut)?;
        let state = state.map_err(|_| self.stopped(Home::Cluster))?;
        state.node_of(self.incarnation).ok_or(Unavailable::TimedOut)
    }

    /// Waits until a state with the group, not older than `state`, lets `answer` answer.
    pub(super) async fn wait_for<T>(
        &self,
        group: &GroupId,
        mut state: Arc<State>,
        limit: Duration,
        answer: impl Fn(&State) -> Option<Result<T, GroupOpError>>,
    ) -> Result<T, GroupOpError> {
        let home = Home::Group(group);
        let mut states = self.logs.of(home).subscribe();
        let waiting = async {
            loop {
                let latest = states.see();
                if latest.seq() > state.seq() {
                    state = latest;
                }
                if let Some(answer) = answer(&state) {
                    return answer;
                }
                if states.changed().await.is_err() {
                    return Err(self.stopped(home).into());
                }
            }
        };
        // The rebalance takes longer than the member wanted; it may try again.
        timeout(limit, waiting)
            .await
            .unwrap_or(Err(GroupOpError::RebalanceInProgress))
    }

    fn stopped(&self, home: Home<'_>) -> Unavailable {
        Unavailable::Stopped(self.logs.of(home).stopped().unwrap_or(Stopped::Stopping))
    }

    /// A member that was waiting is a member no more: why.
    pub(super) fn lost(
        group: Option<&Group>,
        member: &MemberId,
        instance: Option<&str>,
    ) -> GroupOpError {
        let unknown = || GroupError::UnknownMember(member.clone());
        let checked = group
            .ok_or_else(unknown)
            .and_then(|g| g.check_member(member, instance));
        checked.err().unwrap_or_else(unknown).into()
    }

    /// The member is alive and known to be vouched for by this node.
    pub(super) fn heard_from(&self, group: &GroupId, member: &MemberId) {
        self.sessions.touch(group, member, self.env.boot());
    }
}

/// What the group said to an op.
pub(super) fn reply(outcome: Option<Outcome>) -> Result<GroupReply, GroupOpError> {
    match outcome {
        Some(Ok(Applied::Group(reply))) => Ok(reply),
        Some(Err(Rejected::Group(error))) => Err(error.into()),
        // The lease has lapsed meanwhile, and the next renewal finds out. The client tries again.
        Some(Err(Rejected::UnknownNode { .. })) => Err(Unavailable::NotRegistered.into()),
        other => Err(unexpected(&other)),
    }
}

/// An answer that does not belong to the question: a bug, and not the client's.
pub(super) fn unexpected(answer: &impl std::fmt::Debug) -> GroupOpError {
    tracing::error!(
        ?answer,
        "a group operation returned the wrong kind of reply"
    );
    Unavailable::Internal("a group operation returned the wrong kind of reply").into()
}

impl From<GroupError> for GroupOpError {
    fn from(error: GroupError) -> GroupOpError {
        match error {
            GroupError::UnknownMember(member) | GroupError::Vouched(member) => {
                GroupOpError::UnknownMember(member)
            }
            GroupError::FencedInstance { instance, .. } => GroupOpError::FencedInstance(instance),
            GroupError::IllegalGeneration { found, current } => {
                GroupOpError::IllegalGeneration { found, current }
            }
            GroupError::RebalanceInProgress | GroupError::NotDue => {
                GroupOpError::RebalanceInProgress
            }
            GroupError::InconsistentProtocol => GroupOpError::InconsistentProtocol,
            GroupError::MaxSizeReached(limit) => GroupOpError::GroupMaxSizeReached(limit),
            GroupError::TooLarge { what, size, limit } => {
                GroupOpError::TooLarge { what, size, limit }
            }
            GroupError::NonEmpty => GroupOpError::NonEmptyGroup,
            GroupError::NotFound => GroupOpError::GroupIdNotFound,
            GroupError::SubscribedToTopic(_) => GroupOpError::GroupSubscribedToTopic,
        }
    }
}
