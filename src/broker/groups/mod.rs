//! Consumer groups (Kafka's classic protocol): join, sync, heartbeat, leave, offsets, administration.
//!
//! The rules are in the fold ([`crate::state::group`]). Here is what needs a clock and a client that waits:
//!
//! * A join or a sync is an op; then the request waits, watching the state, until the rebalance has come to
//!   its end, wherever the other members are.
//! * Heartbeats stay in the memory of the node that *vouches* for the member ([`sessions`]): the one it talked to
//!   last. A member that comes from another node is adopted by an op. A node answers from memory only while
//!   its own lease holds; cut off from the store it stops saying that all is well before the others give
//!   its members up.
//! * What is due because time passes is proposed by one task for all groups ([`Broker::reap_groups`]).
//!
//! Nothing here decides who is a member, which generation it is or which offset is committed, so nothing is
//! lost when the process dies: members reconnect to another node and are adopted. A future that is dropped
//! may leave its op in the log, if it was sent already; the member it made falls silent and is expired.

mod admin;
mod committed_offsets;
mod coordinator;
mod membership;
mod reaper;
mod sessions;

#[cfg(test)]
mod tests;

pub(super) use coordinator::{Groups, Parts};

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::types::{Generation, GroupId, MemberId, Offset, Timestamp, TopicPartition};

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Session, Unavailable};

/// A request to join.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The group; not empty.
    pub group: GroupId,
    /// The id given before; `None` at the first join.
    pub member: Option<MemberId>,
    /// Static membership (KIP-345).
    pub instance: Option<String>,
    /// A member that does not hear from us for this long leaves the group.
    pub session_timeout: Duration,
    /// How long members have to rejoin in a rebalance.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect` ...
    pub protocol_type: String,
    /// Assignors with their metadata, most wanted first.
    pub protocols: Vec<(String, Bytes)>,
    /// A first join is answered with [`GroupOpError::MemberIdRequired`] and an id (KIP-394).
    pub require_known_member: bool,
    /// A static leader that rejoins may be told to skip the assignment (KIP-814).
    pub supports_skip_assignment: bool,
}

/// The group that was joined.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct Joined {
    pub member: MemberId,
    pub generation: Generation,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: MemberId,
    /// All members with their metadata for the chosen assignor, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
    pub skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct JoinedMember {
    pub member: MemberId,
    pub instance: Option<String>,
    pub metadata: Bytes,
}

/// How a member (or a client outside of group management) identifies itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct Identity {
    pub group: GroupId,
    /// Empty text for clients outside of group management.
    pub member: MemberId,
    pub instance: Option<String>,
    /// [`Generation::NONE`] for clients outside of group management.
    pub generation: Generation,
}

/// A request for one's assignment; the leader brings everybody's.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct SyncRequest {
    pub identity: Identity,
    /// What the member believes (v5+); checked if given.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// One's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// A member that leaves, named by its id or by its instance (KIP-345).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct LeavingMember {
    pub member: Option<MemberId>,
    pub instance: Option<String>,
}

/// An offset to commit.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct CommitOffset {
    pub partition: TopicPartition,
    pub offset: Offset,
    pub leader_epoch: Option<i32>,
    /// At most `offset.metadata.max.bytes`.
    pub metadata: Option<String>,
}

/// An offset that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: Option<i32>,
    pub metadata: Option<String>,
    pub committed_at: Timestamp,
}

/// A line of a list of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct GroupListing {
    pub group: GroupId,
    pub protocol_type: String,
    /// Kafka's names: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Dead`.
    pub state: &'static str,
}

/// A group in full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct GroupDescription {
    pub group: GroupId,
    /// `Dead` for a group that does not exist, as Kafka answers.
    pub state: &'static str,
    pub protocol_type: String,
    /// The chosen assignor; empty unless stable.
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

/// A member in full.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the protocol's and say it")]
pub struct MemberDescription {
    pub member: MemberId,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// Why a group refused. Each names a Kafka error of the same name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the names are Kafka's and say it")]
pub enum GroupOpError {
    #[error("the group id is empty or not allowed")]
    InvalidGroupId,
    #[error("join again as member {0}")]
    MemberIdRequired(MemberId),
    #[error("{0} is not a member of the group")]
    UnknownMember(MemberId),
    #[error("instance id {0} now belongs to another member")]
    FencedInstance(String),
    #[error("the group is at generation {current}, not {found}")]
    IllegalGeneration {
        found: Generation,
        current: Generation,
    },
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the member supports none of the group's protocols")]
    InconsistentProtocol,
    #[error(
        "the session timeout of {asked} ms is not between {min} and {max} ms (the cluster settings \
         group.min.session.timeout.ms and group.max.session.timeout.ms)"
    )]
    InvalidSessionTimeout { asked: u64, min: u64, max: u64 },
    #[error("the group is full: the cluster setting group.max.size allows {0} members")]
    GroupMaxSizeReached(u32),
    #[error("there is no group with that id")]
    GroupIdNotFound,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("members of the group subscribe to that topic")]
    GroupSubscribedToTopic,
    #[error(
        "the metadata of an offset has {found} characters; the limit is {limit} (the cluster setting \
         offset.metadata.max.bytes), and 32767 bytes in any case"
    )]
    OffsetMetadataTooLarge { found: usize, limit: usize },
    #[error("there is no such topic or partition")]
    UnknownPartition,
    #[error("{what} takes {size} bytes; the limit is {limit}")]
    TooLarge {
        what: &'static str,
        size: usize,
        limit: usize,
    },
    #[error("the request needs {size} bytes in a commit; the limit is {limit}")]
    RequestTooLarge { size: u64, limit: u64 },
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// Does what is due in groups because time passes: ends phases of rebalances, expires members and offsets.
    /// To be run by a node for as long as it serves clients.
    pub async fn reap_groups(&self, stop: CancellationToken) {
        reaper::run(self.groups(), stop).await;
    }

    fn groups(&self) -> &Groups {
        &self.inner.groups
    }

    /// Joins, and waits until the rebalance that this causes is complete.
    pub async fn join_group(
        &self,
        session: &Session,
        request: JoinRequest,
    ) -> Result<Joined, GroupOpError> {
        let permit = self.may(session, Action::Read, &request.group)?;
        self.groups().join(permit, session, request).await
    }

    /// Brings (leader) and awaits the assignment.
    pub async fn sync_group(
        &self,
        session: &Session,
        request: SyncRequest,
    ) -> Result<Synced, GroupOpError> {
        let permit = self.may(session, Action::Read, &request.identity.group)?;
        self.groups().sync(permit, session, request).await
    }

    /// Says that the member lives.
    pub async fn heartbeat(
        &self,
        session: &Session,
        identity: &Identity,
    ) -> Result<(), GroupOpError> {
        let permit = self.may(session, Action::Read, &identity.group)?;
        self.groups().heartbeat(permit, session, identity).await
    }

    /// Members leave; each has its own outcome, in order.
    pub async fn leave_group(
        &self,
        session: &Session,
        group: &GroupId,
        members: Vec<LeavingMember>,
    ) -> Result<Vec<Result<(), GroupOpError>>, GroupOpError> {
        let permit = self.may(session, Action::Read, group)?;
        let groups = self.groups();
        groups.leave(permit, session, group, members).await
    }

    /// Commits offsets; all or none but for those that are refused one by one (unknown partition, metadata
    /// too large, a topic that the client may not read).
    pub async fn commit_offsets(
        &self,
        session: &Session,
        identity: &Identity,
        offsets: Vec<CommitOffset>,
    ) -> Result<Vec<Result<(), GroupOpError>>, GroupOpError> {
        let permit = self.may(session, Action::Read, &identity.group)?;
        let may_read = |topic: &str| self.may_read_topic(session, topic);
        let groups = self.groups();
        groups
            .commit_offsets(permit, session, identity, offsets, may_read)
            .await
    }

    /// Committed offsets, up to date: of the partitions asked for that have one, or all.
    ///
    /// # Errors
    ///
    /// Also if the client may not know of one of the topics that it asks for; of all those that it may not know of are
    /// left out.
    pub async fn committed_offsets(
        &self,
        session: &Session,
        group: &GroupId,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, GroupOpError> {
        let permit = self.may(session, Action::Describe, group)?;
        let may_know =
            |topic: &str| self.authorize(session, Action::Describe, Resource::topic(topic));
        let groups = self.groups();
        groups
            .committed_offsets(permit, group, partitions, may_know)
            .await
    }

    /// Forgets committed offsets (KIP-496).
    pub async fn delete_offsets(
        &self,
        session: &Session,
        group: &GroupId,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<(), GroupOpError>>, GroupOpError> {
        let permit = self.may(session, Action::Delete, group)?;
        let may_read = |topic: &str| self.may_read_topic(session, topic);
        let groups = self.groups();
        groups
            .delete_offsets(permit, session, group, partitions, may_read)
            .await
    }

    /// All groups that the client may know of, up to date.
    pub async fn list_groups(&self, session: &Session) -> Result<Vec<GroupListing>, GroupOpError> {
        let any = self.authorize(session, Action::Describe, Resource::Cluster);
        let any = any.ok();
        let may_know =
            |group: &GroupId| any.or_else(|| self.may(session, Action::Describe, group).ok());
        self.groups().list(may_know).await
    }

    /// A group in full, up to date.
    pub async fn describe_group(
        &self,
        session: &Session,
        group: &GroupId,
    ) -> Result<GroupDescription, GroupOpError> {
        let permit = self.may(session, Action::Describe, group)?;
        self.groups().describe(permit, group).await
    }

    /// Deletes a group without members, with its offsets.
    pub async fn delete_group(
        &self,
        session: &Session,
        group: &GroupId,
    ) -> Result<(), GroupOpError> {
        let permit = self.may(session, Action::Delete, group)?;
        self.groups().delete(permit, session, group).await
    }

    /// Whether the client may do that with the group.
    fn may(&self, session: &Session, action: Action, group: &GroupId) -> Result<Permit, Denied> {
        self.authorize(session, action, Resource::group(group.as_str()))
    }

    fn may_read_topic(&self, session: &Session, topic: &str) -> Result<Permit, Denied> {
        self.authorize(session, Action::Read, Resource::topic(topic))
    }
}
