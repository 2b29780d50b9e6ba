//! The fold: what each op does to the state.

use std::collections::BTreeMap;
use std::time::Duration;

use super::group::REFRESHED_PER_COMMIT;
use super::group::{Changes, OFFSETS_TOPIC_ID, name_of};
use super::group::{GroupAction, GroupReply, Which};
use super::objects::Now;
use super::op::{
    self, Append, AppendRejected, AppendSource, Applied, Commit, CreateTopic, Op, Outcome,
    RegisterNode, Rejected, ReplaceSlices,
};
use super::{
    Claim, Feature, Folded, Level, MAX_PARTITIONS, Node, ObjectRef, Shared, Snapshot, State, Topic,
    may_collide,
};
use crate::mutants::{self, Mutant};
use crate::types::{
    ByteCount, CommitId, GroupId, Incarnation, NodeId, Offset, ProducerId, Seq, Timestamp, TopicId,
    TopicPartition,
};

/// How many authors of commits are remembered. A commit that follows one of a forgotten author is void, so there are more
/// than ever write by turns.
const MAX_AUTHORS: usize = 16 << 10;

/// How many were at the first level.
const FIRST_MAX_AUTHORS: usize = 1024;

/// How many snapshots are kept: one to start from, and others for a node that is just reading one when
/// the next is taken.
const KEPT_SNAPSHOTS: usize = 4;

fn edit(configs: &mut BTreeMap<String, String>, edits: &BTreeMap<String, Option<String>>) {
    for (name, value) in edits {
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => configs.remove(name),
        };
    }
}

/// One of the commits in an object, as the fold takes it.
struct Part<'a> {
    id: CommitId,
    time: Timestamp,
    wall: Option<Timestamp>,
    ops: &'a [Op],
    follows: Option<u64>,
    /// Where in the object the bytes of its inline appends begin.
    data_start: u64,
    /// Time before it.
    found: Timestamp,
}

impl State {
    /// Folds `commit`, which stands at `seq`, and those that it carries; the object's data begin at `data_start`. Returns what
    /// became of itself.
    ///
    /// # Panics
    ///
    /// If `seq` is not the one after the last: folding out of order would be silent divergence, and only a
    /// bug of the caller can ask for it.
    pub fn apply(&mut self, seq: Seq, commit: &Commit, data_start: u64) -> Folded {
        self.apply_each(seq, commit, data_start, |_, _| {})
    }

    /// The same, telling `of_carried` what became of each commit that this one carries.
    ///
    /// # Panics
    ///
    /// As [`State::apply`].
    pub fn apply_each(
        &mut self,
        seq: Seq,
        commit: &Commit,
        data_start: u64,
        mut of_carried: impl FnMut(CommitId, Folded),
    ) -> Folded {
        assert_eq!(seq, self.seq.next(), "the manifest is folded in order");
        self.seq = seq;
        self.objects.at(self.now());
        let folded = self.apply_one(Part {
            id: commit.id,
            time: commit.time,
            wall: commit.wall,
            ops: &commit.ops,
            follows: commit.follows,
            data_start,
            found: self.time,
        });
        for carried in &commit.carried {
            let folded = self.apply_one(Part {
                id: carried.id,
                time: carried.time,
                wall: carried.wall,
                ops: &carried.ops,
                follows: Some(carried.follows),
                // What begins nowhere in the object is found out by whoever reads it.
                data_start: data_start.saturating_add(carried.start),
                found: self.time,
            });
            of_carried(carried.id, folded);
        }
        self.refresh_some(REFRESHED_PER_COMMIT);
        folded
    }

    /// Folds one of the commits in the object at the present seq.
    fn apply_one(&mut self, part: Part<'_>) -> Folded {
        if self.is_known(part.id) {
            return Folded::Duplicate;
        }
        if !self.is_in_order(&part) {
            return Folded::Void;
        }
        self.note_author(part.id);
        let author = part.id.incarnation;
        self.time = self.time_after(part.time, part.wall, author);
        self.objects.at(self.now());
        self.hear_from(author);
        self.begin_changes();
        let outcomes = self.apply_ops(&part);
        self.note_wall(author, part.wall);
        Folded::Outcomes(outcomes)
    }

    fn apply_ops(&mut self, part: &Part<'_>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(part.ops.len());
        let mut left = part.ops;
        while let [op, behind @ ..] = left {
            left = behind;
            let outcome = match op {
                Op::Asked(asked) => {
                    let count = usize::try_from(asked.ops).unwrap_or(usize::MAX);
                    let (asked_for, others) = behind.split_at(count.min(behind.len()));
                    let judged = self.judge_asked(asked, asked_for);
                    if judged.is_err() {
                        outcomes.extend(asked_for.iter().map(|_| judged.clone()));
                        left = others;
                    }
                    judged
                }
                op => self.apply_op(op, part),
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    /// The duplicate guard: whether the commit, or a later one of its author, was folded before.
    fn is_known(&self, id: CommitId) -> bool {
        let known = self.last_commit_of(id.incarnation);
        known.is_some_and(|known| known >= id.counter) && !mutants::on(Mutant::DuplicateGuardOff)
    }

    /// The count of the last commit of a run that was folded; `None` if there is none, or if so many others have come since
    /// that the fold has forgotten it.
    pub fn last_commit_of(&self, author: Incarnation) -> Option<u64> {
        self.authors.last_of(author)
    }

    /// Whether the last commit of its author is the one that it says it follows.
    fn is_in_order(&self, part: &Part<'_>) -> bool {
        let Some(before) = part.follows else {
            return true;
        };
        let author = part.id.incarnation;
        match self.last_commit_of(author) {
            None if before == Commit::NOTHING && self.has(Feature::CarriedRegistrations) => {
                Commit::only_registers(part.ops, author)
            }
            last => last == Some(before) || mutants::on(Mutant::BrokenChainFolded),
        }
    }

    /// Notes the commit's author and counter, for the two above.
    fn note_author(&mut self, id: CommitId) {
        if self.has(Feature::ManyAuthors) && !mutants::on(Mutant::FewAuthors) {
            let runs = &self.runs;
            let is_node = |author| runs.contains_key(&author);
            self.authors.note(id, self.seq, MAX_AUTHORS, is_node);
        } else {
            self.authors
                .note(id, self.seq, FIRST_MAX_AUTHORS, |_| false);
        }
    }

    fn hear_from(&mut self, incarnation: Incarnation) {
        let now = self.time;
        if let Some(id) = self.node_of(incarnation)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.make_mut().heard_from(now);
        }
    }

    fn apply_op(&mut self, op: &Op, part: &Part<'_>) -> Outcome {
        match op {
            Op::Append(append) => Ok(Applied::Appended(self.append(append, part.data_start))),
            Op::CreateTopic(create) => self.create_topic(create),
            Op::DeleteTopic { topic } => self.delete_topic(*topic),
            Op::CreatePartitions { topic, total } => self.create_partitions(*topic, *total),
            Op::AlterConfigs {
                node: Some(node),
                edits,
                ..
            } => self.alter_node_configs(*node, edits),
            Op::AlterConfigs { topic, edits, .. } => self.alter_configs(*topic, edits),
            Op::DeleteRecords { partition, before } => self.delete_records(*partition, *before),
            Op::AllocateProducerIds { count } => self.allocate_producer_ids(*count),
            Op::ExpireProducers { before } => self.expire_producers(*before),
            Op::RegisterNode(register) => self.register_node(register),
            Op::RenewLease {
                node,
                incarnation,
                lease_millis,
            } => {
                let now = self.time;
                self.registered_mut(*node, *incarnation)?
                    .set_lease(*lease_millis, now);
                Ok(Applied::Done)
            }
            Op::RetireNode { node, incarnation } => {
                self.registered_mut(*node, *incarnation)?;
                self.remove_node(*node);
                Ok(Applied::Done)
            }
            Op::ExpireNode {
                node,
                incarnation,
                as_of,
            } => self.expire_node(*node, *incarnation, *as_of),
            Op::SnapshotTaken { seq, bytes, .. } => Ok(self.snapshot_taken(*seq, *bytes)),
            Op::ReplaceSlices(replace) => self.replace_slices(replace),
            Op::ExpireRecords {
                partition,
                before,
                as_of,
            } => {
                self.check_configs(*partition, *as_of)?;
                self.delete_records(*partition, Some(*before))
            }
            Op::RaiseLogBoundary { to } => self.raise_log_boundary(*to),
            Op::LogTruncated { to } => {
                let to = (*to).min(self.truncation.boundary);
                self.truncation.truncated = self.truncation.truncated.max(to);
                Ok(Applied::Done)
            }
            Op::RaiseSweepBoundary { before } => self.raise_sweep_boundary(*before, part.found),
            Op::ObjectsDeleted { objects } => {
                objects
                    .iter()
                    .for_each(|object| self.objects.note_deleted(*object));
                Ok(Applied::Done)
            }
            Op::ClaimJob {
                job,
                incarnation,
                lease_millis,
            } => {
                let now = self.time;
                let claim = Claim {
                    incarnation: *incarnation,
                    until: now.after(Duration::from_millis(*lease_millis)),
                };
                let claimed = self.claims.claim(*job, claim, now);
                claimed.map_err(|held| Rejected::JobHeld { job: *job, held })?;
                Ok(Applied::Done)
            }
            Op::ReleaseJob { job, incarnation } => {
                self.claims.release(*job, *incarnation);
                Ok(Applied::Done)
            }
            // Judged with those that it is about.
            Op::Asked(_) => Ok(Applied::Done),
            Op::Group { group, action } => {
                let reply = self.change_group(group, action, part.id.incarnation)?;
                Ok(Applied::Group(reply))
            }
            Op::RaiseLevel { to } => self.raise_level(*to),
        }
    }

    /// Where the fold is.
    pub(super) fn now(&self) -> Now {
        Now {
            seq: self.seq,
            time: self.time,
            level: self.level,
        }
    }

    fn append(
        &mut self,
        append: &Append,
        data_start: u64,
    ) -> Vec<Result<op::Appended, AppendRejected>> {
        let now = self.time;
        let this = append.partition;
        let (object, base) = match append.source {
            AppendSource::Inline => (ObjectRef::Commit(self.seq), data_start),
            AppendSource::Segment(segment) if !self.objects.admits(segment) => {
                return vec![Err(AppendRejected::StaleSegment(segment)); append.entries.len()];
            }
            AppendSource::Segment(segment) => (ObjectRef::Segment(segment), 0),
        };
        let Some(topic) = self.topics.get_mut(&this.topic) else {
            return vec![Err(AppendRejected::UnknownTopic(this.topic)); append.entries.len()];
        };
        let Some(partition) = topic.make_mut().partition_mut(this.partition) else {
            return vec![Err(AppendRejected::UnknownPartition(this)); append.entries.len()];
        };
        let (objects, totals) = (&mut self.objects, &mut self.totals);
        let judge = |entry| {
            let appended = partition.append(this, object, base, entry, now, objects)?;
            if !appended.duplicate {
                totals.appended += ByteCount(entry.len.into());
            }
            Ok(appended)
        };
        append.entries.iter().map(judge).collect()
    }

    fn create_topic(&mut self, create: &CreateTopic) -> Outcome {
        if self.names.contains_key(&create.name) || self.topics.contains_key(&create.id) {
            return Err(Rejected::TopicExists(create.name.clone()));
        }
        // A node has looked before, but another may have been faster.
        if self.has(Feature::CollidingNamesAreRefused)
            && let Some(existing) = self.collision(&create.name)
            && !mutants::on(Mutant::CollidingNamesCreated)
        {
            return Err(Rejected::TopicCollides {
                name: create.name.clone(),
                existing: existing.clone(),
            });
        }
        if !(1..=MAX_PARTITIONS).contains(&create.partitions) {
            return Err(Rejected::InvalidPartitions(create.partitions));
        }
        let CreateTopic {
            id,
            name,
            partitions,
            configs,
            replicas,
        } = create.clone();
        self.names.insert(name.clone(), id);
        if may_collide(&name) {
            self.dotless.insert((name.without_dots(), id));
        }
        let replicas = replicas.filter(|_| self.has(Feature::ReplicationFactor));
        let mut topic = Topic::new(id, name, partitions, configs, replicas, self.time);
        if self.has(Feature::AskedOps) {
            topic.sized = self.seq;
        }
        self.partitions += u64::from(partitions.unsigned_abs());
        self.topics.insert(id, Shared::new(topic));
        Ok(Applied::Done)
    }

    fn delete_topic(&mut self, id: TopicId) -> Outcome {
        let topic = self.topics.remove(&id).ok_or(Rejected::UnknownTopic(id))?;
        self.names.remove(topic.name());
        self.dotless.remove(&(topic.name().without_dots(), id));
        if self.has(Feature::AskedOps) {
            self.deletions.note_topic(topic.name(), self.seq);
        }
        self.partitions -= u64::from(topic.partition_count().unsigned_abs());
        for (_, partition) in topic.partitions() {
            partition.release_all(&mut self.objects);
        }
        self.groups.topic_deleted(id, !self.empty_groups_stay());
        Ok(Applied::Done)
    }

    fn create_partitions(&mut self, id: TopicId, total: i32) -> Outcome {
        let (seq, notes_size) = (self.seq, self.has(Feature::AskedOps));
        let topic = self.topic_mut(id)?;
        let current = topic.partition_count();
        if total <= current {
            return Err(Rejected::PartitionsNotMore {
                current,
                requested: total,
            });
        }
        if total > MAX_PARTITIONS {
            return Err(Rejected::InvalidPartitions(total));
        }
        topic.grow(total);
        if notes_size {
            topic.sized = seq;
        }
        self.partitions += u64::from(total.abs_diff(current));
        Ok(Applied::Done)
    }

    fn alter_configs(
        &mut self,
        topic: Option<TopicId>,
        edits: &BTreeMap<String, Option<String>>,
    ) -> Outcome {
        let seq = self.seq;
        let configs = match topic {
            Some(id) => {
                let topic = self.topic_mut(id)?;
                topic.configs_altered = seq;
                &mut topic.configs
            }
            None => {
                self.configs_altered = seq;
                &mut self.configs
            }
        };
        edit(configs, edits);
        Ok(Applied::Done)
    }

    /// Settings stay with the id of a node when the node is gone, for who is given the id next: that is the node which is
    /// started in its place, mostly.
    fn alter_node_configs(
        &mut self,
        node: NodeId,
        edits: &BTreeMap<String, Option<String>>,
    ) -> Outcome {
        let is_known = self.nodes.contains_key(&node) || self.node_configs.contains_key(&node);
        if !is_known || !self.has(Feature::NodeSettings) {
            return Err(Rejected::NoSuchNode(node));
        }
        let configs = self.node_configs.entry(node).or_default();
        edit(configs, edits);
        if configs.is_empty() {
            self.node_configs.remove(&node);
        }
        Ok(Applied::Done)
    }

    fn delete_records(&mut self, this: TopicPartition, before: Option<Offset>) -> Outcome {
        let unknown = Rejected::UnknownPartition(this);
        let topic = self.topics.get_mut(&this.topic).ok_or(unknown.clone())?;
        let partition = topic
            .make_mut()
            .partition_mut(this.partition)
            .ok_or(unknown)?;
        let high_watermark = partition.high_watermark();
        let before = before.unwrap_or(high_watermark);
        if before < Offset::ZERO || before > high_watermark {
            return Err(Rejected::OffsetOutOfRange {
                partition: this,
                offset: before,
                log_start: partition.log_start(),
                high_watermark,
            });
        }
        partition.delete_before(before, &mut self.objects);
        Ok(Applied::RecordsDeleted(partition.log_start()))
    }

    fn replace_slices(&mut self, replace: &ReplaceSlices) -> Outcome {
        let this = replace.partition;
        if let Some(cleaned) = replace.cleaned {
            self.check_configs(this, cleaned.as_of)?;
        }
        let trims = self.has(Feature::ReplacementsAreTrimmed) && !mutants::on(Mutant::Untrimmed);
        let unknown = Rejected::UnknownPartition(this);
        let topic = self.topics.get_mut(&this.topic).ok_or(unknown.clone())?;
        let partition = topic
            .make_mut()
            .partition_mut(this.partition)
            .ok_or(unknown)?;
        partition.replace(replace, &mut self.objects)?;
        if trims {
            partition.trim(&mut self.objects);
        }
        let bytes = replace.outputs.iter().map(|output| output.len);
        self.totals.compacted += ByteCount(bytes.fold(0, u64::saturating_add));
        Ok(Applied::Done)
    }

    /// Refuses what was decided by settings that were altered after `as_of`.
    fn check_configs(&self, partition: TopicPartition, as_of: Seq) -> Result<(), Rejected> {
        let topic = self
            .topic(partition.topic)
            .ok_or(Rejected::UnknownPartition(partition))?;
        let altered = self.configs_altered(topic);
        if as_of < altered && !mutants::on(Mutant::SettingsUnchecked) {
            return Err(Rejected::ConfigsAltered {
                partition,
                as_of,
                altered,
            });
        }
        Ok(())
    }

    fn raise_log_boundary(&mut self, to: Seq) -> Outcome {
        let limit = self.log_boundary_limit();
        if to > limit {
            return Err(Rejected::TooYoung { to, limit });
        }
        self.truncation.boundary = self.truncation.boundary.max(to);
        Ok(Applied::Done)
    }

    fn allocate_producer_ids(&mut self, count: u32) -> Outcome {
        let first = self.next_producer_id;
        self.next_producer_id = ProducerId(first.0.saturating_add(count.into()));
        Ok(Applied::ProducerIds(first))
    }

    fn expire_producers(&mut self, before: Timestamp) -> Outcome {
        let stale: Vec<TopicPartition> = self
            .topics()
            .flat_map(Topic::partitions)
            .filter(|(_, partition)| partition.has_producers_older_than(before))
            .map(|(id, _)| id)
            .collect();
        for id in stale {
            if let Ok(topic) = self.topic_mut(id.topic)
                && let Some(partition) = topic.partition_mut(id.partition)
            {
                partition.expire_producers(before);
            }
        }
        Ok(Applied::Done)
    }

    fn register_node(&mut self, register: &RegisterNode) -> Outcome {
        let (level, known) = (self.level, Level::of_label(&register.version));
        if known < level {
            return Err(Rejected::LevelTooLow { level, known });
        }
        // It was once enough that a lease seemed to have lapsed. Since, others are ended by nodes that have looked for long
        // enough, so that an id is not given away while the node lives that has it.
        let removes = !self.has(Feature::BoundedTime) || mutants::on(Mutant::RegistrationRemoves);
        let lapsed: Vec<NodeId> = self
            .nodes()
            .filter(|(_, n)| removes && n.lease_until() < self.time)
            .map(|(id, _)| id)
            .collect();
        let id = self.node_of(register.incarnation);
        for node in lapsed.into_iter().filter(|node| Some(*node) != id) {
            self.remove_node(node);
        }
        let lowest_free = || (0..).map(NodeId).find(|id| !self.nodes.contains_key(id));
        let id = id.or_else(lowest_free).unwrap_or_default();
        let node = Shared::new(Node::new(register, self.time));
        self.nodes.insert(id, node);
        self.runs.insert(register.incarnation, id);
        Ok(Applied::NodeRegistered(id))
    }

    /// Removes a node; its group members must be vouched for by another before their session time-out.
    pub(super) fn remove_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.remove(&id) {
            if !mutants::on(Mutant::GoneRunsFound) {
                self.runs.remove(&node.incarnation());
            }
            self.claims.release_all(node.incarnation());
        }
        self.groups
            .node_gone(id, self.time, !self.empty_groups_stay());
    }

    fn snapshot_taken(&mut self, seq: Seq, bytes: u64) -> Applied {
        if self.snapshots.iter().all(|known| known.seq < seq) && seq <= self.seq {
            self.snapshots.push(Snapshot { seq, bytes });
            self.truncation.note_snapshot(seq, self.time);
        }
        let superfluous = self.snapshots.len().saturating_sub(KEPT_SNAPSHOTS);
        let retired = self.snapshots.drain(..superfluous).map(|old| old.seq);
        Applied::SnapshotsRetired(retired.collect())
    }

    fn change_group(
        &mut self,
        id: &GroupId,
        action: &GroupAction,
        author: Incarnation,
    ) -> Result<GroupReply, Rejected> {
        let now = self.time;
        // A run that slept until another run was given its node's id speaks for nobody.
        let of_another = |node: &NodeId| {
            let known = self.nodes.get(node);
            known.is_some_and(|known| known.incarnation() != author)
                && !mutants::on(Mutant::SpokenForByAnyRun)
        };
        if let Some(node) = action.speaker().filter(of_another) {
            return Err(Rejected::UnknownNode {
                node,
                incarnation: author,
            });
        }
        self.refresh(id);
        let known = self.groups.get(id);
        let before = known.clone().unwrap_or_default();
        let mut group = before.clone();
        let mut touched = group.touched(action);
        let stays = self.empty_groups_stay();
        let exists = known
            .as_ref()
            .is_some_and(|known| stays || !known.is_vacant());
        let reply = group.make_mut().apply_to(action, now, exists)?;
        self.note_group_changed(id, action, &before, group.make_mut());
        let is_known = |topic: &TopicId| {
            self.topics.contains_key(topic)
                || (*topic == OFFSETS_TOPIC_ID && self.serves_offsets_topic())
        };
        for topic in action.topics().filter(|topic| !is_known(topic)) {
            group.make_mut().topic_deleted(topic);
        }
        if let Some(node) = action
            .voucher()
            .filter(|node| !self.nodes.contains_key(node))
        {
            group.make_mut().node_gone(node, now);
            touched.members = Which::All;
        }
        let stays = stays && known.is_some() && !group.ends_with(action);
        let mut after = Some(group).filter(|group| stays || !group.is_vacant());
        let (topics, serves) = (&self.topics, self.serves_offsets_topic());
        if let Some(changes) = &mut self.changes {
            let name = |topic| name_of(topics, serves, topic);
            changes.note(id, &before, after.as_mut(), action, now, name);
        }
        self.groups.put(id, after, &touched);
        Ok(reply)
    }

    /// Whether a group of which nothing is left is still there.
    fn empty_groups_stay(&self) -> bool {
        self.has(Feature::EmptyGroupsStay) && !mutants::on(Mutant::EmptyGroupsVanish)
    }

    /// Refreshes a group, which may then be changed.
    fn refresh(&mut self, id: &GroupId) {
        if mutants::on(Mutant::ChangedOutdated) {
            return;
        }
        let changes = &mut self.changes;
        self.groups.refresh(id, &mut |group, number| {
            if let Some(changes) = changes {
                changes.dropped(group, number);
            }
        });
    }

    /// Refreshes some groups with what is pending for them.
    pub(super) fn refresh_some(&mut self, most: u32) {
        let changes = &mut self.changes;
        self.groups.refresh_some(most, &mut |group, number| {
            if let Some(changes) = changes {
                changes.dropped(group, number);
            }
        });
    }

    /// From its level on the changes of groups are numbered, first what is there.
    fn begin_changes(&mut self) {
        if self.changes.is_some() || !self.has(Feature::OffsetsTopic) {
            return;
        }
        self.refresh_some(u32::MAX);
        let mut changes = Changes::new();
        let now = self.time;
        self.groups
            .for_each(|id, group| changes.begin(id, group, now));
        self.changes = Some(changes);
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, Rejected> {
        self.topics
            .get_mut(&id)
            .map(Shared::make_mut)
            .ok_or(Rejected::UnknownTopic(id))
    }

    pub(super) fn registered_mut(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
    ) -> Result<&mut Node, Rejected> {
        self.nodes
            .get_mut(&id)
            .filter(|node| node.incarnation() == incarnation)
            .map(Shared::make_mut)
            .ok_or(Rejected::UnknownNode {
                node: id,
                incarnation,
            })
    }
}
