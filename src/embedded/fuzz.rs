//! What members of a group tell each other, for [`crate::fuzz`].
use super::assignment::{
    Subscriber, assignment, range, read_assignment, read_subscription, subscription,
};

/// Reads `bytes` as a subscription and as an assignment, and assigns partitions by the first. True if
/// they are one of both.
pub(crate) fn read(bytes: &[u8]) -> bool {
    let subscribed = read_subscription(bytes);
    if let Ok(topics) = &subscribed {
        assert_eq!(read_subscription(&subscription(topics)), Ok(topics.clone()));
        let partitions = topics.iter().map(|topic| (topic.clone(), 7)).collect();
        let members: Vec<Subscriber> = [None, Some("i".to_owned()), None]
            .into_iter()
            .map(|instance| Subscriber {
                member: "m".to_owned(),
                instance,
                topics: topics.clone(),
            })
            .collect();
        let shares = range(&members, &partitions);
        for topic in topics {
            let given = shares.iter().filter_map(|share| share.get(topic));
            assert_eq!(given.map(Vec::len).sum::<usize>(), 7, "{topic}");
        }
    }
    let assigned = read_assignment(bytes);
    if let Ok(topics) = &assigned {
        assert_eq!(read_assignment(&assignment(topics)), Ok(topics.clone()));
    }
    subscribed.is_ok() || assigned.is_ok()
}
