//! The table of Kafka's APIs: what is served, and whatever differs from one API to the next. What is not in it is
//! neither advertised nor answered.
//!
//! To add an API, add its line here, in the order of the keys, and its handler in `handlers`.
//!
//! | column | meaning |
//! |---|---|
//! | key | Kafka's name of it, in metrics, logs and the documentation too |
//! | request | the codec's type. Served is every version for which the codec has both the request and the response |
//! | handler | the file in `handlers` and the function in it |
//! | overlap | how its calls relate to those around them: an [`Overlap`](super::call::Overlap) |
//! | shape | the fields of a request in the notation of [`guard::shape`](super::guard::shape), for the guard |
//! | remarks | what a user should know, in Markdown: its cell in `docs/compatibility.md` |
//!
//! From it come [`APIS`], in which the versions and shapes are looked up and which ApiVersions answers; the dispatch to
//! the handlers (`handlers::dispatch`); the table of the documentation ([`served_apis`]); and what tests and fuzzers
//! know of the types of requests ([`with_request_type`]).
//!
//! This file names the handlers but does not import them: only `handlers::dispatch` does. So a handler may look at the
//! table.

use std::fmt::Write;
use std::sync::LazyLock;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Message, Request, VersionRange};

use super::guard::shape::Shape;

/// Hands the table to the macro `$then`, behind the tokens `$given`.
macro_rules! every_api {
    ($then:ident $($given:tt)*) => {
        $then! { $($given)*
            Produce(ProduceRequest) => produce::produce, Append,
                "s? 2 4 [s@-12 16@13+ [4 b?]]",
                "record batches of format v2 only; topic ids from 13";
            Fetch(FetchRequest) => fetch::fetch, LongRead,
                "4@-14 4 4 4 1 4@7+ 4@7+ [s@-12 16@13+ [4 4@9+ 8 4@12+ 8@5+ 4 #0:16@17+ #1:8@18+]] \
                 [s@-12 16@13+ *4]@7+ s@11+ #0:s?@12+ #1:{4 8}@15+",
                "topic ids from 13; no fetch sessions, see below";
            ListOffsets(ListOffsetsRequest) => partition_offsets::list_offsets, Alone,
                "4 1@2+ [s [4 4@4+ 8]] 4@10+",
                "timestamps -1 to -5, other negative ones are refused; by time exact to the record";
            Metadata(MetadataRequest) => metadata::metadata, Look,
                "[16@10+ s?]? 1@4+ 1@8-10 1@8+",
                "topic ids from 10";
            OffsetCommit(OffsetCommitRequest) => committed_offsets::commit, Alone,
                "s 4 s s?@7+ 8@2-4 [s [4 8 4@6+ s?]]",
                "10 (topic ids) is not in the codec yet";
            OffsetFetch(OffsetFetchRequest) => committed_offsets::fetch, Alone,
                "s@-7 [s *4]?@-7 [s s?@9+ 4@9+ [s *4]?]@8+ 1@7+",
                "10 (topic ids) is not in the codec yet";
            FindCoordinator(FindCoordinatorRequest) => cluster::find_coordinator, Look,
                "s@-3 1@1+ *s@4+",
                "groups only";
            JoinGroup(JoinGroupRequest) => groups::join, LongWait,
                "s 4 4@1+ s s?@5+ s [s b] s?@8+",
                "static members, cooperative rebalancing, known member ids (KIP-394)";
            Heartbeat(HeartbeatRequest) => groups::heartbeat, Alone,
                "s 4 s s?@3+",
                "";
            LeaveGroup(LeaveGroupRequest) => groups::leave, Alone,
                "s s@-2 [s s? s?@5+]@3+",
                "";
            SyncGroup(SyncGroupRequest) => groups::sync, LongWait,
                "s 4 s s?@3+ s?@5+ s?@5+ [s b]",
                "";
            DescribeGroups(DescribeGroupsRequest) => group_admin::describe, Alone,
                "*s 1@3+",
                "";
            ListGroups(ListGroupsRequest) => group_admin::list, Alone,
                "*s@4+ *s@5+",
                "all groups are of type `classic`";
            SaslHandshake(SaslHandshakeRequest) => sasl::handshake, Alone,
                "s",
                "PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512, on listeners that ask for a login";
            ApiVersions(ApiVersionsRequest) => api_versions::api_versions, Alone,
                "s@3+ s@3+",
                "a newer version is answered in version 0 with error 35 (KIP-511)";
            CreateTopics(CreateTopicsRequest) => topics::create, Alone,
                "[s 4 2 [4 *4] [s s?]] 4 1",
                "";
            DeleteTopics(DeleteTopicsRequest) => topics::delete, Alone,
                "[s? 16]@6+ *s@-5 4",
                "by name and by id";
            DeleteRecords(DeleteRecordsRequest) => partition_offsets::delete_records, Alone,
                "[s [4 8]] 4",
                "";
            InitProducerId(InitProducerIdRequest) => producers::init_producer_id, Alone,
                "s? 4 8@3+ 2@3+",
                "idempotent producers; 6 (two-phase commit) is not in the codec yet";
            OffsetForLeaderEpoch(OffsetForLeaderEpochRequest) => partition_offsets::offset_for_leader_epoch, Alone,
                "4@3+ [s [4 4 4]]",
                "there is one leader epoch, 0, for ever";
            DescribeAcls(DescribeAclsRequest) => acls::describe, Alone,
                "1 s? 1 s? s? 1 1",
                "";
            CreateAcls(CreateAclsRequest) => acls::create, Alone,
                "[1 s 1 s s 1 1]",
                "refused until there is a superuser: `weir user create`";
            DeleteAcls(DeleteAclsRequest) => acls::delete, Alone,
                "[1 s? 1 s? s? 1 1]",
                "";
            DescribeConfigs(DescribeConfigsRequest) => configs::describe, Alone,
                "[1 s *s?] 1 1@3+",
                "";
            AlterConfigs(AlterConfigsRequest) => configs::alter, Alone,
                "[1 s [s s?]] 1",
                "";
            DescribeLogDirs(DescribeLogDirsRequest) => log_dirs::describe, Alone,
                "[s *4]?",
                "one directory, the store; its size and what is free are not known (-1)";
            SaslAuthenticate(SaslAuthenticateRequest) => sasl::authenticate, Alone,
                "b",
                "re-authentication (KIP-368)";
            CreatePartitions(CreatePartitionsRequest) => topics::create_partitions, Alone,
                "[s 4 [*4]?] 4 1",
                "";
            DeleteGroups(DeleteGroupsRequest) => group_admin::delete, Alone,
                "*s",
                "";
            IncrementalAlterConfigs(IncrementalAlterConfigsRequest) => configs::incremental_alter, Alone,
                "[1 s [s 1 s?]] 1",
                "";
            OffsetDelete(OffsetDeleteRequest) => committed_offsets::delete, Alone,
                "s [s [4]]",
                "";
            DescribeUserScramCredentials(DescribeUserScramCredentialsRequest) => passwords::describe, Alone,
                "[s]?",
                "";
            AlterUserScramCredentials(AlterUserScramCredentialsRequest) => passwords::alter, Alone,
                "[s 1] [s 1 4 b b]",
                "refused until there is a superuser: `weir user create`";
            DescribeCluster(DescribeClusterRequest) => cluster::describe, Alone,
                "1 1@1+ 1@2+",
                "endpoint type `brokers` only";
            DescribeTopicPartitions(DescribeTopicPartitionsRequest) => metadata::describe_topic_partitions, Alone,
                "[s] 4 ?{s 4}",
                "at most 2,000 partitions an answer";
        }
    };
}
pub(crate) use every_api;

/// What the table says of an API, as far as it is data.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    /// Kafka's name of it.
    pub(crate) name: &'static str,
    /// The versions that are served.
    pub(crate) versions: VersionRange,
    /// The fields of its requests, parsed when they are first needed.
    pub(crate) shape: LazyLock<Shape>,
    remarks: &'static str,
}

macro_rules! data {
    ($($api:ident($request:ident) => $file:ident::$handler:ident, $overlap:ident, $shape:literal, $remarks:literal;)*) => {
        /// Everything that is served, by key.
        pub(crate) static APIS: [Api; [$(ApiKey::$api),*].len()] = [$(
            Api {
                key: ApiKey::$api,
                name: stringify!($api),
                versions: versions::<kafka_protocol::messages::$request>(),
                shape: LazyLock::new(|| Shape::of($shape)),
                remarks: $remarks,
            },
        )*];
    };
}
every_api!(data);

/// All versions for which the codec has both the request and the response.
const fn versions<R: Request>() -> VersionRange {
    let (ask, answer) = (R::VERSIONS, <R::Response as Message>::VERSIONS);
    VersionRange {
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
    }
}

/// The API of a key on the wire, if it is served.
pub(crate) fn find(key: i16) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key as i16 == key)
}

impl Api {
    /// Whether this version of it is served.
    pub(crate) fn has(&self, version: i16) -> bool {
        (self.versions.min..=self.versions.max).contains(&version)
    }

    /// Whether lengths are compact in this version, and structs end in tagged fields (KIP-482).
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        self.key.request_header_version(version) >= 2
    }
}

/// The table for users, in Markdown: that of `docs/compatibility.md`.
pub fn served_apis() -> String {
    let mut page = "| API | versions | remarks |\n|---|---|---|\n".to_owned();
    for api in &APIS {
        let VersionRange { min, max } = api.versions;
        let versions = if min == max {
            min.to_string()
        } else {
            format!("{min}–{max}")
        };
        let remarks = if api.remarks.is_empty() {
            String::new()
        } else {
            format!("{} ", api.remarks)
        };
        let _ = writeln!(page, "| {} | {versions} | {remarks}|", api.name);
    }
    page
}

/// Runs an expression with `$R` standing for the request type of an API. It calls itself, so import it by its name.
#[cfg(any(test, doc, feature = "fuzzing"))]
macro_rules! with_request_type {
    ($key:expr, $R:ident => $body:expr, else $other:expr) => {
        $crate::kafka::apis::every_api! { with_request_type @ $key, $R, $body, $other; }
    };
    (
        @ $key:expr, $R:ident, $body:expr, $other:expr;
        $($api:ident($request:ident) => $file:ident::$handler:ident, $overlap:ident, $shape:literal, $remarks:literal;)*
    ) => {
        match $key {
            $(kafka_protocol::messages::ApiKey::$api => {
                type $R = kafka_protocol::messages::$request;
                $body
            })*
            _ => $other,
        }
    };
}
#[cfg(any(test, doc, feature = "fuzzing"))]
pub(crate) use with_request_type;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_by_key_and_every_api_has_versions_and_a_shape() {
        assert!(APIS.is_sorted_by_key(|api| api.key as i16));
        for api in &APIS {
            assert!(!api.versions.is_empty(), "{}", api.name);
            // Panics where it is not well-formed.
            LazyLock::force(&api.shape);
        }
        assert_eq!(APIS.len(), 35);
    }

    #[test]
    fn the_newest_versions_are_those_of_kafka_4_1() {
        for (key, max) in [
            (ApiKey::Produce, 13),
            (ApiKey::Fetch, 18),
            (ApiKey::Metadata, 13),
            (ApiKey::OffsetCommit, 9),
            (ApiKey::OffsetFetch, 9),
            (ApiKey::JoinGroup, 9),
            (ApiKey::ApiVersions, 4),
        ] {
            assert_eq!(find(key as i16).unwrap().versions.max, max, "{key:?}");
        }
    }
}
