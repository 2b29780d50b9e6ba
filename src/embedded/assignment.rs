//! What members of a consumer group tell each other: subscriptions and assignments in the format of
//! Kafka's consumers, and the `range` assignor, so that programs with this library and Kafka clients can
//! share a group.
//!
//! ```text
//! subscription: version i16 | topics: i32, each (i16 length, name) | user data: i32 length or -1 | ...
//! assignment:   version i16 | i32 topics, each (i16 length, name, i32 partitions, each i32)
//!               | user data: i32 length or -1
//! ```
//!
//! Later versions only add to the end, so version 0 is written and any version is read.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The name of the assignor, as Kafka's.
pub(super) const RANGE: &str = "range";

/// Metadata or an assignment that is not in the format of Kafka's consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} of a member of the group is not in the format of Kafka's consumers")]
pub struct NotOfConsumers(&'static str);

/// A member's subscription to `topics`.
pub(super) fn subscription(topics: &[String]) -> Bytes {
    let mut out = vec![0, 0];
    put_count(&mut out, topics.len());
    for topic in topics {
        put_name(&mut out, topic);
    }
    out.extend((-1i32).to_be_bytes());
    out.into()
}

/// The topics of a subscription.
pub(super) fn read_subscription(bytes: &[u8]) -> Result<Vec<String>, NotOfConsumers> {
    fn read(mut rest: &[u8]) -> Option<Vec<String>> {
        version(&mut rest)?;
        let count = take_count(&mut rest)?;
        let mut topics = Vec::new();
        for _ in 0..count {
            topics.push(take_name(&mut rest)?);
        }
        Some(topics)
    }
    read(bytes).ok_or(NotOfConsumers("subscription"))
}

/// Partitions by topic.
pub(super) type Assignment = BTreeMap<String, Vec<i32>>;

/// A member's assignment.
pub(super) fn assignment(topics: &Assignment) -> Bytes {
    let mut out = vec![0, 0];
    put_count(&mut out, topics.len());
    for (topic, partitions) in topics {
        put_name(&mut out, topic);
        put_count(&mut out, partitions.len());
        for partition in partitions {
            out.extend(partition.to_be_bytes());
        }
    }
    out.extend((-1i32).to_be_bytes());
    out.into()
}

/// The partitions of an assignment. Nothing at all is an empty one: that is what a member is told whom
/// the leader did not think of.
pub(super) fn read_assignment(bytes: &[u8]) -> Result<Assignment, NotOfConsumers> {
    fn read(mut rest: &[u8]) -> Option<Assignment> {
        if rest.is_empty() {
            return Some(Assignment::new());
        }
        version(&mut rest)?;
        let count = take_count(&mut rest)?;
        let mut topics = Assignment::new();
        for _ in 0..count {
            let topic = take_name(&mut rest)?;
            let partitions = take_count(&mut rest)?;
            let assigned = topics.entry(topic).or_default();
            for _ in 0..partitions {
                assigned.push(i32::from_be_bytes(take(&mut rest)?));
            }
        }
        Some(topics)
    }
    read(bytes).ok_or(NotOfConsumers("assignment"))
}

/// A member as the assignor sees it.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    /// Its id.
    pub(super) member: String,
    /// Its instance id, if it is static.
    pub(super) instance: Option<String>,
    /// What it subscribes to.
    pub(super) topics: Vec<String>,
}

/// Kafka's range assignor: of each topic the members that subscribe to it, in the order of their ids, get
/// consecutive partitions, the first ones one more where it does not divide. Answers in the order of
/// `members`.
pub(super) fn range(members: &[Subscriber], partitions: &BTreeMap<String, i32>) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    // Static members come first, by instance id, as in Kafka: their share survives a restart.
    order.sort_by_key(|i| {
        members
            .get(*i)
            .map(|m| (m.instance.is_none(), m.instance.as_ref(), &m.member))
    });
    let mut assigned = vec![Assignment::new(); members.len()];
    for (topic, partitions) in partitions {
        let subscribes = |i: &usize| members.get(*i).is_some_and(|m| m.topics.contains(topic));
        let subscribers: Vec<usize> = order.iter().copied().filter(subscribes).collect();
        let Ok(count) = i32::try_from(subscribers.len()) else {
            continue;
        };
        if count == 0 {
            continue;
        }
        let (share, over) = (partitions / count, partitions % count);
        let mut next = 0;
        for (position, member) in (0..).zip(subscribers) {
            let end = next + share + i32::from(position < over);
            if end > next
                && let Some(assignment) = assigned.get_mut(member)
            {
                assignment.insert(topic.clone(), (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    // Topics and partitions are far fewer than this.
    out.extend(i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    // Names of topics are at most 249 bytes long.
    out.extend(i16::try_from(name.len()).unwrap_or(i16::MAX).to_be_bytes());
    out.extend(name.as_bytes());
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn version(bytes: &mut &[u8]) -> Option<()> {
    (i16::from_be_bytes(take(bytes)?) >= 0).then_some(())
}

fn take_count(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(take(bytes)?)).ok()
}

fn take_name(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
    let (name, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn member(id: &str, instance: Option<&str>, topics: &[&str]) -> Subscriber {
        Subscriber {
            member: id.to_owned(),
            instance: instance.map(str::to_owned),
            topics: texts(topics),
        }
    }

    fn shares(members: &[Subscriber], partitions: &[(&str, i32)]) -> Vec<Vec<(String, Vec<i32>)>> {
        let partitions = partitions
            .iter()
            .map(|(topic, n)| ((*topic).to_owned(), *n))
            .collect();
        range(members, &partitions)
            .into_iter()
            .map(|a| a.into_iter().collect())
            .collect()
    }

    #[test]
    fn subscriptions_are_what_kafka_clients_read_and_write() {
        let topics = texts(&["a", "orders"]);
        let mut bytes = subscription(&topics).slice(2..);
        let read = ConsumerProtocolSubscription::decode(&mut bytes, 0).unwrap();
        assert_eq!(read.topics, ["a", "orders"].map(StrBytes::from_static_str));
        for version in 0i16..=3 {
            let written = ConsumerProtocolSubscription::default()
                .with_topics(vec![StrBytes::from_static_str("b")])
                .with_user_data(Some(Bytes::from_static(b"sticky")));
            let mut bytes = version.to_be_bytes().to_vec();
            written.encode(&mut bytes, version).unwrap();
            assert_eq!(read_subscription(&bytes), Ok(texts(&["b"])));
        }
    }

    #[test]
    fn assignments_are_what_kafka_clients_read_and_write() {
        let assigned = Assignment::from([("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![])]);
        let bytes = assignment(&assigned);
        assert_eq!(read_assignment(&bytes), Ok(assigned));
        let read = ConsumerProtocolAssignment::decode(&mut bytes.slice(2..), 0).unwrap();
        assert_eq!(read.assigned_partitions.len(), 2);
        assert_eq!(read.assigned_partitions[0].partitions, [0, 2]);
        assert_eq!(read_assignment(b""), Ok(Assignment::new()));
    }

    #[test]
    fn bytes_that_are_neither_are_an_error_and_claim_no_memory() {
        for bytes in [
            b"\x00".as_slice(),
            b"\xff\xff\x00\x00\x00\x00",
            b"\x00\x00\x7f\xff\xff\xff",
            b"\x00\x00\xff\xff\xff\xff",
            b"\x00\x00\x00\x00\x00\x01\x00\x05ab",
            b"\x00\x00\x00\x00\x00\x01\x00\x01\xff",
        ] {
            assert!(read_subscription(bytes).is_err(), "{bytes:?}");
            assert!(read_assignment(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_first_members_get_one_partition_more_where_it_does_not_divide() {
        let members = [member("y", None, &["t"]), member("x", None, &["t"])];
        let t = |range: std::ops::Range<i32>| vec![("t".to_owned(), range.collect())];
        assert_eq!(shares(&members, &[("t", 3)]), [t(2..3), t(0..2)]);
        assert_eq!(shares(&members, &[("t", 1)]), [vec![], t(0..1)]);
        assert_eq!(shares(&members, &[("t", 0)]), [vec![], vec![]]);
        assert_eq!(shares(&[], &[("t", 3)]), Vec::<Vec<_>>::new());
    }

    #[test]
    fn only_subscribers_get_a_topic_and_static_members_come_first() {
        let members = [
            member("a", None, &["t", "u"]),
            member("z", Some("i1"), &["t"]),
        ];
        let found = shares(&members, &[("t", 2), ("u", 2)]);
        assert_eq!(
            found,
            [
                vec![("t".to_owned(), vec![1]), ("u".to_owned(), vec![0, 1])],
                vec![("t".to_owned(), vec![0])],
            ]
        );
    }
}
