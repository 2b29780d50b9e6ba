//! What can be asked of a group, and what it answers.

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::member::{Opaque, Protocol};
use crate::types::{
    Generation, MemberId, NodeId, Offset, Timestamp, TopicId, TopicName, TopicPartition,
};

/// One requested change to a group.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
pub enum GroupAction {
    /// A client joins, for the first time or again.
    #[n(0)]
    Join(#[n(0)] Join),
    /// A member asks for its assignment; the leader brings everybody's.
    #[n(1)]
    Sync(#[n(0)] Sync),
    /// Members leave. Each has its own outcome, in order.
    #[n(2)]
    Leave {
        /// Who.
        #[n(0)]
        members: Vec<Leaver>,
    },
    /// A member, or a client outside of group management, commits offsets.
    #[n(3)]
    CommitOffsets(#[n(0)] CommitOffsets),
    /// Forget committed offsets (KIP-496). Each has its own outcome, in order.
    #[n(4)]
    DeleteOffsets {
        /// Which.
        #[n(0)]
        offsets: Vec<OffsetToDelete>,
    },
    /// Delete the group with its offsets, if it has no members.
    #[n(5)]
    Delete,
    /// A member now talks to another node, which vouches for it from here on.
    #[n(6)]
    Adopt {
        /// The member.
        #[n(0)]
        member: MemberId,
        /// Its instance id, if it sent one (KIP-345).
        #[n(1)]
        instance: Option<String>,
        /// The generation that it believes in.
        #[n(2)]
        generation: Generation,
        /// The node.
        #[n(3)]
        node: NodeId,
    },
    /// A member is to leave because it was not heard from.
    #[n(7)]
    ExpireMember {
        /// The member.
        #[n(0)]
        member: MemberId,
        /// The node that says so, which must be the one that vouches for it. `None`: nobody vouches for it
        /// and its deadline has passed.
        #[n(1)]
        node: Option<NodeId>,
    },
    /// The time to rejoin is over.
    #[n(8)]
    CompleteJoin {
        /// The generation that the rebalance is to end.
        #[n(0)]
        generation: Generation,
    },
    /// The time to sync is over.
    #[n(9)]
    CompleteSync {
        /// The generation that was not synced.
        #[n(0)]
        generation: Generation,
    },
    /// Forget the offsets of a group that is out of use, and the group if that leaves nothing of it.
    #[n(10)]
    ExpireOffsets {
        /// Offsets that were neither committed nor in use since are forgotten.
        #[n(0)]
        before: Timestamp,
    },
}

impl GroupAction {
    /// The node that vouches for a member if this action is accepted.
    pub fn voucher(&self) -> Option<NodeId> {
        match self {
            GroupAction::Join(join) => Some(join.node),
            GroupAction::Sync(sync) => Some(sync.node),
            GroupAction::Adopt { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The member for whom that node then vouches.
    pub(in crate::state) fn vouched_for(&self) -> Option<&MemberId> {
        match self {
            GroupAction::Join(join) => Some(&join.member),
            GroupAction::Sync(sync) => Some(&sync.member),
            GroupAction::Adopt { member, .. } => Some(member),
            _ => None,
        }
    }

    /// The node that this action speaks for.
    pub fn speaker(&self) -> Option<NodeId> {
        match self {
            GroupAction::ExpireMember { node, .. } => *node,
            other => other.voucher(),
        }
    }

    /// The topics whose offsets this action may add; those that do not exist are to be taken out again
    /// by [`Group::topic_deleted`](super::Group::topic_deleted).
    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        let offsets = match self {
            GroupAction::CommitOffsets(commit) => commit.offsets.as_slice(),
            _ => &[],
        };
        offsets.iter().map(|offset| offset.partition.topic)
    }
}

/// A client joins. Everything that the fold must know of it, so that the fold needs no settings.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Join {
    /// The id that the client sent, or the id minted for it if it sent none.
    #[n(0)]
    pub member: MemberId,
    /// Whether the client sent that id. If not it is new, or a static member that restarted.
    #[n(1)]
    pub known: bool,
    /// Its instance id, if it is a static member (KIP-345).
    #[n(2)]
    pub instance: Option<String>,
    /// The node it talks to, which vouches for it from here on.
    #[n(3)]
    pub node: NodeId,
    /// Kafka's `client.id`.
    #[n(4)]
    pub client_id: String,
    /// Where it connects from.
    #[n(5)]
    pub client_host: String,
    /// After this long without a sign of life it is out.
    #[n(6)]
    pub session_timeout_millis: u64,
    /// How long a rebalance waits for it.
    #[n(7)]
    pub rebalance_timeout_millis: u64,
    /// `consumer`, `connect` ...
    #[n(8)]
    pub protocol_type: String,
    /// Assignors with their metadata, most wanted first.
    #[n(9)]
    pub protocols: Vec<Protocol>,
    /// A client without an id shall get one and join again with it (KIP-394).
    #[n(10)]
    pub require_known_member: bool,
    /// The client understands that it shall lead but not assign (KIP-814).
    #[n(11)]
    pub supports_skip_assignment: bool,
    /// `group.max.size` of the node.
    #[n(12)]
    pub max_size: u32,
    /// `group.initial.rebalance.delay.ms` of the node (KIP-134).
    #[n(13)]
    pub initial_delay_millis: u64,
}

/// A member asks for its assignment.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Sync {
    /// The member.
    #[n(0)]
    pub member: MemberId,
    /// Its instance id, if it sent one.
    #[n(1)]
    pub instance: Option<String>,
    /// The generation that it joined.
    #[n(2)]
    pub generation: Generation,
    /// The node it talks to, which vouches for it from here on.
    #[n(3)]
    pub node: NodeId,
    /// What the member believes the type of the protocol to be; checked if given (KIP-559).
    #[n(4)]
    pub protocol_type: Option<String>,
    /// What the member believes the chosen protocol to be; checked if given (KIP-559).
    #[n(5)]
    pub protocol: Option<String>,
    /// Who gets what; only the leader's counts.
    #[n(6)]
    pub assignments: Vec<Assignment>,
}

/// What the leader gives a member.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Assignment {
    /// The member.
    #[n(0)]
    pub member: MemberId,
    /// What it gets, in the language of the protocol.
    #[n(1)]
    pub assignment: Opaque,
}

/// A member that leaves, named by its id, or by its instance alone (an administrator's request).
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Leaver {
    /// Its id.
    #[n(0)]
    pub member: Option<MemberId>,
    /// Its instance id.
    #[n(1)]
    pub instance: Option<String>,
}

/// Offsets to commit, all or none.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct CommitOffsets {
    /// The member; `None` for a client outside of group management.
    #[n(0)]
    pub member: Option<MemberId>,
    /// Its instance id, if it sent one.
    #[n(1)]
    pub instance: Option<String>,
    /// Its generation; [`Generation::NONE`] for a client outside of group management.
    #[n(2)]
    pub generation: Generation,
    /// The offsets.
    #[n(3)]
    pub offsets: Vec<OffsetToCommit>,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct OffsetToCommit {
    /// The partition.
    #[n(0)]
    pub partition: TopicPartition,
    /// The next offset to read.
    #[n(1)]
    pub offset: Offset,
    /// The leader epoch of the last record read (KIP-320).
    #[n(2)]
    pub leader_epoch: Option<i32>,
    /// Whatever the client wants to remember.
    #[n(3)]
    pub metadata: Option<String>,
}

/// An offset to forget.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct OffsetToDelete {
    /// The partition.
    #[n(0)]
    pub partition: TopicPartition,
    /// The name of its topic, by which members subscribe.
    #[n(1)]
    pub topic: TopicName,
}

/// What a group answers to an action that it accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupReply {
    /// Nothing to tell.
    Done,
    /// The client shall join again with the id that was minted for it.
    MemberIdRequired,
    /// The member has joined a rebalance. It is over when the member no longer
    /// [awaits it](super::Member::awaits_join); the generation is then higher than this one.
    AwaitJoin {
        /// The generation when the member joined.
        after: Generation,
    },
    /// The member is in the present generation.
    Joined(JoinedGroup),
    /// The leader has not brought the assignment yet.
    AwaitSync,
    /// The member's assignment.
    Synced(SyncedMember),
    /// What became of each leaver, in order.
    Left(Vec<Result<(), GroupError>>),
    /// What became of each offset to delete, in order.
    OffsetsDeleted(Vec<Result<(), GroupError>>),
}

/// A generation, as one of its members learns of it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedGroup {
    /// The generation.
    pub generation: Generation,
    /// `consumer`, `connect` ...
    pub protocol_type: String,
    /// The assignor chosen.
    pub protocol: String,
    /// Who assigns.
    pub leader: MemberId,
    /// Everybody with their metadata for the assignor, if the member leads; otherwise nobody.
    pub members: Vec<JoinedMember>,
    /// The leader shall lead but not assign (KIP-814).
    pub skip_assignment: bool,
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedMember {
    /// Its id.
    pub member: MemberId,
    /// Its instance id.
    pub instance: Option<String>,
    /// What it said with the assignor that was chosen.
    pub metadata: Opaque,
}

/// What a member has to do.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncedMember {
    /// `consumer`, `connect` ...
    pub protocol_type: String,
    /// The assignor chosen.
    pub protocol: String,
    /// Its assignment.
    pub assignment: Opaque,
}

/// Why a group refused an action. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The member left, was expired, or never was.
    #[error("{0} is not a member of the group")]
    UnknownMember(MemberId),
    /// Another member has taken the instance id (KIP-345).
    #[error("instance id {instance} belongs to {current} and no longer to {member}")]
    FencedInstance {
        /// The instance id.
        instance: String,
        /// Who came with it.
        member: MemberId,
        /// Who has it.
        current: MemberId,
    },
    /// The generation is over, or never was.
    #[error("the group is at generation {current}, not {found}")]
    IllegalGeneration {
        /// The generation of the action.
        found: Generation,
        /// The generation of the group.
        current: Generation,
    },
    /// The member must rejoin first.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The protocols, or their type, are not those of the group.
    #[error("the member supports none of the group's protocols")]
    InconsistentProtocol,
    /// The group is full.
    #[error("the group is full: it has {0} members")]
    MaxSizeReached(u32),
    /// What the group would have to remember passes a bound.
    #[error("{what} takes {size} bytes; the limit is {limit}")]
    TooLarge {
        /// What: `a member`, `an assignment`, `the metadata of an offset`.
        what: &'static str,
        /// How much it takes.
        size: usize,
        /// How much is kept.
        limit: usize,
    },
    /// The group has members.
    #[error("the group has members")]
    NonEmpty,
    /// There is no such group.
    #[error("there is no such group")]
    NotFound,
    /// A member subscribes to the topic (or says in no known way what it subscribes to).
    #[error("members of the group subscribe to topic '{0}'")]
    SubscribedToTopic(TopicName),
    /// The time has not come, or somebody did it already.
    #[error("nothing of that kind is due in the group")]
    NotDue,
    /// The member is vouched for by another node than the one that gave it up, or its time is not over.
    #[error("a live node vouches for {0}")]
    Vouched(MemberId),
}
