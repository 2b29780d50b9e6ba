use std::collections::BTreeMap;
use std::time::Duration;

use super::definitions::{CLUSTER, NODE, OF_RECORDS, TOPIC, find};
use super::edit::{Edited, edits, initial, replacement};
use super::resolve::{Overrides, describe_cluster, describe_node, describe_topic};
use super::values::check;
use super::*;
use crate::config::{HostPort, ServeConfig};
use crate::types::{ByteCount, NodeId};

fn set(pairs: &[(&str, &str)]) -> Overrides {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// What was set for all.
fn all(cluster: &Overrides) -> Layers<'_> {
    static NOTHING: Overrides = Overrides::new();
    Layers {
        node: &NOTHING,
        cluster,
    }
}

fn edit(name: &str, edit: ConfigEdit) -> BTreeMap<String, ConfigEdit> {
    BTreeMap::from([(name.to_owned(), edit)])
}

#[test]
fn the_tables_are_ordered_by_name_and_their_defaults_pass_their_own_checks() {
    for table in [TOPIC, CLUSTER, NODE] {
        assert!(table.is_sorted_by(|a, b| a.name < b.name));
        for definition in table {
            if let Some(default) = definition.default {
                assert_eq!(
                    check(definition, default).as_deref(),
                    Ok(default),
                    "{}",
                    definition.name
                );
            }
            for fallback in definition.falls_back_to {
                assert!(find(CLUSTER, fallback.name).is_some(), "{}", fallback.name);
            }
            assert!(
                definition.documentation.ends_with('.'),
                "{}",
                definition.name
            );
        }
    }
}

#[test]
fn a_topic_setting_and_what_it_falls_back_to_have_the_same_default() {
    for definition in TOPIC {
        let described = describe_topic(
            &set(&[]),
            all(&set(&[])),
            Some(&[definition.name.to_owned()]),
        );
        assert_eq!(
            described[0].value.as_deref(),
            definition.default,
            "{}",
            definition.name
        );
    }
}

#[test]
fn the_docs_say_of_every_topic_setting_who_enforces_it_or_why_nobody_does() {
    let page = include_str!("../../docs/compatibility.md");
    let (_, section) = page.split_once("### Topic settings").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    for definition in TOPIC {
        let rows = section.lines().filter(|line| {
            let setting = line.split('|').nth(1).unwrap_or_default();
            setting.contains(&format!("`{}`", definition.name))
        });
        assert_eq!(rows.count(), 1, "{}", definition.name);
    }
}

#[test]
fn every_topic_setting_of_kafka_is_there() {
    let names: Vec<&str> = TOPIC.iter().map(|d| d.name).collect();
    for name in [
        "cleanup.policy",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "remote.storage.enable",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
        "unclean.leader.election.enable",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn settings_of_the_archive_take_units_and_say_what_is_not_built() {
    let checked = |name, value| check(find(TOPIC, name).unwrap(), value);
    for (name, value, stored) in [
        ("archive.lag", "5s", "5000"),
        ("archive.lag", "1500", "1500"),
        ("archive.lag", "30min", "1800000"),
        ("archive.retention.ms", "365d", "31536000000"),
        ("archive.retention.ms", "-1", "-1"),
        ("archive.retention.bytes", "10GiB", "10737418240"),
        ("archive.serve", "FALSE", "false"),
    ] {
        assert_eq!(
            checked(name, value).as_deref(),
            Ok(stored),
            "{name}={value}"
        );
    }
    for (name, value, says) in [
        ("archive.lag", "-1", "duration such as 30min"),
        ("archive.lag", "soon", "duration such as 30min"),
        ("archive.retention.bytes", "much", "size such as 10GiB"),
        (
            "archive.serve",
            "true",
            "cannot serve consumers from the archive yet",
        ),
        (
            "archive.value.format",
            "avro",
            "cannot make columns of avro yet",
        ),
        ("archive.value.format", "xml", "must be one of bytes"),
        ("archive.value.schema", "{", "not a JSON object"),
        ("archive.partition", "week", "none, hour, day, month"),
    ] {
        let error = checked(name, value).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(name), "{error}");
    }
}

#[test]
fn a_topic_is_archived_as_it_says_or_else_as_the_cluster_says() {
    let cluster = set(&[("archive.enable", "true"), ("archive.lag", "1000")]);
    let topic = set(&[("archive.lag", "5"), ("archive.retention.ms", "-1")]);
    let in_force = ArchiveConfig::effective(&topic, &cluster);
    assert!(in_force.enable && in_force.hint);
    assert_eq!(in_force.lag, Duration::from_millis(5));
    assert_eq!((in_force.retention, in_force.retention_bytes), (None, None));
    assert_eq!(in_force.partition, "day");
    assert!(!ArchiveConfig::effective(&set(&[]), &set(&[])).enable);
}

#[test]
fn values_are_checked_by_kafkas_rules() {
    for (name, good, bad) in [
        ("cleanup.policy", "compact, delete", "archive"),
        ("cleanup.policy", "", "delete,delete"),
        ("cleanup.policy", "compact", "compact,"),
        ("compression.gzip.level", "-1", "0"),
        ("compression.gzip.level", "9", "10"),
        ("compression.lz4.level", "17", "18"),
        ("compression.zstd.level", "-131072", "23"),
        ("compression.type", "zstd", "ZSTD"),
        ("max.message.bytes", "0", "-1"),
        ("max.message.bytes", "2147483647", "2147483648"),
        ("retention.ms", "-1", "-2"),
        ("retention.ms", "9223372036854775807", "9223372036854775808"),
        ("retention.bytes", "-1", "1GB"),
        ("segment.bytes", "1048576", "1048575"),
        ("local.retention.ms", "-2", "-3"),
        ("min.cleanable.dirty.ratio", "1", "1.1"),
        ("min.cleanable.dirty.ratio", "0.25", "NaN"),
        ("preallocate", "TRUE", "yes"),
        ("message.timestamp.type", "LogAppendTime", "Later"),
        ("min.insync.replicas", "1", "0"),
        ("leader.replication.throttled.replicas", "*", "*,0:1"),
        ("leader.replication.throttled.replicas", "0:1,1:2", "0:"),
        ("flush.ms", " 10 ", "ten"),
    ] {
        let definition = find(TOPIC, name).unwrap();
        assert!(check(definition, good).is_ok(), "{name}={good}");
        let error = check(definition, bad).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let boolean = find(TOPIC, "preallocate").unwrap();
    assert_eq!(check(boolean, " True ").as_deref(), Ok("true"));
    let list = find(TOPIC, "cleanup.policy").unwrap();
    assert_eq!(
        check(list, " compact , delete ").as_deref(),
        Ok("compact,delete")
    );
}

#[test]
fn a_hostile_value_makes_a_short_error_of_one_line() {
    let definition = find(TOPIC, "cleanup.policy").unwrap();
    for value in ["x".repeat(1 << 20), "x\n".repeat(3000), ",a".repeat(9000)] {
        let error = check(definition, &value).unwrap_err().to_string();
        assert!(
            error.len() < 512 && !error.contains('\n'),
            "{}",
            error.len()
        );
    }
}

#[test]
fn a_topic_falls_back_to_the_cluster_and_hours_become_milliseconds() {
    let retention = |topic: &[(&str, &str)], cluster: &[(&str, &str)]| {
        TopicConfig::effective(&set(topic), &set(cluster)).retention
    };
    let hour = Duration::from_secs(3600);
    assert_eq!(retention(&[], &[]), Some(168 * hour));
    let mut cluster = vec![("log.retention.hours", "2")];
    assert_eq!(retention(&[], &cluster), Some(2 * hour));
    cluster.push(("log.retention.minutes", "30"));
    assert_eq!(retention(&[], &cluster), Some(hour / 2));
    cluster.push(("log.retention.ms", "5"));
    assert_eq!(retention(&[], &cluster), Some(Duration::from_millis(5)));
    assert_eq!(
        retention(&[("retention.ms", "7")], &cluster),
        Some(Duration::from_millis(7))
    );
    assert_eq!(retention(&[("retention.ms", "-1")], &cluster), None);
    assert_eq!(retention(&[], &[("log.retention.hours", "-1")]), None);
    assert_eq!(
        retention(&[], &[("log.retention.hours", "2147483647")]),
        Some(hour * 2_147_483_647)
    );
}

#[test]
fn the_typed_settings_have_kafkas_defaults() {
    let settings = TopicConfig::effective(&set(&[]), &set(&[]));
    let day = Duration::from_secs(86_400);
    let expected = TopicConfig {
        max_message_bytes: ByteCount(1_048_588),
        log_append_time: false,
        timestamp_before_max: None,
        timestamp_after_max: Some(Duration::from_secs(3600)),
        cleanup: CleanupPolicy {
            delete: true,
            compact: false,
        },
        retention: Some(7 * day),
        retention_bytes: None,
        segment_bytes: ByteCount::mib(1024),
        segment_time: 7 * day,
        delete_retention: day,
        min_compaction_lag: Duration::ZERO,
        max_compaction_lag: None,
        min_cleanable_dirty_ratio: 0.5,
        compression: Compression::Producer,
    };
    assert_eq!(settings, expected);
    let cluster = ClusterConfig::effective(&set(&[]));
    let expected = ClusterConfig {
        num_partitions: 1,
        default_replication_factor: 1,
        auto_create_topics: true,
        dedupe_buffer: ByteCount::mib(128),
    };
    assert_eq!(cluster, expected);
}

#[test]
fn the_typed_settings_follow_what_is_set() {
    let topic = set(&[
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "LogAppendTime"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "7"),
        ("retention.bytes", "1000"),
    ]);
    let cluster = set(&[
        ("message.max.bytes", "500"),
        ("num.partitions", "12"),
        ("auto.create.topics.enable", "false"),
        ("log.cleaner.dedupe.buffer.size", "2097152"),
        ("log.roll.ms", "60000"),
    ]);
    let settings = TopicConfig::effective(&topic, &cluster);
    assert_eq!(
        settings.cleanup,
        CleanupPolicy {
            delete: true,
            compact: true
        }
    );
    assert!(settings.log_append_time);
    assert_eq!(settings.compression, Compression::Zstd(7));
    assert_eq!(settings.retention_bytes, Some(ByteCount(1000)));
    assert_eq!(settings.max_message_bytes, ByteCount(500));
    assert_eq!(settings.segment_time, Duration::from_secs(60));
    let cluster = ClusterConfig::effective(&cluster);
    assert_eq!(
        (cluster.num_partitions, cluster.auto_create_topics),
        (12, false)
    );
    assert_eq!(cluster.dedupe_buffer, ByteCount::mib(2));
}

#[test]
fn a_stored_value_that_cannot_be_read_counts_as_not_set() {
    let topic = set(&[("max.message.bytes", "many"), ("retention.ms", "")]);
    let cluster = set(&[("log.retention.hours", "1")]);
    let settings = TopicConfig::effective(&topic, &cluster);
    assert_eq!(settings.max_message_bytes, ByteCount(1_048_588));
    assert_eq!(settings.retention, Some(Duration::from_secs(3600)));
}

#[test]
fn a_description_tells_value_source_and_synonyms_strongest_first() {
    let topic = set(&[("retention.ms", "7")]);
    let cluster = set(&[("log.retention.minutes", "30")]);
    let described = describe_topic(&topic, all(&cluster), None);
    assert_eq!(described.len(), TOPIC.len());
    let found = described.iter().find(|e| e.name == "retention.ms").unwrap();
    assert_eq!(
        (found.value.as_deref(), found.source),
        (Some("7"), ConfigSource::Topic)
    );
    assert_eq!(
        found.synonyms,
        [
            ("retention.ms", Some("7".to_owned()), ConfigSource::Topic),
            (
                "log.retention.minutes",
                Some("30".to_owned()),
                ConfigSource::Cluster
            ),
            (
                "log.retention.hours",
                Some("168".to_owned()),
                ConfigSource::Default
            ),
        ]
    );
    let inherited = describe_topic(&set(&[]), all(&cluster), Some(&["retention.ms".to_owned()]));
    assert_eq!(inherited.len(), 1);
    assert_eq!(inherited[0].value.as_deref(), Some("1800000"));
    assert_eq!(inherited[0].source, ConfigSource::Cluster);
}

#[test]
fn the_cluster_shows_what_was_set_and_a_node_shows_everything() {
    let cluster = set(&[("num.partitions", "3")]);
    let described = describe_cluster(&cluster, None);
    assert_eq!(described.len(), 1);
    assert_eq!(described[0].source, ConfigSource::Cluster);
    let address = |port| HostPort {
        host: "queue".to_owned(),
        port,
    };
    let listener = ListenerAddresses {
        name: "PLAINTEXT",
        bound: address(9092),
        advertised: address(19092),
    };
    let config = ServeConfig::default();
    let properties = NodeProperties::new(&config, &[listener]).of(NodeId(4));
    let unknown = describe_node(None, self::all(&cluster), None);
    assert_eq!(unknown.len(), CLUSTER.len());
    let all = describe_node(Some(&properties), self::all(&cluster), None);
    assert_eq!(all.len(), NODE.len() + CLUSTER.len());
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
    let entry = |name: &str| all.iter().find(|e| e.name == name).unwrap();
    let shown = |name: &str| {
        let entry = entry(name);
        (
            entry.value.clone().unwrap_or_default(),
            entry.source,
            entry.read_only,
        )
    };
    let fixed = |value: &str| (value.to_owned(), ConfigSource::Static, true);
    assert_eq!(shown("node.id"), fixed("4"));
    assert_eq!(
        shown("advertised.listeners"),
        fixed("PLAINTEXT://queue:19092")
    );
    assert_eq!(shown("socket.request.max.bytes"), fixed("104857600"));
    assert_eq!(
        shown("num.partitions"),
        ("3".to_owned(), ConfigSource::Cluster, false)
    );
    assert_eq!(
        shown("log.retention.ms"),
        ("604800000".to_owned(), ConfigSource::Default, false)
    );
    assert_eq!(entry("broker.rack").value, None);
    for definition in NODE {
        let rack = definition.name == "broker.rack";
        assert_eq!(
            entry(definition.name).value.is_none(),
            rack,
            "{}",
            definition.name
        );
    }
}

#[test]
fn edits_are_checked_and_lists_are_written_out() {
    let (topic, cluster) = (set(&[]), set(&[("log.cleanup.policy", "compact")]));
    let edited = Edited::Topic(&topic, &cluster);
    let one = |name: &str, value: Option<&str>| {
        BTreeMap::from([(name.to_owned(), value.map(str::to_owned))])
    };
    let append = edit(
        "cleanup.policy",
        ConfigEdit::Append("delete,compact".into()),
    );
    assert_eq!(
        edits(edited, &append),
        Ok(one("cleanup.policy", Some("compact,delete")))
    );
    let subtract = edit("cleanup.policy", ConfigEdit::Subtract("compact".into()));
    assert_eq!(
        edits(edited, &subtract),
        Ok(one("cleanup.policy", Some("")))
    );
    let delete = edit("retention.ms", ConfigEdit::Delete);
    assert_eq!(edits(edited, &delete), Ok(one("retention.ms", None)));
    let unknown = edit("retention.msec", ConfigEdit::Delete);
    assert_eq!(edits(edited, &unknown), Ok(Edits::new()));
    let of_another_version = set(&[("retention.msec", "1")]);
    assert_eq!(
        edits(Edited::Topic(&of_another_version, &cluster), &unknown),
        Ok(one("retention.msec", None))
    );
    let number = edit("retention.ms", ConfigEdit::Append("1".into()));
    assert!(matches!(
        edits(edited, &number),
        Err(DynamicConfigError::Invalid { .. })
    ));
    let unknown = edit("retention.msec", ConfigEdit::Set("1".into()));
    assert!(matches!(
        edits(edited, &unknown),
        Err(DynamicConfigError::Unknown {
            resource: "topic",
            ..
        })
    ));
    let fixed = edit("node.id", ConfigEdit::Set("1".into()));
    assert!(matches!(
        edits(Edited::Cluster(&cluster), &fixed),
        Err(DynamicConfigError::ReadOnly { .. })
    ));
}

#[test]
fn a_replacement_returns_to_defaults_what_it_does_not_name() {
    let topic = set(&[("retention.ms", "1"), ("preallocate", "true")]);
    let cluster = set(&[]);
    let wanted = BTreeMap::from([("retention.ms".to_owned(), "2".to_owned())]);
    let found = replacement(Edited::Topic(&topic, &cluster), &wanted).unwrap();
    assert_eq!(
        found,
        BTreeMap::from([
            ("preallocate".to_owned(), None),
            ("retention.ms".to_owned(), Some("2".to_owned())),
        ])
    );
}

#[test]
fn the_least_compaction_lag_cannot_pass_the_most() {
    let (topic, cluster) = (set(&[("max.compaction.lag.ms", "10")]), set(&[]));
    let wanted = edit("min.compaction.lag.ms", ConfigEdit::Set("11".into()));
    let error = edits(Edited::Topic(&topic, &cluster), &wanted).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("max.compaction.lag.ms, which is 10"),
        "{error}"
    );
}

#[test]
fn a_topic_is_not_created_with_a_setting_of_null() {
    let wanted = |value: Option<&str>| {
        BTreeMap::from([("retention.ms".to_owned(), value.map(str::to_owned))])
    };
    assert!(initial(&wanted(None), &set(&[])).is_err());
    assert_eq!(
        initial(&wanted(Some(" 5 ")), &set(&[])),
        Ok(set(&[("retention.ms", "5")]))
    );
}

#[test]
fn what_is_set_for_a_node_is_stronger_than_what_is_set_for_all() {
    let node = set(&[("message.max.bytes", "2000"), ("num.partitions", "7")]);
    let cluster = set(&[("message.max.bytes", "1000"), ("log.retention.hours", "1")]);
    let layers = Layers {
        node: &node,
        cluster: &cluster,
    };
    let name = ["max.message.bytes".to_owned()];
    let of_topic = describe_topic(&set(&[]), layers, Some(&name));
    let synonyms: Vec<_> = of_topic[0]
        .synonyms
        .iter()
        .map(|(name, value, source)| (*name, value.as_deref(), *source))
        .collect();
    let expected = [
        ("message.max.bytes", Some("2000"), ConfigSource::Node),
        ("message.max.bytes", Some("1000"), ConfigSource::Cluster),
        ("message.max.bytes", Some("1048588"), ConfigSource::Default),
    ];
    assert_eq!(synonyms, expected);
    let of_node = describe_node(None, layers, Some(&["num.partitions".to_owned()]));
    let shown = (of_node[0].value.as_deref(), of_node[0].source);
    assert_eq!(shown, (Some("7"), ConfigSource::Node));
    let in_force = TopicConfig::effective(&set(&[]), &layers.in_force());
    assert_eq!(in_force.max_message_bytes, ByteCount(2000));
    assert_eq!(in_force.retention, Some(Duration::from_secs(3600)));
    assert_eq!(
        ClusterConfig::effective(&layers.in_force()).num_partitions,
        7
    );
}

#[test]
fn what_decides_about_records_is_set_for_all_nodes_or_none() {
    let empty = Overrides::new();
    let node = Edited::Node(all(&empty));
    for name in OF_RECORDS {
        let default = find(CLUSTER, name).unwrap().default.unwrap_or("1");
        let wanted = edit(name, ConfigEdit::Set(default.to_owned()));
        let refused = DynamicConfigError::OfCluster {
            name: name.to_owned(),
        };
        assert_eq!(edits(node, &wanted), Err(refused));
    }
    let wanted = edit("log.dirs", ConfigEdit::Set("/x".to_owned()));
    let refused = edits(node, &wanted);
    assert!(matches!(refused, Err(DynamicConfigError::ReadOnly { .. })));
    let wanted = edit("num.partitions", ConfigEdit::Set("3".to_owned()));
    let edits = edits(node, &wanted).unwrap();
    assert_eq!(edits["num.partitions"].as_deref(), Some("3"));
}
