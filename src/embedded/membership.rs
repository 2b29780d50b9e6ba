//! Being a member of a consumer group: join, sync, heartbeats, leave (Kafka's classic protocol, eager).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::assignment::{
    Assignment, RANGE, Subscriber, assignment, range, read_assignment, read_subscription,
    subscription,
};
use super::{Client, ClientError};
use crate::broker::{GroupOpError, Identity, JoinRequest, Joined, LeavingMember, SyncRequest};
use crate::types::{Generation, GroupId, MemberId};

/// The group's protocol type, as Kafka's consumers'.
const CONSUMER: &str = "consumer";

/// How long members have to come back in a rebalance.
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a join is tried while the store or the node cannot answer.
const ATTEMPTS: u32 = 30;

/// What a member hears in answer to its heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulse {
    /// All is well.
    Fine,
    /// It must join again.
    Rejoin,
}

/// A member of a group.
pub(super) struct Membership {
    client: Client,
    group: GroupId,
    instance: Option<String>,
    session_timeout: Duration,
    member: Option<MemberId>,
    generation: Generation,
    leads: bool,
    /// How many partitions the topics had that this member, as the leader, handed out last.
    handed_out: BTreeMap<String, i32>,
    heartbeat: Option<Heartbeat>,
}

/// The task that says that the member lives; ends when this is dropped.
struct Heartbeat {
    pulse: watch::Receiver<Pulse>,
    _end: DropGuard,
}

/// What came of joining.
pub(super) struct Share {
    /// The member's partitions.
    pub(super) partitions: Assignment,
    /// Whether the member was in the generation right before this one: then nobody else had the partitions
    /// that it keeps.
    pub(super) continuous: bool,
}

impl Membership {
    pub(super) fn new(
        client: Client,
        group: GroupId,
        instance: Option<String>,
        session_timeout: Duration,
    ) -> Membership {
        Membership {
            client,
            group,
            instance,
            session_timeout,
            member: None,
            generation: Generation::NONE,
            leads: false,
            handed_out: BTreeMap::new(),
            heartbeat: None,
        }
    }

    /// The group.
    pub(super) fn group(&self) -> &GroupId {
        &self.group
    }

    /// Whether this member hands out the partitions.
    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    /// Whether the member must join (again) before it goes on.
    pub(super) fn must_join(&self) -> bool {
        self.heartbeat
            .as_ref()
            .is_none_or(|heartbeat| *heartbeat.pulse.borrow() == Pulse::Rejoin)
    }

    /// Waits until the member must join again.
    pub(super) async fn rebalancing(&self) {
        if let Some(heartbeat) = &self.heartbeat {
            let mut pulse = heartbeat.pulse.clone();
            // The task ends with this membership only.
            let _ = pulse.wait_for(|pulse| *pulse == Pulse::Rejoin).await;
        }
    }

    /// Makes the leader join again, and thereby hand out anew, if a topic of the group has another number
    /// of partitions than when it handed them out.
    pub(super) async fn rejoin_if_topics_grew(&mut self) -> Result<(), ClientError> {
        let topics: Vec<String> = self.handed_out.keys().cloned().collect();
        if self.partitions_of(&topics).await? != self.handed_out {
            self.heartbeat = None;
        }
        Ok(())
    }

    /// Makes the member join again before it goes on.
    pub(super) fn rejoin_later(&mut self) {
        self.heartbeat = None;
    }

    /// How many partitions each topic has; 0 if it does not exist.
    async fn partitions_of(&self, topics: &[String]) -> Result<BTreeMap<String, i32>, ClientError> {
        let views = self.client.existing_topics(topics).await?;
        let mut partitions: BTreeMap<String, i32> =
            topics.iter().map(|topic| (topic.clone(), 0)).collect();
        partitions.extend(
            views
                .into_iter()
                .map(|v| (v.name.to_string(), v.partitions)),
        );
        Ok(partitions)
    }

    /// As whom the member commits offsets.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            group: self.group.clone(),
            member: self.member.clone().unwrap_or_else(|| MemberId::from("")),
            instance: self.instance.clone(),
            generation: self.generation,
        }
    }

    fn error(&self, source: GroupOpError) -> ClientError {
        ClientError::Group {
            group: self.group.to_string(),
            source,
        }
    }

    /// Joins with a subscription to `topics`, and answers when the rebalance is over. May be dropped and
    /// called again.
    pub(super) async fn join(&mut self, topics: &[String]) -> Result<Share, ClientError> {
        self.heartbeat = None;
        let before = self.generation;
        let mut continuous = self.member.is_some();
        let mut failures = 0;
        loop {
            let refused = match self.join_once(topics).await {
                Ok(partitions) => {
                    let followed =
                        self.generation.0 == before.0.wrapping_add(1) || self.generation == before;
                    self.heartbeat = Some(self.start_heartbeat());
                    return Ok(Share {
                        partitions,
                        continuous: continuous && followed,
                    });
                }
                Err(Refused::Final(error)) => return Err(error),
                Err(Refused::Group(error)) => error,
            };
            match refused {
                GroupOpError::MemberIdRequired(id) => self.member = Some(id),
                GroupOpError::UnknownMember(_) => {
                    self.member = None;
                    continuous = false;
                }
                GroupOpError::RebalanceInProgress | GroupOpError::IllegalGeneration { .. } => {}
                GroupOpError::Unavailable(why) if !why.is_final() && failures < ATTEMPTS => {
                    failures += 1;
                    let pause = Duration::from_millis(100) * failures;
                    tokio::time::sleep(self.client.env().jittered(pause)).await;
                }
                other => return Err(self.error(other)),
            }
        }
    }

    async fn join_once(&mut self, topics: &[String]) -> Result<Assignment, Refused> {
        let broker = self.client.broker().clone();
        let session = self.client.session().clone();
        let request = JoinRequest {
            group: self.group.clone(),
            member: self.member.clone(),
            instance: self.instance.clone(),
            session_timeout: self.session_timeout,
            rebalance_timeout: REBALANCE_TIMEOUT,
            protocol_type: CONSUMER.to_owned(),
            protocols: vec![(RANGE.to_owned(), subscription(topics))],
            require_known_member: false,
            supports_skip_assignment: true,
        };
        let joined = broker.join_group(&session, request).await?;
        self.member = Some(joined.member.clone());
        self.leads = joined.leader == joined.member;
        let assignments = if self.leads && !joined.skip_assignment {
            self.assign(&joined).await.map_err(Refused::Final)?
        } else {
            Vec::new()
        };
        let request = SyncRequest {
            identity: Identity {
                generation: joined.generation,
                ..self.identity()
            },
            protocol_type: Some(joined.protocol_type),
            protocol: Some(joined.protocol),
            assignments,
        };
        let synced = broker.sync_group(&session, request).await?;
        self.generation = joined.generation;
        read_assignment(&synced.assignment).map_err(|error| Refused::Final(error.into()))
    }

    /// Hands out the partitions of everything that members subscribe to. Topics that do not exist have none.
    async fn assign(
        &mut self,
        joined: &Joined,
    ) -> Result<Vec<(MemberId, bytes::Bytes)>, ClientError> {
        let mut members = Vec::new();
        let mut topics = BTreeSet::new();
        for member in &joined.members {
            let subscribed = read_subscription(&member.metadata)?;
            topics.extend(subscribed.iter().cloned());
            members.push(Subscriber {
                member: member.member.as_str().to_owned(),
                instance: member.instance.clone(),
                topics: subscribed,
            });
        }
        let topics: Vec<String> = topics.into_iter().collect();
        self.handed_out = self.partitions_of(&topics).await?;
        let shares = range(&members, &self.handed_out);
        Ok(joined
            .members
            .iter()
            .zip(shares)
            .map(|(member, share)| (member.member.clone(), assignment(&share)))
            .collect())
    }

    fn start_heartbeat(&self) -> Heartbeat {
        let (says, pulse) = watch::channel(Pulse::Fine);
        let end = CancellationToken::new();
        let task = beat(
            self.client.clone(),
            self.identity(),
            (self.session_timeout / 3).min(Duration::from_secs(3)),
            says,
        );
        let ended = end.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = task => {}
            }
        });
        Heartbeat {
            pulse,
            _end: end.drop_guard(),
        }
    }

    /// Leaves the group, unless the member is static: its place is kept until its session is over.
    pub(super) async fn leave(&mut self) -> Result<(), ClientError> {
        self.heartbeat = None;
        let Some(member) = self.member.take() else {
            return Ok(());
        };
        if self.instance.is_some() {
            return Ok(());
        }
        let leaving = vec![LeavingMember {
            member: Some(member),
            instance: None,
        }];
        let (broker, session) = (self.client.broker(), self.client.session());
        let left = broker.leave_group(session, &self.group, leaving).await;
        // A member that the group has forgotten has left it.
        match left.and_then(|each| each.into_iter().collect::<Result<Vec<_>, _>>().map(|_| ())) {
            Ok(()) | Err(GroupOpError::UnknownMember(_) | GroupOpError::GroupIdNotFound) => Ok(()),
            Err(error) => Err(self.error(error)),
        }
    }
}

/// Why joining did not succeed.
enum Refused {
    /// The group said so; it may be different the next time.
    Group(GroupOpError),
    /// It will not change.
    Final(ClientError),
}

impl From<GroupOpError> for Refused {
    fn from(error: GroupOpError) -> Refused {
        Refused::Group(error)
    }
}

/// Sends heartbeats until the member must join again.
async fn beat(client: Client, identity: Identity, every: Duration, says: watch::Sender<Pulse>) {
    loop {
        tokio::time::sleep(every).await;
        match client.broker().heartbeat(client.session(), &identity).await {
            Ok(()) => {}
            Err(GroupOpError::Unavailable(error)) => {
                tracing::debug!(%error, group = %identity.group, "a heartbeat was not answered");
            }
            Err(error) => {
                tracing::debug!(%error, group = %identity.group, "joining again");
                let _ = says.send(Pulse::Rejoin);
                break;
            }
        }
    }
    // The receiver sees `Rejoin` for as long as it looks.
    says.closed().await;
}
