//! What follows for other domains when something happens in one.
//!
//! A rule changes its own domain. What it does to others has a name in this file, so that all of it can be read here,
//! and could become ops of its own where two domains lie in different logs. No effect looks at everything there is, but
//! for those of a new level, which come once:
//!
//! | when | what follows | in | found by |
//! |---|---|---|---|
//! | a topic is deleted | its slices let go of their objects | `objects` | the topic has them |
//! | | its producers are not found by age | `producer` | the topic has them |
//! | | its committed offsets go | `group` | an index: the groups that have offsets of a topic |
//! | | its name is remembered | `asked` | |
//! | | its table stays without it | `table` | an index: the table of a topic |
//! | a group, or offsets of it, are deleted | its id is remembered | `asked` | |
//! | a node is gone | nobody vouches for its members | `group` | an index: the groups in which a node vouches |
//! | | its jobs are open to others | `jobs` | an index: the claims of an incarnation |
//! | the level is raised | objects that are alive are not dead | `objects` | all of them, once |
//! | | no slice lies below a log start | `partition` | all of them, once |
//!
//! Nor does a rule within its own domain: producers that wrote nothing for long are found by age
//! (`producer/by_age.rs`), deleted segments that the sweep boundary passes by the time of their minting
//! (`objects/mod.rs`), claims that lapse by their ends (`jobs/mod.rs`).
//!
//! What happens to many groups at once is only noted, and applied to each later (`group/groups.rs`).
//!
//! Two things are not here. A partition counts its slices in `objects` as they come and go: the two can only lie in one
//! log, as a segment belongs to the log of the partitions whose records it holds. And a commit itself is a sign of life
//! of its incarnation, whatever its ops are (`apply.rs`).

use super::{Feature, Shared, State, Topic};
use crate::types::{GroupId, Incarnation, NodeId, TopicId, TopicPartition};

impl State {
    /// A topic is not there any more.
    pub(super) fn after_topic_deleted(&mut self, topic: &Topic) {
        self.remember_topic(topic);
        self.let_go_of_objects(topic);
        self.let_go_of_producers(topic);
        self.drop_offsets_of(topic.id());
        self.detach_table(topic);
    }

    /// A group is not there any more, or offsets of it are not.
    pub(super) fn after_group_deleted(&mut self, id: &GroupId) {
        self.deletions.note_group(id, self.seq);
    }

    /// A node is not registered any more: it stopped, or its lease was ended.
    pub(super) fn after_node_removed(&mut self, id: NodeId, incarnation: Incarnation) {
        self.open_jobs_of(incarnation);
        self.orphan_members_of(id);
    }

    /// Other rules hold from now on: what those before them left is mended.
    pub(super) fn after_level_raised(&mut self) {
        self.objects.at(self.now());
        self.objects.revive();
        self.trim_all();
    }

    /// So that a request that is late does not create it again.
    fn remember_topic(&mut self, topic: &Topic) {
        if self.has(Feature::AskedOps) {
            self.deletions.note_topic(topic.name(), self.seq);
        }
    }

    fn let_go_of_objects(&mut self, topic: &Topic) {
        for (_, partition) in topic.partitions() {
            partition.release_all(&mut self.objects);
        }
    }

    fn let_go_of_producers(&mut self, topic: &Topic) {
        for (id, partition) in topic.partitions() {
            if let Some(entered) = partition.entered() {
                self.producers_by_age.remove(id, entered);
            }
        }
    }

    fn drop_offsets_of(&mut self, topic: TopicId) {
        let forgets = !self.empty_groups_stay();
        self.groups.topic_deleted(topic, forgets);
    }

    fn open_jobs_of(&mut self, incarnation: Incarnation) {
        self.claims.release_all(incarnation);
    }

    /// Its group members must be vouched for by another node before their session timeout.
    fn orphan_members_of(&mut self, node: NodeId) {
        let forgets = !self.empty_groups_stay();
        self.groups.node_gone(node, self.time, forgets);
    }

    /// Drops the slices wholly below the log starts, as replacing slices did not always do.
    fn trim_all(&mut self) {
        let partitions = self.topics().flat_map(Topic::partitions);
        let untrimmed = partitions.filter(|(_, partition)| partition.is_untrimmed());
        let untrimmed: Vec<TopicPartition> = untrimmed.map(|(id, _)| id).collect();
        for id in untrimmed {
            let topic = self.topics.get_mut(&id.topic).map(Shared::make_mut);
            if let Some(partition) = topic.and_then(|topic| topic.partition_mut(id.partition)) {
                partition.trim(&mut self.objects);
            }
        }
    }
}
