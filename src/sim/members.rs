//! Members of a consumer group. They read nothing: what they own and what they commit is what matters.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, Connection};
use super::lanes::{MAIN, PARTITIONS};
use super::world::{Finding, World};
use crate::broker::{
    Broker, CommitOffset, GroupOpError, Identity, JoinRequest, Joined, LeavingMember, Session,
    SyncRequest, TopicRef, Unavailable,
};
use crate::invariants::history::{Access, OffsetCommit, Outcome, Ownership};
use crate::types::{
    Generation, GroupId, MemberId, Offset, PartitionIndex, TopicId, TopicPartition,
};

pub(super) const GROUP: &str = "group";
const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(15);

/// Longer than a rebalance takes, as clients wait.
const TIMEOUT: Duration = Duration::from_secs(25);

fn group() -> GroupId {
    GroupId::new(GROUP).unwrap()
}

struct Member {
    world: World,
    name: String,
    connection: Connection,
    topic: TopicId,
    id: Option<MemberId>,
    generation: Generation,
    owned: Vec<u8>,
    /// As whom it committed before it joined again.
    before: Option<(Option<MemberId>, Generation, Vec<u8>)>,
}

/// What became of a call.
type Done<T> = Result<T, GroupOpError>;

impl Member {
    fn new(cluster: &Cluster, name: &str, topic: TopicId) -> Member {
        Member {
            world: cluster.world.clone(),
            name: name.to_owned(),
            connection: Connection::new(cluster, name),
            topic,
            id: None,
            generation: Generation::NONE,
            owned: Vec::new(),
            before: None,
        }
    }

    async fn call<T, F>(&mut self, work: impl FnOnce(Broker, Session) -> F) -> Done<T>
    where
        T: Send + 'static,
        F: Future<Output = Done<T>> + Send + 'static,
    {
        let session = Session::internal(&self.name);
        let work = |broker| work(broker, session);
        match self.connection.call(TIMEOUT, work).await {
            Ok(done) => done,
            Err(_) => Err(GroupOpError::Unavailable(Unavailable::TimedOut)),
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            group: group(),
            member: self.id.clone().unwrap_or(MemberId::from("")),
            instance: None,
            generation: self.generation,
        }
    }

    async fn join(&mut self) -> Done<Joined> {
        loop {
            let request = JoinRequest {
                group: group(),
                member: self.id.clone(),
                instance: None,
                session_timeout: SESSION,
                rebalance_timeout: REBALANCE,
                protocol_type: "consumer".into(),
                protocols: vec![("range".into(), Bytes::from_static(b"m"))],
                require_known_member: true,
                supports_skip_assignment: true,
            };
            let joined = self
                .call(|broker, session| async move { broker.join_group(&session, request).await })
                .await;
            match joined {
                Err(GroupOpError::MemberIdRequired(id)) => self.id = Some(id),
                Ok(joined) => {
                    self.id = Some(joined.member.clone());
                    self.generation = joined.generation;
                    self.note("joined");
                    self.owns(Vec::new());
                    return Ok(joined);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn sync(&mut self, joined: Joined) -> Done<()> {
        let mut assignments = Vec::new();
        if joined.leader == joined.member && !joined.skip_assignment {
            let members = joined.members.iter().map(|m| m.member.clone());
            let mut hands: Vec<(MemberId, Vec<u8>)> = members.map(|m| (m, Vec::new())).collect();
            let count = hands.len();
            for partition in 0..PARTITIONS as u8 {
                hands[usize::from(partition) % count].1.push(partition);
            }
            let hands = hands.into_iter();
            assignments = hands.map(|(m, hand)| (m, Bytes::from(hand))).collect();
        }
        let request = SyncRequest {
            identity: self.identity(),
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments,
        };
        let synced = self
            .call(|broker, session| async move { broker.sync_group(&session, request).await })
            .await?;
        self.owned = synced.assignment.to_vec();
        self.note("synced");
        self.owns(self.owned.iter().map(|p| u32::from(*p)).collect());
        Ok(())
    }

    fn note(&self, what: &str) {
        let (id, generation) = (self.id.as_ref(), self.generation);
        self.world.note(format_args!(
            "{} {what} as {id:?} in generation {generation}: {:?}",
            self.name, self.owned
        ));
    }

    fn owns(&self, partitions: Vec<u32>) {
        let told = self.world.moment();
        self.world.history().group.owned.push(Ownership {
            member: self.id.clone().unwrap_or(MemberId::from("")),
            generation: self.generation,
            partitions,
            told,
        });
    }

    async fn heartbeat(&mut self) -> Done<()> {
        let identity = self.identity();
        self.call(|broker, session| async move { broker.heartbeat(&session, &identity).await })
            .await
    }

    async fn leave(&mut self) {
        let leaving = LeavingMember {
            member: self.id.take(),
            instance: None,
        };
        self.note("leaves");
        // What becomes of it is the group's affair now.
        let _ = self
            .call(|broker, session| async move {
                broker.leave_group(&session, &group(), vec![leaving]).await
            })
            .await;
    }

    /// Commits an offset of one of its partitions.
    async fn commit(&mut self) -> Done<()> {
        if self.owned.is_empty() {
            return Ok(());
        }
        let partition = u32::from(self.connection.dice.one_of(&self.owned));
        let value = self.world.values(1)[0];
        let begun = self.world.moment();
        let index = {
            let mut history = self.world.history();
            history.group.commits.push(OffsetCommit {
                member: self.id.clone().unwrap_or(MemberId::from("")),
                generation: self.generation,
                partition,
                value,
                begun,
                outcome: Outcome::Unknown,
            });
            history.group.commits.len() - 1
        };
        let offset = CommitOffset {
            partition: self.partition(partition),
            offset: Offset(1),
            leader_epoch: None,
            metadata: Some(value.to_string()),
        };
        let identity = self.identity();
        let done = self
            .call(|broker, session| async move {
                let done = broker.commit_offsets(&session, &identity, vec![offset]);
                done.await?.remove(0)
            })
            .await;
        let ended = self.world.moment();
        let outcome = match &done {
            Ok(()) => Outcome::Told((), ended),
            Err(GroupOpError::Unavailable(_)) => Outcome::Unknown,
            Err(_) => Outcome::Refused(ended),
        };
        self.note(&format!("commits {value} of {partition}, {outcome:?},"));
        self.world.history().group.commits[index].outcome = outcome;
        done
    }

    /// At times a request of the generation before is only now on its way.
    async fn haunt(&mut self) {
        let Some(before) = self.before.take() else {
            return;
        };
        if self.connection.dice.chance(0.3) {
            let now = (self.id.clone(), self.generation, self.owned.clone());
            (self.id, self.generation, self.owned) = before;
            // It is refused; if not, the history tells.
            let _ = self.commit().await;
            (self.id, self.generation, self.owned) = now;
        }
    }

    fn partition(&self, index: u32) -> TopicPartition {
        TopicPartition {
            topic: self.topic,
            partition: PartitionIndex(index as i32),
        }
    }

    /// Looks which offset is committed.
    async fn look(&mut self) -> Done<()> {
        let partition = self.connection.dice.number(0, PARTITIONS as u64) as u32;
        let wanted = self.partition(partition);
        let begun = self.world.moment();
        let found = self
            .call(|broker, session| async move {
                let (group, partitions) = (group(), [wanted]);
                let found = broker.committed_offsets(&session, &group, Some(&partitions));
                Ok(found.await?.remove(&wanted))
            })
            .await?;
        let ended = self.world.moment();
        let value = match found.map(|found| found.metadata.unwrap_or_default().parse()) {
            None => None,
            Some(Ok(value)) => Some(value),
            Some(Err(_)) => {
                let what = "an offset was committed with other metadata than anybody sent";
                self.world.found(Finding::Wrong(what.to_owned()));
                return Ok(());
            }
        };
        self.note(&format!("finds {value:?} committed of {partition}"));
        let name = self.name.clone();
        self.world.history().group.found.push((
            partition,
            Access {
                name,
                value,
                begun,
                ended,
            },
        ));
        Ok(())
    }

    /// Lives in the group until `until` or until it is told to join again.
    async fn live(&mut self, until: Instant) -> Done<()> {
        let joined = self.join().await?;
        self.sync(joined).await?;
        self.haunt().await;
        self.before = Some((self.id.clone(), self.generation, self.owned.clone()));
        while Instant::now() < until {
            // At times it is busy for longer than its session.
            let busy = self.connection.dice.chance(0.03);
            let rest = match busy {
                true => self.connection.dice.time(5_000, 20_000),
                false => self.connection.dice.time(50, 2_500),
            };
            sleep(rest).await;
            match self.connection.dice.number(0, 10) {
                0..4 => self.heartbeat().await?,
                4..8 => self.commit().await?,
                8 => self.look().await?,
                _ if self.connection.dice.chance(0.1) => {
                    self.leave().await;
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Founds the group with an offset that somebody commits who is no member. A group of which nothing is left is
/// forgotten, and its generations would begin anew.
pub(super) async fn found(cluster: &Cluster, topic: TopicId) {
    let mut founder = Member::new(cluster, "founder", topic);
    founder.owned = vec![0];
    if let Err(error) = founder.commit().await {
        let what = format!("an offset cannot be committed though all is well: {error}");
        cluster.world.found(Finding::Wrong(what));
    }
}

pub(super) async fn member(cluster: Cluster, name: String, topic: TopicId, until: Instant) {
    let mut member = Member::new(&cluster, &name, topic);
    while Instant::now() < until {
        match member.live(until).await {
            Ok(()) => {}
            Err(GroupOpError::UnknownMember(_)) => member.id = None,
            Err(
                error @ (GroupOpError::RebalanceInProgress
                | GroupOpError::IllegalGeneration { .. }
                | GroupOpError::Unavailable(_)),
            ) => {
                member.note(&error.to_string());
                if connection_is_in_doubt(&error) {
                    member.connection.leave();
                }
                sleep(member.connection.dice.time(20, 500)).await;
            }
            Err(error) => {
                let what = format!("{}: {error}", member.name);
                member.world.found(Finding::Wrong(what));
                return;
            }
        }
    }
}

fn connection_is_in_doubt(error: &GroupOpError) -> bool {
    matches!(error, GroupOpError::Unavailable(_))
}

/// The id of the main topic.
pub(super) async fn main_topic(broker: Broker) -> Option<TopicId> {
    let topic = [TopicRef::Name(MAIN.to_owned())];
    let session = Session::internal("admin");
    let found = broker.describe_topics(&session, &topic, false).await;
    Some(found.ok()?.pop()?.ok()?.id)
}
