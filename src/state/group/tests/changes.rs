//! The changes of groups are numbered: each once, for good, the same on every node.

use super::groups::{commit_offset, delete_offset, group_id, join, member_id, topic_id};
use crate::state::group::{Assignment, Leaver, Sync};
use crate::state::tests::*;
use crate::types::Generation;

struct Groups {
    state: State,
    counter: u64,
}

impl Groups {
    fn new(level: Level) -> Groups {
        let state = State {
            level,
            ..State::default()
        };
        let mut groups = Groups { state, counter: 0 };
        groups.fold(vec![
            create("a", topic_id(0), 3),
            create("b", topic_id(1), 3),
        ]);
        groups
    }

    fn fold(&mut self, ops: Vec<Op>) -> Vec<Outcome> {
        self.counter += 1;
        let commit = commit(self.counter, ops);
        match self.state.apply(self.state.seq().next(), &commit, 64) {
            Folded::Outcomes(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    }

    fn act(&mut self, group: usize, action: GroupAction) -> Outcome {
        let group = group_id(group);
        self.fold(vec![Op::Group { group, action }]).remove(0)
    }

    /// What is read of a group's partition from an offset on, in words.
    fn read(&self, group: usize, from: i64) -> Vec<(i64, String)> {
        let partition = offsets_partition_of(&group_id(group));
        let changes = self.state.group_changes(partition, Offset(from));
        let of_this = changes.filter(|change| change.group == group_id(group));
        of_this
            .map(|change| (change.offset.0, words(&change)))
            .collect()
    }

    fn end(&self, group: usize) -> i64 {
        let partition = offsets_partition_of(&group_id(group));
        self.state.group_changes_end(partition).unwrap().0
    }
}

fn words(change: &GroupChange) -> String {
    match &change.what {
        Changed::Offset {
            topic,
            partition,
            group,
        } => {
            let offset = group.offset(*partition).unwrap().offset;
            format!("{topic}/{} = {offset}", partition.partition)
        }
        Changed::Group(group) => format!("{} members", group.size()),
        Changed::OffsetGone { topic, partition } => format!("{topic}/{partition} gone"),
        Changed::GroupGone => "group gone".to_owned(),
    }
}

fn texts(read: &[(i64, String)]) -> Vec<&str> {
    read.iter().map(|(_, text)| text.as_str()).collect()
}

#[test]
fn the_partition_of_a_group_is_kafkas() {
    let of = |id: &str| offsets_partition_of(&GroupId::new(id).unwrap()).0;
    // Math.abs("...".hashCode()) % 50 in Java.
    assert_eq!(of(""), 0);
    assert_eq!(of("a"), 47);
    assert_eq!(of("console-consumer-1"), java("console-consumer-1"));
    assert_eq!(of("grüße𝄞"), java("grüße𝄞"));
    // Its hash is the least number, which has no absolute value.
    assert_eq!(of("polygenelubricants"), 0);
}

fn java(text: &str) -> i32 {
    let hash = text.encode_utf16().fold(0i64, |hash, unit| {
        (hash * 31 + i64::from(unit)) & 0xffff_ffff
    });
    let hash = if hash >= 1 << 31 {
        hash - (1 << 32)
    } else {
        hash
    };
    i32::try_from(hash.abs() % 50).unwrap()
}

#[test]
fn each_change_stands_behind_what_was_there_and_takes_its_place() {
    let mut groups = Groups::new(Level::NEWEST);
    groups.act(0, commit_offset(0, 0, 5)).unwrap();
    groups.act(0, commit_offset(0, 1, 6)).unwrap();
    assert_eq!(texts(&groups.read(0, 0)), ["a/0 = 5", "a/1 = 6"]);
    let end = groups.end(0);
    groups.act(0, commit_offset(0, 0, 7)).unwrap();
    assert_eq!(texts(&groups.read(0, 0)), ["a/1 = 6", "a/0 = 7"]);
    assert_eq!(texts(&groups.read(0, end)), ["a/0 = 7"]);
    assert_eq!(groups.end(0), end + 1);
    groups.act(0, delete_offset(0, 1)).unwrap();
    assert_eq!(texts(&groups.read(0, end)), ["a/0 = 7", "a/1 gone"]);
    groups.act(0, GroupAction::Delete).unwrap();
    assert_eq!(texts(&groups.read(0, 0)), ["a/1 gone", "a/0 gone"]);
}

#[test]
fn a_group_is_written_between_rebalances() {
    let mut groups = Groups::new(Level::NEWEST);
    let node = registration(1, 1 << 40);
    let version = Level::NEWEST.label("1");
    let registered = groups.fold(vec![Op::RegisterNode(RegisterNode { version, ..node })]);
    let Ok(Applied::NodeRegistered(node)) = registered[0] else {
        panic!("{registered:?}");
    };
    groups
        .act(0, GroupAction::Join(join(member_id(0), node)))
        .unwrap();
    assert_eq!(
        texts(&groups.read(0, 0)),
        [""; 0],
        "it has no assignment yet"
    );
    let sync = GroupAction::Sync(Sync {
        member: member_id(0),
        instance: None,
        generation: Generation(1),
        node,
        protocol_type: None,
        protocol: None,
        assignments: vec![Assignment {
            member: member_id(0),
            assignment: Bytes::from_static(b"all").into(),
        }],
    });
    groups.act(0, sync).unwrap();
    assert_eq!(texts(&groups.read(0, 0)), ["1 members"]);
    let end = groups.end(0);
    let members = vec![Leaver {
        member: Some(member_id(0)),
        instance: None,
    }];
    groups.act(0, GroupAction::Leave { members }).unwrap();
    assert_eq!(groups.read(0, 0), [(end, "0 members".to_owned())]);
    let before = Timestamp(0);
    groups
        .act(0, GroupAction::ExpireOffsets { before })
        .unwrap();
    assert_eq!(groups.read(0, 0), [(end + 1, "group gone".to_owned())]);
    assert!(groups.state.group(&group_id(0)).is_none());
}

#[test]
fn what_goes_with_its_topic_leaves_a_gap() {
    let mut groups = Groups::new(Level::NEWEST);
    groups.act(0, commit_offset(1, 0, 5)).unwrap();
    groups.act(0, commit_offset(0, 0, 6)).unwrap();
    groups.act(0, commit_offset(1, 1, 7)).unwrap();
    let end = groups.end(0);
    groups.fold(vec![Op::DeleteTopic { topic: topic_id(1) }]);
    assert_eq!(texts(&groups.read(0, 0)), ["a/0 = 6"]);
    assert_eq!(groups.end(0), end);
    let positions = |state: &State| state.changes.as_ref().unwrap().position_count();
    for _ in 0..5 {
        groups.fold(Vec::new());
    }
    assert_eq!(positions(&groups.state), 1, "nothing is kept of what went");
}

#[test]
fn what_was_there_before_the_level_is_numbered_once_and_a_snapshot_keeps_the_numbers() {
    let mut groups = Groups::new(Level::FIRST);
    for group in 0..20 {
        groups
            .act(group, commit_offset(0, 0, group as i64))
            .unwrap();
    }
    assert!(!groups.state.serves_offsets_topic());
    let old = groups.state.to_bytes();
    groups.state.level = Level::NEWEST;
    groups.fold(Vec::new());
    assert!(groups.state.serves_offsets_topic());
    let read = |groups: &Groups| {
        (0..20)
            .map(|group| groups.read(group, 0))
            .collect::<Vec<_>>()
    };
    let numbered = read(&groups);
    for (group, read) in numbered.iter().enumerate() {
        assert_eq!(texts(read), [format!("a/0 = {group}")]);
    }
    groups.act(3, delete_offset(0, 0)).unwrap();
    let now = read(&groups);
    groups.state = State::from_bytes(&groups.state.to_bytes()).unwrap();
    assert_eq!(read(&groups), now);
    assert!(!State::from_bytes(&old).unwrap().serves_offsets_topic());
}

/// Groups of one partition change in turn, and a reader that follows sees each change once and in order.
fn a_reader_that_follows_sees_every_change_once() {
    let mut groups = Groups::new(Level::NEWEST);
    let partition = offsets_partition_of(&group_id(0));
    let same: Vec<usize> = (0..500)
        .filter(|group| offsets_partition_of(&group_id(*group)) == partition)
        .take(4)
        .collect();
    let mut at = Offset::ZERO;
    for round in 0..40 {
        let group = same[round % same.len()];
        groups
            .act(group, commit_offset(0, (round % 3) as i32, round as i64))
            .unwrap();
        let read: Vec<GroupChange> = groups.state.group_changes(partition, at).collect();
        assert_eq!(read.len(), 1, "round {round}");
        assert!(words(&read[0]).ends_with(&format!("= {round}")));
        at = groups.state.group_changes_end(partition).unwrap();
        assert_eq!(read[0].offset.advance(1), at);
    }
}

#[test]
fn a_number_is_given_once() {
    a_reader_that_follows_sees_every_change_once();
    assert_needed(&[(
        Rule::ChangeNumbersAreUnique,
        a_reader_that_follows_sees_every_change_once,
    )]);
}

/// The last member leaves, the last offset is deleted: the group is still there.
fn nothing_is_left_of_a_group() {
    let mut groups = Groups::new(Level::NEWEST);
    groups.act(0, commit_offset(0, 0, 5)).unwrap();
    groups.act(0, delete_offset(0, 0)).unwrap();
    assert!(groups.state.group(&group_id(0)).is_some());
    assert!(groups.act(0, delete_offset(0, 0)).is_ok());
    assert!(groups.act(0, GroupAction::Delete).is_ok());
    assert!(groups.act(0, GroupAction::Delete).is_err());
    assert!(groups.state.group(&group_id(0)).is_none());
    // What changes nothing makes no group.
    let members = Vec::new();
    groups.act(1, GroupAction::Leave { members }).unwrap();
    groups.act(1, commit_offset(9, 0, 5)).unwrap();
    assert!(groups.state.group(&group_id(1)).is_none());
}

#[test]
fn a_group_of_which_nothing_is_left_stays_until_it_is_deleted() {
    nothing_is_left_of_a_group();
    assert_needed(&[(Rule::EmptyGroupsStay, nothing_is_left_of_a_group)]);
    let mut groups = Groups::new(Level::FIRST);
    groups.act(0, commit_offset(0, 0, 5)).unwrap();
    groups.act(0, delete_offset(0, 0)).unwrap();
    assert!(
        groups.state.group(&group_id(0)).is_none(),
        "at the first level it is gone"
    );
}
