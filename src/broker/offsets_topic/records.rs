//! Keys and values of `__consumer_offsets`, as Apache Kafka 4.3 writes them: `OffsetCommitKey`, `OffsetCommitValue`,
//! `GroupMetadataKey` and `GroupMetadataValue`, each behind its version.
//!
//! `docs/compatibility.md` says what of them is not known here.

use crate::segment::SparseRecord;
use crate::state::group::{CommittedOffset, Group, Phase};
use crate::state::{Changed, GroupChange};
use crate::types::{GroupId, PartitionIndex, Timestamp, TopicId, TopicName};

/// Versions of the keys, which tell what kind of key it is.
const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;

/// Versions of the values. That of an offset has compact texts and a tagged field.
const OFFSET_VALUE: i16 = 4;
const GROUP_VALUE: i16 = 3;

/// The record of a change.
pub(super) fn record(change: &GroupChange) -> SparseRecord {
    let GroupChange {
        offset,
        at,
        group: id,
        what,
    } = change;
    let (key, value) = match what {
        Changed::Offset {
            topic,
            partition,
            group,
        } => {
            let committed = group.offset(*partition);
            let key = offset_key(id, topic, partition.partition);
            (
                key,
                committed.map(|committed| offset_value(partition.topic, committed)),
            )
        }
        Changed::OffsetGone { topic, partition } => (offset_key(id, topic, *partition), None),
        Changed::Group(group) => (group_key(id), Some(group_value(group, *at))),
        Changed::GroupGone => (group_key(id), None),
    };
    SparseRecord {
        offset: *offset,
        timestamp: *at,
        key,
        value,
    }
}

fn offset_key(group: &GroupId, topic: &TopicName, partition: PartitionIndex) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(OFFSET_KEY.to_be_bytes());
    put_text(&mut out, group.as_str());
    put_text(&mut out, topic.as_str());
    out.extend(partition.0.to_be_bytes());
    out
}

fn offset_value(topic: TopicId, committed: &CommittedOffset) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(OFFSET_VALUE.to_be_bytes());
    out.extend(committed.offset.0.to_be_bytes());
    out.extend(committed.leader_epoch.unwrap_or(-1).to_be_bytes());
    let metadata = committed.metadata.as_deref().unwrap_or_default();
    put_uvarint(&mut out, metadata.len() + 1);
    out.extend(metadata.as_bytes());
    out.extend(committed.committed_at.0.to_be_bytes());
    // One tagged field, number 0, of 16 bytes.
    out.extend([1, 0, 16]);
    out.extend(topic.0.as_bytes());
    out
}

fn group_key(group: &GroupId) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(GROUP_KEY.to_be_bytes());
    put_text(&mut out, group.as_str());
    out
}

fn group_value(group: &Group, at: Timestamp) -> Vec<u8> {
    let empty = matches!(group.phase(), Phase::Empty { .. });
    let protocol = group.protocol().filter(|_| !empty);
    let leader = group.leader().filter(|_| !empty);
    let mut out = Vec::new();
    out.extend(GROUP_VALUE.to_be_bytes());
    put_text(&mut out, group.protocol_type().unwrap_or_default());
    out.extend(group.generation().0.to_be_bytes());
    put_nullable(&mut out, protocol);
    put_nullable(&mut out, leader.map(|leader| leader.as_str()));
    out.extend(at.0.to_be_bytes());
    put_length(&mut out, group.size());
    for (id, member) in group.members() {
        let metadata = protocol.and_then(|protocol| member.metadata(protocol));
        let millis =
            |time: std::time::Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        put_text(&mut out, id.as_str());
        put_nullable(&mut out, member.instance());
        put_text(&mut out, member.client_id());
        put_text(&mut out, member.client_host());
        out.extend(millis(member.rebalance_timeout()).to_be_bytes());
        out.extend(millis(member.session_timeout()).to_be_bytes());
        put_bytes(
            &mut out,
            metadata
                .map(|metadata| &metadata.bytes()[..])
                .unwrap_or_default(),
        );
        put_bytes(&mut out, member.assignment().bytes());
    }
    out
}

/// A text with its length in 16 bits. What is longer, which nothing in the state is, loses its end.
fn put_text(out: &mut Vec<u8>, text: &str) {
    const MAX_LEN: usize = i16::MAX as usize;
    let text = &text[..text.floor_char_boundary(MAX_LEN)];
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn put_nullable(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.extend((-1i16).to_be_bytes()),
    }
}

fn put_uvarint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend(i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend(bytes);
}
