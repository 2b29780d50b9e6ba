//! The APIs that are offered and their versions. What is not here is not advertised and not answered.

use kafka_protocol::messages::{
    AlterConfigsRequest, ApiKey, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::{Message, Request, VersionRange};

/// An API with the versions of it that are offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offered {
    pub(crate) api: ApiKey,
    pub(crate) versions: VersionRange,
    /// Kafka's name of it, for metrics and logs.
    pub(crate) name: &'static str,
}

/// All versions for which the codec has both the request and the response.
const fn offered<R: Request>(api: ApiKey, name: &'static str) -> Offered {
    let (ask, answer) = (R::VERSIONS, <R::Response as Message>::VERSIONS);
    let versions = VersionRange {
        min: if ask.min > answer.min {
            ask.min
        } else {
            answer.min
        },
        max: if ask.max < answer.max {
            ask.max
        } else {
            answer.max
        },
    };
    Offered {
        api,
        versions,
        name,
    }
}

macro_rules! table {
    ($($api:ident: $request:ty,)*) => {
        /// Everything that is offered, by key.
        pub(crate) const OFFERED: &[Offered] = &[
            $(offered::<$request>(ApiKey::$api, stringify!($api)),)*
        ];
    };
}

table! {
    Produce: ProduceRequest,
    Fetch: FetchRequest,
    ListOffsets: ListOffsetsRequest,
    Metadata: MetadataRequest,
    OffsetCommit: OffsetCommitRequest,
    OffsetFetch: OffsetFetchRequest,
    FindCoordinator: FindCoordinatorRequest,
    JoinGroup: JoinGroupRequest,
    Heartbeat: HeartbeatRequest,
    LeaveGroup: LeaveGroupRequest,
    SyncGroup: SyncGroupRequest,
    DescribeGroups: DescribeGroupsRequest,
    ListGroups: ListGroupsRequest,
    ApiVersions: ApiVersionsRequest,
    CreateTopics: CreateTopicsRequest,
    DeleteTopics: DeleteTopicsRequest,
    DeleteRecords: DeleteRecordsRequest,
    InitProducerId: InitProducerIdRequest,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
    DescribeConfigs: DescribeConfigsRequest,
    AlterConfigs: AlterConfigsRequest,
    DescribeLogDirs: DescribeLogDirsRequest,
    CreatePartitions: CreatePartitionsRequest,
    DeleteGroups: DeleteGroupsRequest,
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
    OffsetDelete: OffsetDeleteRequest,
    DescribeCluster: DescribeClusterRequest,
    DescribeTopicPartitions: DescribeTopicPartitionsRequest,
}

/// The API of a key on the wire, if it is offered.
pub(crate) fn find(key: i16) -> Option<&'static Offered> {
    OFFERED.iter().find(|offered| offered.api as i16 == key)
}

impl Offered {
    /// Whether this version of it is offered.
    pub(crate) fn has(&self, version: i16) -> bool {
        (self.versions.min..=self.versions.max).contains(&version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_by_key_and_every_api_has_versions() {
        assert!(OFFERED.is_sorted_by_key(|offered| offered.api as i16));
        for offered in OFFERED {
            assert!(!offered.versions.is_empty(), "{}", offered.name);
        }
        assert_eq!(OFFERED.len(), 28);
    }

    #[test]
    fn the_newest_versions_are_those_of_kafka_4_1() {
        for (api, max) in [
            (ApiKey::Produce, 13),
            (ApiKey::Fetch, 18),
            (ApiKey::Metadata, 13),
            (ApiKey::OffsetCommit, 9),
            (ApiKey::OffsetFetch, 9),
            (ApiKey::JoinGroup, 9),
            (ApiKey::ApiVersions, 4),
        ] {
            assert_eq!(find(api as i16).unwrap().versions.max, max, "{api:?}");
        }
    }
}
