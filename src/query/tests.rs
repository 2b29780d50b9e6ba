//! Queries on a node in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::pruning::{OffsetRun, deal};
use super::statement::parse;
use super::*;
use crate::broker::{Action, NewTopic, Policy, Resource, Session};
use crate::embedded::{Client, ProducerOptions, Record};
use crate::env::Env;
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::segment::Codec;
use crate::state::State;
use crate::store::StoreUrl;
use crate::types::{ByteCount, Offset, PartitionIndex, Timestamp};

const CODECS: [Codec; 5] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::Lz4,
    Codec::Zstd,
];

struct Scene {
    weir: Client,
    queries: Queries,
}

impl Scene {
    async fn new() -> Scene {
        Scene::bounded(QueryOptions::default()).await
    }

    async fn bounded(options: QueryOptions) -> Scene {
        let weir = Client::open("memory://").await.unwrap();
        let queries = Queries::new(weir.broker().clone(), options, QueryMetrics::default());
        Scene {
            weir,
            queries: queries.unwrap(),
        }
    }

    async fn produce(&self, topic: &str, codec: Codec, records: Vec<Record>) {
        let options = ProducerOptions {
            compression: codec,
            batch_size: ByteCount(2_000),
            ..ProducerOptions::default()
        };
        let mut producer = self.weir.producer_with(options);
        producer.send_all(topic, records).await.unwrap();
    }

    /// 1,000 records in each of three partitions, in all codecs: record `n` is of second `n`.
    async fn numbers(&self, topic: &str) {
        self.weir.create_topic(topic, 3).await.unwrap();
        for (part, codec) in (0..).zip(CODECS) {
            let numbers = (part * 200)..((part + 1) * 200);
            let records = numbers.flat_map(|n| {
                (0..3).map(move |partition| {
                    Record::new(format!("k{n}"), format!("v{n}"))
                        .header("h", "x")
                        .timestamp(Timestamp(i64::from(n) * 1_000))
                        .partition(PartitionIndex(partition))
                })
            });
            self.produce(topic, codec, records.collect()).await;
        }
    }

    async fn bytes(&self, sql: &str, form: Form) -> Result<Vec<u8>, QueryError> {
        let session = self.weir.session();
        let mut answer = self
            .queries
            .run(session, sql, form, &Reading::default())
            .await?;
        let mut all = Vec::new();
        while let Some(part) = answer.next().await? {
            all.extend_from_slice(&part);
        }
        Ok(all)
    }

    async fn rows(&self, sql: &str) -> Vec<Value> {
        let json = self.bytes(sql, Form::Json).await;
        let json = json.unwrap_or_else(|error| panic!("{sql}: {error}"));
        serde_json::from_slice(&json).unwrap()
    }

    async fn text(&self, sql: &str) -> String {
        String::from_utf8(self.bytes(sql, Form::Table).await.unwrap()).unwrap()
    }

    async fn error(&self, sql: &str) -> QueryError {
        match self.bytes(sql, Form::Json).await {
            Err(error) => error,
            Ok(answer) => panic!("{sql}: {}", String::from_utf8_lossy(&answer)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_every_codec_are_rows() {
    let scene = Scene::new().await;
    scene.numbers("numbers").await;
    let counted = scene
        .rows("SELECT partition, count(*) AS n, min(offset) AS a, max(offset) AS b FROM numbers GROUP BY 1 ORDER BY 1")
        .await;
    let expected: Vec<Value> = (0..3)
        .map(|partition| json!({"partition": partition, "n": 1000, "a": 0, "b": 999}))
        .collect();
    assert_eq!(counted, expected);
    let sum = "SELECT sum(CAST(substr(CAST(value AS VARCHAR), 2) AS BIGINT)) AS s, count(DISTINCT value) AS v \
               FROM numbers";
    assert_eq!(
        scene.rows(sum).await,
        [json!({"s": 3 * 499_500, "v": 1000})]
    );
    let one = scene
        .rows("SELECT * FROM numbers WHERE partition = 1 AND offset = 777")
        .await;
    assert_eq!(
        one,
        [json!({
            "partition": 1, "offset": 777, "timestamp": "1970-01-01T00:12:57Z", "timestamp_type": "CreateTime",
            "key": "k777", "value": "v777", "headers": [{"key": "h", "value": "x"}], "error": null,
        })]
    );
    let ordered = scene
        .rows("SELECT offset FROM numbers WHERE partition = 2 ORDER BY offset DESC LIMIT 2")
        .await;
    assert_eq!(ordered, [json!({"offset": 999}), json!({"offset": 998})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn null_empty_and_binary_are_told_apart() {
    let scene = Scene::new().await;
    scene.weir.create_topic("t", 1).await.unwrap();
    let mut tombstone = Record::new("", "");
    (tombstone.key, tombstone.value) = (Some("".into()), None);
    let binary = Record::of_value(b"\xff\x00".as_slice())
        .header("a", "1")
        .header("a", b"\xfe".as_slice())
        .timestamp(Timestamp(-1));
    scene
        .produce("t", Codec::None, vec![tombstone, binary])
        .await;
    let rows = scene
        .rows("SELECT key, value, headers FROM t ORDER BY offset")
        .await;
    let base64 = json!({"base64": "/wA="});
    assert_eq!(rows[0], json!({"key": "", "value": null, "headers": []}));
    assert_eq!(
        rows[1],
        json!({"key": null, "value": base64, "headers": [
            {"key": "a", "value": "1"}, {"key": "a", "value": {"base64": "/g=="}},
        ]})
    );
    let csv = scene
        .bytes(
            "SELECT key, value, headers FROM t ORDER BY offset",
            Form::Csv,
        )
        .await
        .unwrap();
    let csv = String::from_utf8(csv).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "key,value,headers");
    assert!(
        lines[2].starts_with(",\\xff00,\"[{\"\"key\"\":\"\"a\"\""),
        "{csv}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_filter_leaves_out_is_not_read() {
    let scene = Scene::new().await;
    scene.numbers("numbers").await;
    for (filter, count, shown) in [
        (
            "partition = 1",
            1_000,
            vec!["partitions=1/3", "offsets=[1: 0..1000]"],
        ),
        (
            "partition IN (0, 2) AND offset < 10",
            20,
            vec!["partitions=2/3", "offsets=[0: 0..10, 2: 0..10]"],
        ),
        (
            "offset BETWEEN 990 AND 2000",
            30,
            vec!["partitions=3/3", "0: 990..1000"],
        ),
        (
            "partition = 0 AND offset > 5 AND offset <= 7",
            2,
            vec!["offsets=[0: 6..8]"],
        ),
        (
            "partition = 7",
            0,
            vec!["partitions=0/3", "offsets=[]", "bytes=0"],
        ),
        (
            "partition = 0 AND timestamp >= '1970-01-01T00:15:00Z'",
            100,
            vec!["offsets=[0: 900..1000]"],
        ),
        ("timestamp > '1970-01-02'", 0, vec!["offsets=[]"]),
        (
            "partition = 0 AND (offset = 3 OR offset = 999)",
            2,
            vec!["partitions=1/3"],
        ),
        (
            "timestamp < '1970-01-01T00:00:07Z' AND partition = 2",
            7,
            vec!["partitions=1/3"],
        ),
        ("partition + 1 = 2", 1_000, vec![]),
    ] {
        let explain = format!("EXPLAIN SELECT offset FROM numbers WHERE {filter}");
        let rows = scene.rows(&explain).await;
        let plan = rows.last().unwrap()["plan"].as_str().unwrap().to_owned();
        for part in shown {
            assert!(plan.contains(part), "{filter}: {part} is not in {plan}");
        }
        let counted =
            format!("SELECT count(*) AS n, count(value) AS v FROM numbers WHERE {filter}");
        let expected = [json!({"n": count, "v": count})];
        assert_eq!(scene.rows(&counted).await, expected, "{filter}");
    }
    let analyzed = scene
        .rows("EXPLAIN ANALYZE SELECT count(*) FROM numbers WHERE partition = 0")
        .await;
    let plan = analyzed.last().unwrap()["plan"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(plan.contains("bytes_read="), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_sees_the_newest_acknowledged_record() {
    let scene = Scene::new().await;
    scene.weir.create_topic("t", 1).await.unwrap();
    for n in 0..20 {
        scene
            .produce("t", Codec::None, vec![Record::of_value(format!("{n}"))])
            .await;
        let rows = scene
            .rows("SELECT count(*) AS n, max(offset) AS m FROM t")
            .await;
        assert_eq!(rows, [json!({"n": n + 1, "m": n})]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_named_after_topics() {
    let scene = Scene::new().await;
    for (topic, value) in [
        ("orders.eu-1", "a"),
        ("Big", "b"),
        ("a-b", "c"),
        ("a_b", "d"),
    ] {
        scene.weir.create_topic(topic, 1).await.unwrap();
        scene
            .produce(topic, Codec::None, vec![Record::of_value(value)])
            .await;
    }
    for (table, value) in [
        ("orders_eu_1", "a"),
        ("Orders_EU_1", "a"),
        ("\"orders.eu-1\"", "a"),
        ("weir.topics.orders_eu_1", "a"),
        ("big", "b"),
        ("BIG", "b"),
        ("\"Big\"", "b"),
        ("\"a-b\"", "c"),
        ("\"a_b\"", "d"),
    ] {
        let rows = scene.rows(&format!("SELECT value FROM {table}")).await;
        assert_eq!(rows, [json!({"value": value})], "{table}");
    }
    let shown = scene.rows("SHOW TABLES").await;
    let names: Vec<&str> = shown
        .iter()
        .filter(|row| row["table_schema"] == "topics")
        .map(|row| row["table_name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 4);
    assert!(
        names.contains(&"orders_eu_1") && names.contains(&"a-b"),
        "{names:?}"
    );
    let columns = scene.rows("DESCRIBE big").await;
    assert_eq!(columns.len(), 8);
    for (sql, parts) in [
        (
            "SELECT * FROM order_eu_1",
            vec!["no table 'order_eu_1'", "orders_eu_1"],
        ),
        ("SELECT * FROM orders.eu", vec!["no table 'orders.eu'"]),
        ("SELECT * FROM zzzzzzzz", vec!["SHOW TABLES"]),
        ("SELECT * FROM __consumer_offsets", vec!["no table"]),
    ] {
        let error = scene.error(sql).await;
        assert_eq!(error.kind(), QueryErrorKind::UnknownTable, "{sql}: {error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{sql}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_topics_with_one_table_name_are_named_in_quotes() {
    let scene = Scene::new().await;
    for topic in ["x-Y", "x_y"] {
        scene.weir.create_topic(topic, 1).await.unwrap();
    }
    let error = scene.error("SELECT * FROM X_Y2").await;
    assert!(error.to_string().contains("did you mean x_y?"), "{error}");
    // The exact name of one of them is that one.
    assert_eq!(scene.rows("SELECT * FROM x_y").await, [] as [Value; 0]);
    scene.weir.create_topic("X-y", 1).await.unwrap();
    let error = scene.error("SELECT * FROM \"X_y\"").await.to_string();
    assert!(
        error.contains("\"x-Y\"") && error.contains("\"X-y\""),
        "{error}"
    );
}

#[test]
fn only_what_reads_is_understood() {
    for (sql, word) in [
        ("CREATE TABLE t (a INT)", "CREATE TABLE"),
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        (
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE EXTERNAL TABLE",
        ),
        (
            "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
            "CREATE FUNCTION",
        ),
        ("DROP TABLE t", "DROP TABLE"),
        ("INSERT INTO t VALUES (1)", "INSERT INTO"),
        ("DELETE FROM t", "DELETE FROM"),
        ("UPDATE t SET a = 1", "UPDATE"),
        ("TRUNCATE TABLE t", "TRUNCATE TABLE"),
        ("COPY t TO '/tmp/x'", "COPY"),
        ("COPY (SELECT 1) TO 's3://b/x' STORED AS PARQUET", "COPY"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("RESET datafusion.execution.batch_size", "RESET"),
        ("SHOW ALL", "SHOW ALL"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("EXECUTE p", "EXECUTE"),
        ("BEGIN", "BEGIN"),
        ("EXPLAIN INSERT INTO t VALUES (1)", "INSERT INTO"),
        ("EXPLAIN CREATE TABLE t (a INT)", "CREATE TABLE"),
        ("SELECT 1 INTO t", "INTO"),
        (
            "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
            "INSERT INTO",
        ),
        ("USE x", "USE"),
    ] {
        let error = parse(sql).expect_err(sql);
        assert_eq!(error.kind(), QueryErrorKind::Refused, "{sql}: {error}");
        let told = error.to_string();
        assert!(
            told.contains(word) && told.contains("reads topics"),
            "{sql}: {told}"
        );
    }
    for sql in [
        "SELECT 1",
        "select 1;",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "VALUES (1)",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "DESCRIBE t",
        "SHOW TABLES",
        "SHOW COLUMNS FROM t",
        "SELECT 1 UNION ALL SELECT 2",
        "-- a comment\nSELECT 1",
    ] {
        assert!(parse(sql).is_ok(), "{sql}: {:?}", parse(sql).err());
    }
    for (sql, part) in [
        ("", "no statement"),
        (";;", "no statement"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("CHOOSE 1", "not SQL"),
        ("SELECT 'open", "nterminated"),
    ] {
        let error = parse(sql).expect_err(sql);
        assert_eq!(error.kind(), QueryErrorKind::Invalid, "{sql}: {error}");
        assert!(error.to_string().contains(part), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reads_files_or_makes_much_of_nothing_is_not_there() {
    let scene = Scene::new().await;
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM 'data.parquet'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('x.parquet')",
        "SELECT * FROM parquet_metadata('x.parquet')",
        "SELECT repeat('x', 2000000000)",
        "SELECT lpad('x', 2000000000, 'y')",
        "SELECT array_repeat(1, 2000000000)",
    ] {
        let error = scene.error(sql).await;
        let kinds = [QueryErrorKind::Invalid, QueryErrorKind::UnknownTable];
        assert!(
            kinds.contains(&error.kind()),
            "{sql}: {:?} {error}",
            error.kind()
        );
    }
    let error = scene.error("SELECT 1 / 0").await;
    assert_eq!(error.kind(), QueryErrorKind::Invalid, "{error}");
    let error = scene
        .error("SELECT nothing FROM (VALUES (1)) AS t(a)")
        .await;
    assert_eq!(error.kind(), QueryErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("nothing"), "{error}");
}

/// On threads with the stack of a node's.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_nested_deeply_is_answered_or_refused() {
    let scene = Scene::new().await;
    let nested = |times: usize, open: &str, inside: &str, close: &str| {
        format!(
            "SELECT {}{inside}{}",
            open.repeat(times),
            close.repeat(times)
        )
    };
    for times in [40, 1_500, 3_900, 50_000] {
        for sql in [
            nested(times, "(", "1", ")"),
            nested(times, "", "1", " + 1"),
            nested(times, "", "true", " AND true"),
            nested(times, "- ", "1", ""),
            nested(times, "NOT ", "true", ""),
            nested(times, "", "1", " IS NULL"),
            nested(times, "", "1", "::int"),
            nested(times, "(SELECT ", "1", ")"),
            nested(times, "", "1", " UNION ALL SELECT 1"),
            nested(times, "abs(", "1", ")"),
            nested(times, "CASE WHEN true THEN ", "1", " END"),
        ] {
            match scene.bytes(&sql, Form::Json).await {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), QueryErrorKind::Invalid, "{error}"),
            }
        }
    }
    let many: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let sql = format!("SELECT 5 IN ({}) AS found", many.join(","));
    assert_eq!(scene.rows(&sql).await, [json!({"found": true})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded() {
    let options = QueryOptions {
        memory: ByteCount::mib(16),
        timeout: Duration::from_secs(600),
        ..QueryOptions::default()
    };
    let scene = Scene::bounded(options).await;
    scene.weir.create_topic("t", 1).await.unwrap();
    let large: Vec<Record> = (0..4_000)
        .map(|n| Record::of_value(format!("{n:05}").repeat(2_000)))
        .collect();
    scene.produce("t", Codec::Zstd, large).await;
    let error = scene.error("SELECT value FROM t ORDER BY value DESC").await;
    assert_eq!(error.kind(), QueryErrorKind::Memory, "{error}");
    assert!(error.to_string().contains("query_memory"), "{error}");
    // It was given back.
    assert_eq!(
        scene.rows("SELECT count(*) AS n FROM t").await,
        [json!({"n": 4_000})]
    );
}

/// A scene with a topic `t` over which [`ENDLESS`] takes longer than anybody waits.
async fn with_many(options: QueryOptions) -> Scene {
    let scene = Scene::bounded(options).await;
    scene.weir.create_topic("t", 1).await.unwrap();
    let many = (0..4_000).map(|n| Record::of_value(n.to_string()));
    scene.produce("t", Codec::None, many.collect()).await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_bounded() {
    let options = QueryOptions {
        timeout: Duration::from_secs(1),
        ..QueryOptions::default()
    };
    let scene = with_many(options).await;
    let error = scene.error(ENDLESS).await;
    assert_eq!(error.kind(), QueryErrorKind::TimedOut, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_run_at_once_is_bounded() {
    let options = QueryOptions {
        timeout: Duration::from_secs(600),
        max_running: 2,
        ..QueryOptions::default()
    };
    let scene = with_many(options).await;
    let session = Session::internal("a test");
    let mut running = Vec::new();
    for _ in 0..2 {
        let (queries, session) = (scene.queries.clone(), session.clone());
        running.push(tokio::spawn(async move {
            loop {
                let watch = Reading::default();
                let ended = queries.run(&session, ENDLESS, Form::Json, &watch).await;
                // Who looks whether all places are taken may have one for a moment.
                if ended.is_err_and(|error| error.kind() == QueryErrorKind::Busy) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
                return;
            }
        }));
    }
    until("the places are taken", async || {
        let refused = scene.bytes("SELECT 1", Form::Json).await.err();
        refused.is_some_and(|error| error.kind() == QueryErrorKind::Busy)
    })
    .await;
    // Who goes away gives its place back.
    for one in running {
        one.abort();
        let _ = one.await;
    }
    until(
        "the places of queries that were dropped are free",
        async || scene.bytes("SELECT 1", Form::Json).await.is_ok(),
    )
    .await;
}

const ENDLESS: &str = "SELECT count(*) FROM t a CROSS JOIN t b CROSS JOIN t c";

/// Waits until it is so, for however long a machine with much to do may take.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..1_200 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not so after a minute: {what}");
}

/// Lets nobody read the topics whose names begin with `secret`, or know of those that begin with `hidden`.
#[derive(Debug)]
struct Secrets;

impl Policy for Secrets {
    fn allows(
        &self,
        _: &State,
        session: &Session,
        action: Action,
        resource: &Resource<'_>,
    ) -> bool {
        let Resource::Topic(name) = resource else {
            return true;
        };
        let inside = session.principal == "User:root";
        inside
            || !(name.starts_with("hidden") || name.starts_with("secret") && action == Action::Read)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_asked_for_each_topic() {
    let mut options = NodeOptions::new(StoreUrl::memory(), Env::system());
    options.broker.policy = std::sync::Arc::new(Secrets);
    let node = Node::open(options, &NodeMetrics::default()).await.unwrap();
    let broker = node.broker().clone();
    let weir = Client::of(broker.clone(), Env::system(), "a test");
    for topic in ["open", "secret", "hidden"] {
        let topic = crate::broker::NewTopic {
            name: topic.to_owned(),
            partitions: Some(1),
            ..Default::default()
        };
        let mut root = Session::internal("root");
        root.principal = "User:root".to_owned();
        let made = broker.create_topics(&root, vec![topic], false).await;
        made.unwrap().pop().unwrap().unwrap();
    }
    let queries = Queries::new(broker, QueryOptions::default(), QueryMetrics::default());
    let scene = Scene {
        weir,
        queries: queries.unwrap(),
    };
    assert_eq!(
        scene.rows("SELECT count(*) AS n FROM open").await,
        [json!({"n": 0})]
    );
    for sql in [
        "SELECT count(*) FROM secret",
        "SELECT * FROM open, secret",
        "SELECT 1 WHERE EXISTS (SELECT * FROM secret)",
    ] {
        let error = scene.error(sql).await;
        assert_eq!(error.kind(), QueryErrorKind::Denied, "{sql}: {error}");
        assert!(error.to_string().contains("secret"), "{error}");
    }
    let error = scene.error("SELECT * FROM hidden").await;
    assert_eq!(error.kind(), QueryErrorKind::UnknownTable, "{error}");
    let shown = scene.bytes("SHOW TABLES", Form::Csv).await.unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.contains("secret") && !shown.contains("hidden"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_every_form() {
    let scene = Scene::new().await;
    scene.numbers("numbers").await;
    let sql = "SELECT partition, offset, value, headers FROM numbers WHERE offset < 2 ORDER BY partition, offset";
    let lines = scene.bytes(sql, Form::JsonLines).await.unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let rows: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows, scene.rows(sql).await);
    assert_eq!(rows.len(), 6);
    let csv = String::from_utf8(scene.bytes(sql, Form::Csv).await.unwrap()).unwrap();
    assert_eq!(csv.lines().count(), 7, "{csv}");
    let table = scene.text(sql).await;
    assert!(
        table.starts_with("partition  offset  value") && table.ends_with("(6 rows)\n"),
        "{table}"
    );
    let parquet = scene.bytes(sql, Form::Parquet).await.unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let reader = datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
        bytes::Bytes::from(parquet),
    );
    let read: usize = reader
        .unwrap()
        .build()
        .unwrap()
        .map(|batch| batch.unwrap().num_rows())
        .sum();
    assert_eq!(read, 6);
    let arrow = scene.bytes(sql, Form::Arrow).await.unwrap();
    let reader = datafusion::arrow::ipc::reader::StreamReader::try_new(arrow.as_slice(), None);
    let read: usize = reader.unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(read, 6);
    // Without rows an answer is whole as well.
    let none = "SELECT value FROM numbers WHERE offset < 0";
    assert_eq!(scene.rows(none).await, [] as [Value; 0]);
    assert_eq!(scene.bytes(none, Form::Csv).await.unwrap(), b"value\n");
    assert_eq!(scene.bytes(none, Form::JsonLines).await.unwrap(), b"");
    assert!(!scene.bytes(none, Form::Parquet).await.unwrap().is_empty());
}

#[test]
fn the_form_is_the_one_that_is_preferred() {
    for (accept, form) in [
        ("", Some(Form::Json)),
        ("*/*", Some(Form::Json)),
        ("application/json", Some(Form::Json)),
        ("text/csv", Some(Form::Csv)),
        (
            "text/html, text/csv;q=0.5, application/x-ndjson;q=0.8",
            Some(Form::JsonLines),
        ),
        ("application/vnd.apache.arrow.stream", Some(Form::Arrow)),
        ("Application/Vnd.Apache.Parquet", Some(Form::Parquet)),
        ("text/csv;q=0, text/html", None),
        ("image/png", None),
    ] {
        assert_eq!(Form::accepted(accept), form, "{accept}");
    }
}

#[test]
fn runs_are_dealt_out_evenly_and_none_is_lost() {
    let run = |partition, start, end, bytes| OffsetRun {
        partition: PartitionIndex(partition),
        start: Offset(start),
        end: Offset(end),
        bytes,
    };
    let mib = 1 << 20;
    for runs in [
        vec![run(0, 0, 1000, 100 * mib)],
        vec![
            run(0, 0, 10, 3 * mib),
            run(1, 5, 6, 90 * mib),
            run(2, 0, 1000, 7 * mib),
        ],
        vec![run(0, 0, 3, 0), run(3, 7, 9, 12)],
        vec![],
    ] {
        for readers in [1, 2, 3, 16] {
            let dealt = deal(&runs, readers);
            assert!(dealt.len() <= readers);
            let mut found: BTreeMap<(i32, i64), usize> = BTreeMap::new();
            for run in dealt.iter().flatten() {
                for offset in run.start.0..run.end.0 {
                    *found.entry((run.partition.0, offset)).or_default() += 1;
                }
            }
            let expected: Vec<(i32, i64)> = runs
                .iter()
                .flat_map(|run| (run.start.0..run.end.0).map(|at| (run.partition.0, at)))
                .collect();
            assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected);
            assert!(found.values().all(|times| *times == 1));
        }
    }
    assert_eq!(deal(&[run(0, 0, 1000, 100 * mib)], 4).len(), 4);
}

#[test]
fn statements_are_complete_at_their_semicolon() {
    let (complete, rest) = complete_statements("SELECT ';' -- ; no\n, 1; SELECT 2;;\n SELECT 3");
    assert_eq!(complete.len(), 2);
    assert!(complete[0].contains("';'"));
    assert_eq!(complete[1], "SELECT 2");
    assert_eq!(rest.trim(), "SELECT 3");
    // As they are written, whatever is quoted in them.
    let written = "SELECT 'it''s', \"a\"\"b\", 'é\n;'";
    let (complete, rest) = complete_statements(&format!("-- ä\n{written} ;\nrest"));
    assert_eq!(complete, [format!("-- ä\n{written}")]);
    assert_eq!(rest, "\nrest");
    let (complete, rest) = complete_statements("SELECT 'a;\nb");
    assert_eq!((complete.len(), rest.as_str()), (0, "SELECT 'a;\nb"));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_are_read_beside_small_ones() {
    let scene = Scene::new().await;
    scene.weir.create_topic("large", 1).await.unwrap();
    for size in [10, 600_000, 900_000, 20] {
        let value = "x".repeat(size);
        let record = Record::new("k", value).partition(PartitionIndex(0));
        scene.produce("large", Codec::None, vec![record]).await;
    }
    let sql = "SELECT offset, length(CAST(value AS VARCHAR)) AS n FROM large ORDER BY offset";
    let rows = scene.rows(sql).await;
    let sizes: Vec<&Value> = rows.iter().map(|row| &row["n"]).collect();
    assert_eq!(
        sizes,
        [&json!(10), &json!(600_000), &json!(900_000), &json!(20)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_parsed_and_planned_in_bounded_time() {
    let scene = Scene::new().await;
    let cte = |n: usize| {
        let steps = (1..n).map(|i| {
            let before = i - 1;
            format!(", c{i} AS (SELECT c{before}.x FROM c{before}, c{before} AS y)")
        });
        let steps: String = steps.collect();
        format!(
            "WITH c0 AS (SELECT 1 AS x){steps} SELECT count(*) FROM c{}",
            n - 1
        )
    };
    for sql in [
        format!("SELECT {}1){}", "INTERVAL (".repeat(45), ")".repeat(44)),
        format!("SELECT {} '1 day'", "INTERVAL ".repeat(3_000)),
        format!("SELECT {}1{}", "CAST(".repeat(45), ")".repeat(45)),
        format!("{} SELECT 1", "EXPLAIN ".repeat(3_000)),
        format!(
            "SELECT CAST(1 AS {}INT{})",
            "ARRAY<".repeat(1_000),
            ">".repeat(1_000)
        ),
        cte(30),
    ] {
        let error = tokio::time::timeout(Duration::from_secs(20), scene.error(&sql)).await;
        let error = error.unwrap_or_else(|_| panic!("{} takes for ever", &sql[..60]));
        assert_eq!(error.kind(), QueryErrorKind::Invalid, "{error}");
    }
    assert_eq!(scene.rows(&cte(6)).await, [json!({"count(*)": 1})]);
    assert_eq!(
        scene
            .rows("SELECT INTERVAL '1 day' = INTERVAL '24 hours' AS x")
            .await
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_memory_bounds_windows_and_texts() {
    let scene = Scene::bounded(QueryOptions {
        memory: ByteCount(40 << 20),
        ..QueryOptions::default()
    })
    .await;
    scene.weir.create_topic("large", 1).await.unwrap();
    for _ in 0..40 {
        let record = Record::new("k", "y".repeat(700_000)).partition(PartitionIndex(0));
        scene.produce("large", Codec::Zstd, vec![record]).await;
    }
    let window = "SELECT max(value) OVER () AS m, value FROM large";
    let error = scene.error(window).await;
    assert_eq!(error.kind(), QueryErrorKind::Memory, "{error}");
    let replaced = "SELECT length(replace(CAST(value AS VARCHAR), 'y', 'a text that is much longer')) AS n FROM large";
    let error = scene.error(replaced).await;
    assert_eq!(error.kind(), QueryErrorKind::Memory, "{error}");
    let few = "SELECT length(replace(CAST(value AS VARCHAR), 'x', 'a text that is much longer')) AS n FROM large LIMIT 1";
    assert_eq!(scene.rows(few).await, [json!({"n": 700_000})]);
    let counted = "SELECT count(*) AS n, max(length(CAST(value AS VARCHAR))) AS m FROM large";
    assert_eq!(scene.rows(counted).await, [json!({"n": 40, "m": 700_000})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_the_engine_has_in_nanoseconds_do_not_fail_at_far_ones() {
    let scene = Scene::new().await;
    let topic = NewTopic {
        name: "times".to_owned(),
        partitions: Some(1),
        configs: [(
            "message.timestamp.after.max.ms".to_owned(),
            Some(i64::MAX.to_string()),
        )]
        .into(),
        ..NewTopic::default()
    };
    let session = scene.weir.session();
    let made = scene
        .weir
        .broker()
        .create_topics(session, vec![topic], false);
    made.await.unwrap().pop().unwrap().unwrap();
    let now = Env::system().wall().0;
    for millis in [
        -62_135_596_800_000,
        -1,
        0,
        now - 60_000,
        253_402_300_799_000,
    ] {
        let record = Record::new("k", millis.to_string())
            .timestamp(Timestamp(millis))
            .partition(PartitionIndex(0));
        scene.produce("times", Codec::None, vec![record]).await;
    }
    let count = async |filter: &str| {
        let sql = format!("SELECT count(*) AS n FROM times WHERE {filter}");
        scene.rows(&sql).await[0]["n"].as_u64().unwrap()
    };
    assert_eq!(count("timestamp > now() - INTERVAL '1 hour'").await, 2);
    assert_eq!(count("timestamp <= current_timestamp").await, 4);
    assert_eq!(count("timestamp < '1970-01-01T00:00:00Z'").await, 2);
    assert_eq!(count("CAST(timestamp AS TIME) = '00:00:00'").await, 2);
    let plan = scene
        .text("EXPLAIN SELECT * FROM times WHERE timestamp > now() - INTERVAL '1 hour'")
        .await;
    assert!(plan.contains("offsets=[0: 3..5]"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_columns_of_one_name_are_refused_where_one_would_be_lost() {
    let scene = Scene::new().await;
    scene.numbers("numbers").await;
    let sql = "SELECT a.offset, b.offset FROM numbers a JOIN numbers b USING (partition) LIMIT 1";
    let error = scene.error(sql).await;
    assert_eq!(error.kind(), QueryErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("AS"), "{error}");
    assert!(scene.text(sql).await.contains("(1 row)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_of_the_host() {
    let scene = Scene::new().await;
    for sql in [
        "SELECT * FROM information_schema.df_settings",
        "SELECT input_file_name()",
        "SELECT * FROM generate_series(1, 10)",
    ] {
        let error = scene.error(sql).await;
        let kinds = [QueryErrorKind::Invalid, QueryErrorKind::UnknownTable];
        assert!(kinds.contains(&error.kind()), "{sql}: {error}");
    }
    scene.numbers("numbers").await;
    let columns = scene.rows("SELECT * FROM information_schema.columns").await;
    assert!(!columns.is_empty());
}
