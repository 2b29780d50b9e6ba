//! Records as JSON lines: what `weir consume --output json` writes and `weir produce --format json` reads.
//!
//! ```json
//! {"topic":"t","partition":0,"offset":5,"timestamp":1767225600000,"key":"k","value":"v","headers":[["h","x"]]}
//! ```
//!
//! Bytes that are not UTF-8 are `{"base64":"..."}`; null is null. Read, everything but `value` may be absent,
//! and `topic` and `offset` are ignored, so that what was written can be read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::embedded::{ConsumedRecord, Record};
use crate::types::{PartitionIndex, Timestamp};

/// Bytes as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum JsonBytes {
    Text(String),
    Base64 { base64: String },
}

impl JsonBytes {
    fn of(bytes: &Bytes) -> JsonBytes {
        match std::str::from_utf8(bytes) {
            Ok(text) => JsonBytes::Text(text.to_owned()),
            Err(_) => JsonBytes::Base64 {
                base64: STANDARD.encode(bytes),
            },
        }
    }

    fn read(self) -> Result<Bytes, String> {
        match self {
            JsonBytes::Text(text) => Ok(text.into()),
            JsonBytes::Base64 { base64 } => STANDARD
                .decode(base64)
                .map(Bytes::from)
                .map_err(|error| format!("base64: {error}")),
        }
    }
}

#[derive(Serialize)]
struct Written<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<JsonBytes>,
    value: Option<JsonBytes>,
    headers: Vec<(&'a str, Option<JsonBytes>)>,
}

/// A consumed record as a JSON line, without the line's end.
pub(super) fn to_json(record: &ConsumedRecord) -> Result<String, serde_json::Error> {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map(JsonBytes::of);
    serde_json::to_string(&Written {
        topic: record.topic.as_str(),
        partition: record.partition.0,
        offset: record.offset.0,
        timestamp: record.timestamp.0,
        key: of(&record.key),
        value: of(&record.value),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), of(value)))
            .collect(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(default, rename = "topic")]
    _topic: Option<String>,
    #[serde(default, rename = "offset")]
    _offset: Option<i64>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    key: Option<JsonBytes>,
    value: Option<JsonBytes>,
    #[serde(default)]
    headers: Vec<(String, Option<JsonBytes>)>,
}

/// A record to produce, from a JSON line.
pub(super) fn from_json(line: &[u8]) -> Result<Record, String> {
    let read: Read = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let bytes = |value: Option<JsonBytes>| value.map(JsonBytes::read).transpose();
    let mut headers = Vec::new();
    for (name, value) in read.headers {
        headers.push((name, bytes(value)?));
    }
    Ok(Record {
        key: bytes(read.key)?,
        value: bytes(read.value)?,
        headers,
        timestamp: read.timestamp.map(Timestamp),
        partition: read.partition.map(PartitionIndex),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Offset, TopicName};

    #[test]
    fn what_is_written_can_be_read() {
        let consumed = ConsumedRecord {
            topic: TopicName::new("t").unwrap(),
            partition: PartitionIndex(3),
            offset: Offset(5),
            timestamp: Timestamp(1_767_225_600_000),
            key: Some(Bytes::from_static(b"\xff\x00")),
            value: Some("wörd \"quoted\"\n".into()),
            headers: vec![("a".to_owned(), Some("1".into())), ("a".to_owned(), None)],
        };
        let line = to_json(&consumed).unwrap();
        assert!(!line.contains('\n'));
        let read = from_json(line.as_bytes()).unwrap();
        assert_eq!(read.partition, Some(PartitionIndex(3)));
        assert_eq!(read.timestamp, Some(Timestamp(1_767_225_600_000)));
        assert_eq!((read.key, read.value), (consumed.key, consumed.value));
        assert_eq!(read.headers, consumed.headers);
    }

    #[test]
    fn only_a_value_is_needed_and_a_tombstone_is_null() {
        let read = from_json(br#"{"value":"v"}"#).unwrap();
        assert_eq!(read, Record::of_value("v"));
        let read = from_json(br#"{"key":"k","value":null}"#).unwrap();
        assert_eq!((read.key, read.value), (Some("k".into()), None));
        for bad in [
            r#"{"value":"v","vlaue":1}"#,
            r#"{"value":1}"#,
            r#"{"value":{"base64":"***"}}"#,
            "hello",
            "",
        ] {
            assert!(from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
