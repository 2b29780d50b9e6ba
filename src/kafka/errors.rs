//! The broker's errors as Kafka's error codes. No other file chooses one for a broker error.
//!
//! A code is chosen by what clients do with it. A store that cannot be reached must look retriable to
//! each client and each API: Java's consumer throws on most codes in a Fetch but refreshes its
//! metadata on `KAFKA_STORAGE_ERROR`; every group API of every client takes `NOT_COORDINATOR` as "ask
//! again where the coordinator is and repeat".

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;

use crate::broker::{
    DeleteRecordsError, Denied, DynamicConfigError, FetchError, GroupOpError, ListOffsetsError,
    NewProducerError, ProduceError, Resource, SizesError, TopicError, TopicNotFound, TopicRef,
    Unavailable, UsersError,
};
use crate::manifest::Stopped;
use crate::segment::Fault as Kind;
use crate::state::access::AccessError;

/// An error as it goes on the wire: a code and, where the API has a field for it, a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: ResponseError,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(code: ResponseError, message: impl Into<String>) -> Fault {
        Fault {
            code,
            message: message.into(),
        }
    }

    /// The sentence for the wire, short enough for a string of every version.
    pub(crate) fn text(&self) -> Option<StrBytes> {
        const MAX_LEN: usize = 4096;
        let end = self.message.floor_char_boundary(MAX_LEN);
        Some(StrBytes::from_string(self.message[..end].to_owned()))
    }

    /// For clients that do not know a code (as Kafka does): `KAFKA_STORAGE_ERROR` came with
    /// Produce 4 and Fetch 6.
    fn known_since(mut self, version: i16, since: i16) -> Fault {
        if self.code == ResponseError::KafkaStorageError && version < since {
            self.code = ResponseError::NotLeaderOrFollower;
        }
        self
    }
}

/// A broker error in a Produce response.
pub(crate) fn produce(error: &ProduceError, version: i16) -> Fault {
    use ResponseError as Code;
    let code = match error {
        ProduceError::TopicNotFound(missing) => no_topic(missing),
        ProduceError::PartitionNotFound(_) => Code::UnknownTopicOrPartition,
        ProduceError::InternalTopic(_) => Code::InvalidTopicException,
        ProduceError::Batch { source, .. } => match source.fault() {
            Kind::TooLarge => Code::MessageTooLarge,
            Kind::Corrupt => Code::CorruptMessage,
            // Kafka's answer to batches before v2 in a Produce request of version 3 or newer.
            Kind::UnsupportedFormat | Kind::Invalid => Code::InvalidRecord,
            Kind::UnsupportedCodec => Code::UnsupportedCompressionType,
        },
        ProduceError::Records { refused, .. } => {
            if refused.iter().any(|record| record.why.is_of_time()) {
                Code::InvalidTimestamp
            } else {
                Code::InvalidRecord
            }
        }
        ProduceError::FencedProducer(_) => Code::InvalidProducerEpoch,
        ProduceError::OutOfOrderSequence(_) => Code::OutOfOrderSequenceNumber,
        ProduceError::Rejected(_) => Code::InvalidRecord,
        ProduceError::Denied(why) => return denied(why),
        ProduceError::Unavailable(why) => of_data(why),
    };
    Fault::new(code, error.to_string()).known_since(version, 4)
}

/// A broker error in a Fetch response.
pub(crate) fn fetch(error: &FetchError, version: i16) -> Fault {
    use ResponseError as Code;
    let code = match error {
        FetchError::TopicNotFound(missing) => no_topic(missing),
        FetchError::PartitionNotFound(_) => Code::UnknownTopicOrPartition,
        FetchError::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
        FetchError::UnknownLeaderEpoch(_) => Code::UnknownLeaderEpoch,
        FetchError::Corrupt(_) | FetchError::Unshown(_) => Code::CorruptMessage,
        FetchError::Denied(why) => return denied(why),
        // Not REQUEST_TIMED_OUT: Java's consumer throws on it here.
        FetchError::Unavailable(
            Unavailable::TimedOut
            | Unavailable::Overtaken
            | Unavailable::Store(_)
            | Unavailable::Retry(_)
            | Unavailable::NotRegistered
            | Unavailable::NoEndpoint { .. }
            | Unavailable::Clock(_)
            | Unavailable::Internal(_),
        ) => Code::KafkaStorageError,
        FetchError::Unavailable(Unavailable::Stopped(_) | Unavailable::RegistrationRefused(_)) => {
            Code::NotLeaderOrFollower
        }
    };
    Fault::new(code, error.to_string()).known_since(version, 6)
}

/// A broker error in a ListOffsets or OffsetForLeaderEpoch response.
pub(crate) fn list_offsets(error: &ListOffsetsError) -> Fault {
    use ResponseError as Code;
    let code = match error {
        ListOffsetsError::TopicNotFound(_) | ListOffsetsError::PartitionNotFound(_) => {
            Code::UnknownTopicOrPartition
        }
        ListOffsetsError::UnknownLeaderEpoch(_) => Code::UnknownLeaderEpoch,
        ListOffsetsError::Corrupt(_) => Code::CorruptMessage,
        ListOffsetsError::Denied(why) => return denied(why),
        ListOffsetsError::Unavailable(why) => of_data(why),
    };
    Fault::new(code, error.to_string())
}

/// A broker error in a DeleteRecords response.
pub(crate) fn delete_records(error: &DeleteRecordsError) -> Fault {
    use ResponseError as Code;
    let code = match error {
        DeleteRecordsError::TopicNotFound(_) | DeleteRecordsError::PartitionNotFound(_) => {
            Code::UnknownTopicOrPartition
        }
        DeleteRecordsError::InternalTopic(_) => Code::InvalidTopicException,
        DeleteRecordsError::OffsetOutOfRange { .. } => Code::OffsetOutOfRange,
        DeleteRecordsError::Denied(why) => return denied(why),
        DeleteRecordsError::Unavailable(why) => of_data(why),
    };
    Fault::new(code, error.to_string())
}

/// A broker error about topics or settings.
pub(crate) fn topic(error: &TopicError) -> Fault {
    use ResponseError as Code;
    let code = match error {
        TopicError::NotFound(missing) => no_topic(missing),
        TopicError::Exists(_) => Code::TopicAlreadyExists,
        TopicError::InvalidName(_) | TopicError::Collides { .. } => Code::InvalidTopicException,
        TopicError::InvalidPartitions { .. } | TopicError::NotMorePartitions { .. } => {
            Code::InvalidPartitions
        }
        TopicError::InvalidReplicationFactor { .. } => Code::InvalidReplicationFactor,
        TopicError::InvalidReplicaAssignment | TopicError::IncompleteAssignment { .. } => {
            Code::InvalidReplicaAssignment
        }
        TopicError::TooManyTopics { .. } | TopicError::TooManyPartitions { .. } => {
            Code::PolicyViolation
        }
        TopicError::InvalidRequest(_) => Code::InvalidRequest,
        TopicError::InvalidConfig(DynamicConfigError::ReadOnly { .. }) => Code::InvalidRequest,
        TopicError::InvalidConfig(
            DynamicConfigError::Unknown { .. }
            | DynamicConfigError::Invalid { .. }
            | DynamicConfigError::OfCluster { .. },
        ) => Code::InvalidConfig,
        TopicError::Denied(why) => return denied(why),
        TopicError::Unavailable(why) => return admin(why),
    };
    Fault::new(code, error.to_string())
}

/// Why nothing could be said of a topic in a Metadata response: clients ask again.
pub(crate) fn metadata(error: &TopicError) -> Fault {
    match error {
        TopicError::Unavailable(why) => {
            Fault::new(ResponseError::LeaderNotAvailable, why.to_string())
        }
        error => topic(error),
    }
}

/// The whole of an administrative call could not be carried out.
pub(crate) fn admin(why: &Unavailable) -> Fault {
    let code = match why {
        Unavailable::TimedOut | Unavailable::Overtaken => ResponseError::RequestTimedOut,
        Unavailable::Store(_)
        | Unavailable::Retry(_)
        | Unavailable::NotRegistered
        | Unavailable::NoEndpoint { .. }
        | Unavailable::Clock(_)
        | Unavailable::Internal(_) => ResponseError::KafkaStorageError,
        // It will not fit the next time either.
        Unavailable::Stopped(Stopped::TooLarge { .. }) => ResponseError::InvalidRequest,
        // Admin clients look for the controller again and repeat.
        Unavailable::Stopped(_) | Unavailable::RegistrationRefused(_) => {
            ResponseError::NotController
        }
    };
    Fault::new(code, why.to_string())
}

/// Users or access rules were not shown or changed.
pub(crate) fn users(error: &UsersError) -> Fault {
    match error {
        UsersError::Denied(why) => denied(why),
        UsersError::Refused(why) => access(why),
        UsersError::TooMany(_) => Fault::new(ResponseError::InvalidRequest, error.to_string()),
        UsersError::Unavailable(why) => admin(why),
    }
}

/// Why a user or an access rule was not changed.
pub(crate) fn access(error: &AccessError) -> Fault {
    use ResponseError as Code;
    let code = match error {
        AccessError::LevelTooLow => Code::UnsupportedVersion,
        AccessError::UserExists(_) => Code::DuplicateResource,
        AccessError::UnknownUser(_) | AccessError::NoVerifier { .. } => Code::ResourceNotFound,
        // What Kafka says where no authorizer is configured.
        AccessError::NoAdministrator | AccessError::OpensToEverybody => Code::SecurityDisabled,
        AccessError::NoAdministratorWithPassword | AccessError::TooMany { .. } => {
            Code::PolicyViolation
        }
        AccessError::Invalid(_) => Code::InvalidRequest,
    };
    Fault::new(code, error.to_string())
}

/// The sizes of partitions are not known.
pub(crate) fn log_dirs(error: &SizesError) -> Fault {
    match error {
        SizesError::Denied(why) => denied(why),
        // What Kafka says of a directory that is offline.
        SizesError::Unavailable(why) => {
            Fault::new(ResponseError::KafkaStorageError, why.to_string())
        }
    }
}

/// A broker error of a group.
pub(crate) fn group(error: &GroupOpError) -> Fault {
    use ResponseError as Code;
    let code = match error {
        GroupOpError::InvalidGroupId => Code::InvalidGroupId,
        GroupOpError::MemberIdRequired(_) => Code::MemberIdRequired,
        GroupOpError::UnknownMember(_) => Code::UnknownMemberId,
        GroupOpError::FencedInstance(_) => Code::FencedInstanceId,
        GroupOpError::IllegalGeneration { .. } => Code::IllegalGeneration,
        GroupOpError::RebalanceInProgress => Code::RebalanceInProgress,
        GroupOpError::InconsistentProtocol => Code::InconsistentGroupProtocol,
        GroupOpError::InvalidSessionTimeout { .. } => Code::InvalidSessionTimeout,
        GroupOpError::GroupMaxSizeReached(_) => Code::GroupMaxSizeReached,
        GroupOpError::GroupIdNotFound => Code::GroupIdNotFound,
        GroupOpError::NonEmptyGroup => Code::NonEmptyGroup,
        GroupOpError::GroupSubscribedToTopic => Code::GroupSubscribedToTopic,
        GroupOpError::OffsetMetadataTooLarge { .. } => Code::OffsetMetadataTooLarge,
        GroupOpError::UnknownPartition => Code::UnknownTopicOrPartition,
        GroupOpError::TooLarge { .. } | GroupOpError::RequestTooLarge { .. } => {
            Code::InvalidRequest
        }
        GroupOpError::Denied(why) => return denied(why),
        GroupOpError::Unavailable(_) => Code::NotCoordinator,
    };
    Fault::new(code, error.to_string())
}

/// No coordinator can be told.
pub(crate) fn find_coordinator(why: &Unavailable) -> Fault {
    Fault::new(ResponseError::CoordinatorNotAvailable, why.to_string())
}

/// No producer id can be minted. Idempotent producers repeat on this code and on no other of its kind.
pub(crate) fn init_producer_id(error: &NewProducerError) -> Fault {
    match error {
        NewProducerError::Denied(why) => denied(why),
        NewProducerError::Unavailable(why) => {
            Fault::new(ResponseError::CoordinatorLoadInProgress, why.to_string())
        }
    }
}

/// The client may not do that. The sentence does not say the name of the resource, which the client may not know: it
/// can name a topic by its id.
pub(crate) fn denied(why: &Denied) -> Fault {
    use ResponseError as Code;
    let (code, what) = match &why.resource {
        Resource::Topic(_) => (Code::TopicAuthorizationFailed, "this topic"),
        Resource::Group(_) => (Code::GroupAuthorizationFailed, "this group"),
        Resource::Cluster => (Code::ClusterAuthorizationFailed, "the cluster"),
        Resource::TransactionalId(_) => (
            Code::TransactionalIdAuthorizationFailed,
            "this transactional id",
        ),
    };
    let Denied {
        principal, action, ..
    } = why;
    Fault::new(code, format!("{principal} may not {action} {what}"))
}

/// There is no topic of that name, or of that id.
fn no_topic(TopicNotFound(topic): &TopicNotFound) -> ResponseError {
    match topic {
        TopicRef::Name(_) => ResponseError::UnknownTopicOrPartition,
        TopicRef::Id(_) => ResponseError::UnknownTopicId,
    }
}

/// The partition's data cannot be reached or written.
fn of_data(why: &Unavailable) -> ResponseError {
    match why {
        Unavailable::TimedOut | Unavailable::Overtaken => ResponseError::RequestTimedOut,
        Unavailable::Store(_)
        | Unavailable::Retry(_)
        | Unavailable::NotRegistered
        | Unavailable::NoEndpoint { .. }
        | Unavailable::Clock(_)
        | Unavailable::Internal(_) => ResponseError::KafkaStorageError,
        // Clients refresh their metadata and go to another node.
        Unavailable::Stopped(_) | Unavailable::RegistrationRefused(_) => {
            ResponseError::NotLeaderOrFollower
        }
    }
}

/// Kafka's name of a code, for metrics: one of a bounded set, as the codes sent are this file's.
pub(crate) fn name(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        None => "none".to_owned(),
        Some(ResponseError::Unknown(_)) => "other".to_owned(),
        Some(code) => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::op::AppendRejected;
    use crate::store::{ObjectPath, StoreError};
    use crate::types::TopicId;

    fn gone() -> Unavailable {
        let error = StoreError::NotFound {
            path: ObjectPath::cluster(),
        };
        Unavailable::Store(error.into())
    }

    #[test]
    fn what_can_not_be_done_now_looks_retriable_to_every_api() {
        let listener = "kafka".to_owned();
        for why in [
            gone(),
            Unavailable::Retry(AppendRejected::UnknownTopic(TopicId::default())),
            Unavailable::NotRegistered,
            Unavailable::NoEndpoint { listener },
            Unavailable::Internal("something else"),
        ] {
            looks_retriable(&|| why.clone());
        }
    }

    fn looks_retriable(gone: &dyn Fn() -> Unavailable) {
        let codes = [
            produce(&gone().into(), 3).code,
            produce(&gone().into(), 13).code,
            fetch(&gone().into(), 4).code,
            fetch(&gone().into(), 18).code,
            list_offsets(&gone().into()).code,
            delete_records(&gone().into()).code,
            metadata(&gone().into()).code,
            group(&gone().into()).code,
            find_coordinator(&gone()).code,
            init_producer_id(&gone().into()).code,
            admin(&gone()).code,
        ];
        for code in codes {
            assert!(code.is_retriable(), "{code}");
            assert_ne!(name(code.code()), "other");
        }
    }

    #[test]
    fn a_code_is_not_sent_to_clients_older_than_it() {
        assert_eq!(
            produce(&gone().into(), 3).code,
            ResponseError::NotLeaderOrFollower
        );
        assert_eq!(
            fetch(&gone().into(), 5).code,
            ResponseError::NotLeaderOrFollower
        );
        assert_eq!(
            fetch(&gone().into(), 6).code,
            ResponseError::KafkaStorageError
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let fault = Fault::new(ResponseError::InvalidRequest, "ä".repeat(5000));
        assert_eq!(fault.text().unwrap().len(), 4096);
    }
}
