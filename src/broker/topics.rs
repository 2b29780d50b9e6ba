//! Topics: create, describe, grow, delete.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use super::access::{Action, Denied, Permit, Resource};
use super::asked::Asking;
use super::{
    Broker, Home, Inner, InvalidRequest, Session, TopicError, TopicNotFound, Unavailable,
    offsets_topic,
};
use crate::dynamic_config::{ClusterConfig, initial};
use crate::state::op::{CreateTopic, Op, Outcome, Rejected};
use crate::state::{Feature, MAX_PARTITIONS, State, Topic};
use crate::types::{InvalidName, PartitionIndex, TopicId, TopicName};

/// How many topics one request may create (as Kafka has it): they are folded by every node in one go.
pub const MAX_CREATED: usize = 10_000;

/// The most replicas that a topic is said to have: each is named in every answer about the topic.
pub const MAX_REPLICAS: i16 = 32;

/// The one name, besides the internal ones, under which Kafka creates no topic.
pub(super) const CLUSTER_METADATA: &str = "__cluster_metadata";

/// How a client names a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    /// By name; not validated yet.
    Name(String),
    /// By id (KIP-516).
    Id(TopicId),
}

/// A topic as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has: their indexes are `0..partitions`.
    pub partitions: i32,
    /// How many replicas its creator asked for. The store keeps what is in it as often as it does.
    pub replicas: i16,
    /// Whether it is one of Kafka's own ([`TopicName::is_internal`]).
    pub internal: bool,
}

/// How much an answer about topics will be made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct KnownSize {
    pub topics: u64,
    pub partitions: u64,
    pub replicas: u64,
}

/// A topic to create.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name; not validated yet.
    pub name: String,
    /// How many partitions; `None` is the cluster's `num.partitions`.
    pub partitions: Option<i32>,
    /// Kafka's replication factor, which is kept and shown; the store replicates. `None` is the cluster's
    /// `default.replication.factor`.
    pub replication_factor: Option<i16>,
    /// Kafka's manual replica assignment: partition -> node ids. Only its shape is checked (the partitions
    /// must be `0..n`); it then gives the number of partitions.
    pub assignment: Option<BTreeMap<i32, Vec<i32>>>,
    /// Settings by name. `None` values are refused, as Kafka does.
    pub configs: BTreeMap<String, Option<String>>,
}

/// A topic to be given more partitions.
#[derive(Clone, Debug)]
pub struct MorePartitions {
    /// Its name.
    pub topic: String,
    /// How many it has afterwards.
    pub total: i32,
    /// Kafka's manual assignment of the new ones to nodes, of which only the length is checked.
    pub assignment: Option<Vec<Vec<i32>>>,
}

impl Broker {
    /// All topics that the client may know of, by name; up to date.
    pub async fn list_topics(&self, session: &Session) -> Result<Vec<TopicView>, Unavailable> {
        let state = self.fresh(Home::Cluster).await?;
        let may_know = |name: &TopicName| {
            let topic = Resource::topic(name.as_str());
            self.authorize(session, Action::Describe, topic).ok()
        };
        let known = state.topics().filter_map(|topic| {
            let permit = may_know(topic.name())?;
            Some(TopicView::of(permit, topic))
        });
        let mut topics: Vec<TopicView> = known.collect();
        // As in Kafka it is among the topics once there has been a group.
        if state.has_group_changes()
            && let Some(view) = offsets_topic::view(&state)
            && may_know(&view.name).is_some()
        {
            let at = topics.partition_point(|topic| topic.name < view.name);
            topics.insert(at, view);
        }
        Ok(topics)
    }

    /// The topics asked for, in order; up to date. With `create`, those that do not exist are created
    /// with the cluster's defaults if the setting `auto.create.topics.enable` allows it; of one that cannot be
    /// created it is said why.
    pub async fn describe_topics(
        &self,
        session: &Session,
        topics: &[TopicRef],
        create: bool,
    ) -> Result<Vec<Result<TopicView, TopicError>>, Unavailable> {
        let mut state = self.fresh(Home::Cluster).await?;
        let may_know = |topic: &TopicRef, state: &State| {
            self.authorize_topic::<TopicError>(session, Action::Describe, topic, state)
        };
        let settings = ClusterConfig::effective(&self.configs_in_force(&state));
        // Why a topic of that name could not be created.
        let mut refused = BTreeMap::new();
        if create && settings.auto_create_topics {
            let mut names = BTreeSet::new();
            for topic in topics {
                if let TopicRef::Name(name) = topic
                    && state.topic_by_name(name).is_none()
                    && offsets_topic::named(topic, &state).is_none()
                    && may_know(topic, &state).is_ok()
                {
                    names.insert(name);
                }
            }
            let missing: Vec<NewTopic> = names.iter().map(|name| NewTopic::named(name)).collect();
            if !missing.is_empty() {
                let created = self.create_topics(session, missing, false).await?;
                state = self.inner.logs.of(Home::Cluster).state();
                for (name, outcome) in names.into_iter().zip(created) {
                    // Else another client was faster, the topic is gone again, or there is no space for it: clients ask
                    // again.
                    if let Err(
                        error @ (TopicError::InvalidName(_)
                        | TopicError::Collides { .. }
                        | TopicError::Denied(_)),
                    ) = outcome
                    {
                        refused.insert(name, error);
                    }
                }
            }
        }
        let describe = |topic: &TopicRef| {
            let permit = may_know(topic, &state)?;
            topic.view(permit, &state).ok_or_else(|| {
                match topic {
                    TopicRef::Name(name) => refused.get(name).cloned(),
                    TopicRef::Id(_) => None,
                }
                .unwrap_or_else(|| topic.unknown())
            })
        };
        Ok(topics.iter().map(describe).collect())
    }

    /// The topics asked for, in order, for a client that is to do something else with each of them, and must be allowed
    /// to; up to date.
    pub async fn find_topics(
        &self,
        session: &Session,
        action: Action,
        topics: &[TopicRef],
    ) -> Result<Vec<Result<TopicView, TopicError>>, Unavailable> {
        let state = self.fresh(Home::Cluster).await?;
        let find = |topic: &TopicRef| {
            let permit = self.authorize_topic::<TopicError>(session, action, topic, &state)?;
            let view = topic.view(permit, &state);
            view.ok_or_else(|| topic.unknown())
        };
        Ok(topics.iter().map(find).collect())
    }

    /// Whether records can be produced to a topic of this name: there is one, or the first record would create it.
    pub async fn check_destination(&self, session: &Session, name: &str) -> Result<(), TopicError> {
        let _: Permit = self.authorize(session, Action::Write, Resource::topic(name))?;
        let state = self.fresh(Home::Cluster).await?;
        if TopicName::is_internal_name(name) {
            return Err(internal(name).into());
        }
        if state.topic_by_name(name).is_some() {
            return Ok(());
        }
        let new = NewTopic::named(name);
        let permit = self.may_create(session, &new)?;
        self.check_new(permit, &state, &new)?;
        let settings = ClusterConfig::effective(&self.configs_in_force(&state));
        if settings.auto_create_topics {
            Ok(())
        } else {
            Err(TopicNotFound(TopicRef::Name(new.name)).into())
        }
    }

    /// How many topics, partitions and replicas these are, or all, as far as this node has followed: what an answer
    /// about them will be made of.
    pub fn known_size(&self, topics: Option<&[TopicRef]>) -> KnownSize {
        let state = self.inner.logs.of(Home::Cluster).state();
        let mut size = KnownSize::default();
        let mut count = |topic: &Topic| {
            let partitions = u64::from(topic.partition_count().unsigned_abs());
            size.partitions += partitions;
            size.replicas += partitions * u64::from(topic.replicas().unsigned_abs());
        };
        match topics {
            None => state.topics().for_each(&mut count),
            Some(topics) => {
                let found = topics.iter().filter_map(|topic| topic.find(&state));
                found.for_each(&mut count);
            }
        }
        size.topics = topics.map_or(state.topic_count(), <[TopicRef]>::len) as u64;
        size
    }

    /// Creates topics; each has its own outcome. With `validate_only` nothing is changed.
    pub async fn create_topics(
        &self,
        session: &Session,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Vec<Result<TopicView, TopicError>>, Unavailable> {
        if topics.len() > MAX_CREATED {
            let asked = topics.len();
            let refused = TopicError::TooManyTopics { asked };
            return Ok(topics.iter().map(|_| Err(refused.clone())).collect());
        }
        let mut asking = self.asks(session, Home::Cluster).await?;
        let checked = loop {
            let mut reservation = self.reservation();
            let mut checked: Vec<_> = topics
                .iter()
                .map(|new| {
                    let permit = self.may_create(session, new)?;
                    let checked = self.check_new(permit, asking.state(), new)?;
                    reservation.take(checked.partitions.unsigned_abs().into())?;
                    Ok(checked)
                })
                .collect();
            refuse_repeated(topics.iter().map(|new| new.name.as_str()), &mut checked);
            refuse_collisions(&mut checked);
            if validate_only {
                break checked;
            }
            let new = checked.iter().flatten().cloned();
            let Some(outcomes) =
                commit_some(&mut asking, new.map(Op::CreateTopic).collect()).await?
            else {
                continue;
            };
            let mut outcomes = outcomes.into_iter();
            for result in &mut checked {
                if let Ok(new) = result
                    && let Some(Err(rejected)) = outcomes.next()
                {
                    *result = Err(rejected_create(&new.name, rejected));
                }
            }
            break checked;
        };
        let view = |new: CreateTopic| TopicView {
            id: new.id,
            internal: new.name.is_internal(),
            name: new.name,
            partitions: new.partitions,
            replicas: new.replicas.unwrap_or(1),
        };
        Ok(checked.into_iter().map(|result| result.map(view)).collect())
    }

    /// Whether the client may create the topic: because it may create any, or this one.
    fn may_create(&self, session: &Session, new: &NewTopic) -> Result<Permit, Denied> {
        self.authorize(session, Action::Create, Resource::Cluster)
            .or_else(|_| self.authorize(session, Action::Create, Resource::topic(&new.name)))
    }

    /// The op that creates the topic, if all of it is in order.
    fn check_new(
        &self,
        _: Permit,
        state: &State,
        new: &NewTopic,
    ) -> Result<CreateTopic, TopicError> {
        let name = TopicName::new(&new.name)?;
        let shown = offsets_topic::view(state);
        if state.topic_by_name(&new.name).is_some() || shown.is_some_and(|view| view.name == name) {
            return Err(TopicError::Exists(new.name.clone()));
        }
        if name.is_internal() {
            return Err(internal(&new.name).into());
        }
        if name.as_str() == CLUSTER_METADATA {
            return Err(InvalidRequest::ClusterMetadata.into());
        }
        if let Some(existing) = state.collision(&name) {
            return Err(TopicError::Collides {
                name: new.name.clone(),
                existing: existing.clone(),
            });
        }
        let defaults = ClusterConfig::effective(&self.configs_in_force(state));
        let partitions = match &new.assignment {
            Some(assignment) => {
                if new.partitions.is_some() || new.replication_factor.is_some() {
                    return Err(InvalidRequest::NumbersAndAssignment.into());
                }
                check_assignment(assignment)?
            }
            None => new.partitions.unwrap_or(defaults.num_partitions),
        };
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(TopicError::InvalidPartitions { asked: partitions });
        }
        let of_assignment = new.assignment.as_ref().and_then(|assignment| {
            let replicas = assignment.values().next()?.len();
            Some(i16::try_from(replicas).unwrap_or(i16::MAX))
        });
        let factor = of_assignment.or(new.replication_factor);
        let factor = factor.unwrap_or(defaults.default_replication_factor);
        if !(1..=MAX_REPLICAS).contains(&factor) {
            return Err(TopicError::InvalidReplicationFactor { asked: factor });
        }
        // Until then a topic is said to have one.
        let can_be_kept = state.has(Feature::ReplicationFactor);
        let configs = initial(&new.configs, state.configs())?;
        Ok(CreateTopic {
            id: TopicId(self.inner.env.random_uuid()),
            name,
            partitions,
            configs,
            replicas: (factor > 1 && can_be_kept).then_some(factor),
        })
    }

    /// Deletes topics with all their records and committed offsets.
    pub async fn delete_topics(
        &self,
        session: &Session,
        topics: &[TopicRef],
    ) -> Result<Vec<Result<TopicView, TopicError>>, Unavailable> {
        let mut asking = self.asks(session, Home::Cluster).await?;
        loop {
            let state = asking.state();
            let of_cluster = self.authorize(session, Action::Delete, Resource::Cluster);
            let find = |topic: &TopicRef| {
                let may = |action| self.authorize_topic(session, action, topic, state);
                // Who may delete a topic may know of it, unless a rule denies just that: then it is told nothing.
                let known: Result<Permit, TopicError> = match (&of_cluster, topic) {
                    (Ok(permit), _) => Ok(*permit),
                    (Err(_), TopicRef::Name(_)) => may(Action::Describe),
                    (Err(_), TopicRef::Id(_)) => may(Action::Delete),
                };
                let known = known?;
                let found = topic.find(state).map(|found| TopicView::of(known, found));
                let found = found.ok_or_else(|| topic.not_stored(state))?;
                let _: Permit = match &of_cluster {
                    Ok(permit) => *permit,
                    Err(_) => may(Action::Delete)?,
                };
                Ok(found)
            };
            let mut found: Vec<_> = topics.iter().map(find).collect();
            let known = found.iter().flatten();
            let ops = known.map(|topic| Op::DeleteTopic { topic: topic.id });
            let Some(outcomes) = commit_some(&mut asking, ops.collect()).await? else {
                continue;
            };
            let mut outcomes = outcomes.into_iter();
            for (topic, result) in topics.iter().zip(&mut found) {
                if result.is_ok()
                    && let Some(Err(_)) = outcomes.next()
                {
                    *result = Err(topic.absent());
                }
            }
            return Ok(found);
        }
    }

    /// Raises the numbers of partitions; each topic has its own outcome.
    pub async fn create_partitions(
        &self,
        session: &Session,
        topics: Vec<MorePartitions>,
        validate_only: bool,
    ) -> Result<Vec<Result<(), TopicError>>, Unavailable> {
        let mut asking = self.asks(session, Home::Cluster).await?;
        let checked = loop {
            let mut reservation = self.reservation();
            let mut checked: Vec<_> = topics
                .iter()
                .map(|more| {
                    let topic = Resource::topic(&more.topic);
                    let permit = self.authorize(session, Action::Alter, topic)?;
                    let (op, added) = check_growth(permit, asking.state(), more)?;
                    reservation.take(added)?;
                    Ok(op)
                })
                .collect();
            refuse_repeated(topics.iter().map(|more| more.topic.as_str()), &mut checked);
            if validate_only {
                break checked;
            }
            let ops = checked.iter().flatten().cloned().collect();
            let Some(outcomes) = commit_some(&mut asking, ops).await? else {
                continue;
            };
            let mut outcomes = outcomes.into_iter();
            for (more, result) in topics.iter().zip(&mut checked) {
                if result.is_ok()
                    && let Some(Err(rejected)) = outcomes.next()
                {
                    *result = Err(match rejected {
                        Rejected::UnknownTopic(_) => TopicRef::Name(more.topic.clone()).absent(),
                        Rejected::PartitionsNotMore { current, .. } => more.not_more_than(current),
                        _ => TopicError::InvalidPartitions { asked: more.total },
                    });
                }
            }
            break checked;
        };
        Ok(checked
            .into_iter()
            .map(|result| result.map(|_| ()))
            .collect())
    }

    fn reservation(&self) -> Reservation<'_> {
        Reservation {
            broker: &self.inner,
            taken: 0,
        }
    }
}

/// Commits ops, if there are any, and returns their outcomes; `None` if they are to be judged again.
async fn commit_some(
    asking: &mut Asking<'_>,
    ops: Vec<Op>,
) -> Result<Option<Vec<Outcome>>, Unavailable> {
    if ops.is_empty() {
        return Ok(Some(Vec::new()));
    }
    Ok(asking
        .commit(ops)
        .await?
        .map(|committed| committed.outcomes))
}

/// A topic that a request names twice is refused both times, as Kafka does.
fn refuse_repeated<'a, T>(
    names: impl Iterator<Item = &'a str> + Clone,
    results: &mut [Result<T, TopicError>],
) {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names.clone() {
        *count.entry(name).or_default() += 1;
    }
    for (name, result) in names.zip(results) {
        if count.get(name).is_some_and(|times| *times > 1) {
            *result = Err(InvalidRequest::NamedTwice(name.to_owned()).into());
        }
    }
}

fn check_assignment(assignment: &BTreeMap<i32, Vec<i32>>) -> Result<i32, TopicError> {
    let in_order = (0..)
        .zip(assignment.keys())
        .all(|(index, partition)| index == *partition);
    let replicas = assignment.values().next().map_or(0, Vec::len);
    let alike = assignment
        .values()
        .all(|nodes| !nodes.is_empty() && nodes.len() == replicas);
    if !in_order || !alike {
        return Err(TopicError::InvalidReplicaAssignment);
    }
    Ok(i32::try_from(assignment.len()).unwrap_or(i32::MAX))
}

/// The op, and how many partitions it adds.
fn check_growth(_: Permit, state: &State, more: &MorePartitions) -> Result<(Op, u64), TopicError> {
    let MorePartitions {
        topic: name,
        total,
        assignment,
    } = more;
    let total = *total;
    let topic = state
        .topic_by_name(name)
        .ok_or_else(|| TopicRef::Name(name.to_owned()).not_stored(state))?;
    let current = topic.partition_count();
    if total <= current || total > MAX_PARTITIONS {
        return Err(more.not_more_than(current));
    }
    let added = u64::from(total.abs_diff(current));
    if assignment
        .as_ref()
        .is_some_and(|assignment| assignment.len() as u64 != added)
    {
        return Err(TopicError::IncompleteAssignment { added });
    }
    let op = Op::CreatePartitions {
        topic: topic.id(),
        total,
    };
    Ok((op, added))
}

/// The partitions that a request has taken of those that may still be created: other requests of this node count
/// these until the request is done. What other nodes create in that moment comes on top.
struct Reservation<'a> {
    broker: &'a Inner,
    taken: u64,
}

impl Reservation<'_> {
    fn take(&mut self, partitions: u64) -> Result<(), TopicError> {
        let most = self.broker.settings.max_partitions;
        let mut promised = self.promised();
        // Read behind the lock: a request gives its promise back after its topics are in the state, so each of them
        // is counted by one or the other, whatever other threads do meanwhile.
        let exist = self.broker.logs.of(Home::Cluster).state().partition_count();
        if exist.saturating_add(*promised).saturating_add(partitions) > most {
            return Err(TopicError::TooManyPartitions {
                exist,
                limit: most,
                asked: partitions,
            });
        }
        *promised += partitions;
        drop(promised);
        self.taken += partitions;
        Ok(())
    }

    fn promised(&self) -> MutexGuard<'_, u64> {
        // A panic elsewhere leaves a number, which is whole.
        let lock = self.broker.promised.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        *self.promised() -= self.taken;
    }
}

/// Of the topics of one request whose names collide, the first can be created.
fn refuse_collisions(results: &mut [Result<CreateTopic, TopicError>]) {
    let mut names: BTreeMap<TopicName, TopicName> = BTreeMap::new();
    for result in results {
        let Ok(new) = result else { continue };
        let name = new.name.clone();
        match names.entry(name.without_dots()) {
            Entry::Vacant(free) => {
                free.insert(name);
            }
            Entry::Occupied(taken) => {
                *result = Err(TopicError::Collides {
                    name: name.to_string(),
                    existing: taken.get().clone(),
                });
            }
        }
    }
}

/// Why the fold did not create a topic that was in order a moment before: another node was faster.
fn rejected_create(name: &TopicName, rejected: Rejected) -> TopicError {
    match rejected {
        Rejected::TopicCollides { existing, .. } => TopicError::Collides {
            name: name.to_string(),
            existing,
        },
        _ => TopicError::Exists(name.to_string()),
    }
}

fn internal(name: &str) -> InvalidName {
    InvalidName {
        what: "topic",
        name: name.to_owned(),
        reason: "it is the name of an internal topic, which clients cannot create or write",
    }
}

impl MorePartitions {
    fn not_more_than(&self, current: i32) -> TopicError {
        TopicError::NotMorePartitions {
            topic: self.topic.clone(),
            current,
            asked: self.total,
        }
    }
}

impl NewTopic {
    /// A topic of this name, with the cluster's defaults for all else.
    pub fn named(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            ..NewTopic::default()
        }
    }
}

impl TopicRef {
    /// The topic in `state`, for who may do something with it.
    fn view(&self, permit: Permit, state: &State) -> Option<TopicView> {
        match self.find(state) {
            Some(found) => Some(TopicView::of(permit, found)),
            None => offsets_topic::named(self, state),
        }
    }

    /// Why what is not among the stored topics cannot be changed.
    pub(super) fn unchangeable(&self, state: &State) -> TopicError {
        match offsets_topic::named(self, state) {
            Some(_) => offsets_topic::unchangeable(),
            None => self.unknown(),
        }
    }

    /// The same, where Kafka does not say whether there can be such a topic.
    fn not_stored(&self, state: &State) -> TopicError {
        match offsets_topic::named(self, state) {
            Some(_) => offsets_topic::unchangeable(),
            None => self.absent(),
        }
    }

    /// There is no such topic, or there can be none.
    pub(super) fn unknown(&self) -> TopicError {
        match self {
            TopicRef::Name(name) => match TopicName::new(name) {
                Ok(_) => self.absent(),
                Err(invalid) => invalid.into(),
            },
            TopicRef::Id(_) => self.absent(),
        }
    }

    /// There is no such topic. Where one is only looked up, Kafka does not say whether there can be.
    fn absent(&self) -> TopicError {
        TopicNotFound(self.clone()).into()
    }
}

impl TopicView {
    fn of(_: Permit, topic: &Topic) -> TopicView {
        TopicView {
            id: topic.id(),
            name: topic.name().clone(),
            partitions: topic.partition_count(),
            replicas: topic.replicas(),
            internal: topic.name().is_internal(),
        }
    }

    /// The indexes of its partitions: `0..partitions`.
    pub fn indexes(&self) -> impl Iterator<Item = PartitionIndex> + use<> {
        (0..self.partitions).map(PartitionIndex)
    }
}
