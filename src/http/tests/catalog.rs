//! The catalog, and the files of tables.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::s3::signature::tests::sign_request;
use super::*;
use crate::state::Level;
use crate::state::op::{CreateTable, CreateTopic, Op};
use crate::state::table::PartitionBy;
use crate::store::{ArchiveObject, ObjectPath, RequestKind};
use crate::table::base_schema;
use crate::types::{FileId, TableId, TableName, TopicId, TopicName};

/// Creates a topic and its table.
async fn with_table(front: &Front, topic: &str, table: &str, number: u128) -> TableId {
    let manifest = front.node.broker().manifest();
    let (of, id) = (
        TopicId(Uuid::from_u128(number)),
        TableId(Uuid::from_u128(number * 10)),
    );
    let ops = vec![
        Op::RaiseLevel { to: Level::NEWEST },
        Op::CreateTopic(CreateTopic {
            id: of,
            name: TopicName::new(topic).unwrap(),
            partitions: 1,
            configs: BTreeMap::new(),
            replicas: None,
        }),
        Op::CreateTable(CreateTable {
            id,
            topic: of,
            name: TableName::new(table).unwrap(),
            schema: base_schema(),
            by: PartitionBy::Day,
        }),
    ];
    for op in ops {
        // The level is raised once.
        let _ = manifest.commit_one(op).await.unwrap();
    }
    assert!(manifest.state().table(id).is_some());
    id
}

/// The head and the body of the answer to a request on a connection of its own.
async fn answer_to(front: &Front, request: &str, headers: &str) -> (String, serde_json::Value) {
    let mut stream = TcpStream::connect(front.address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .unwrap()
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = match body {
        "" => serde_json::Value::Null,
        body => serde_json::from_str(body).unwrap(),
    };
    (head.to_lowercase(), body)
}

#[tokio::test]
async fn the_catalog_shows_tables_and_their_metadata_is_in_the_store() {
    let front = front(3).await;
    let id = with_table(&front, "orders.eu-1", "orders_eu_1", 7).await;
    let manifest = front.node.broker().manifest();
    let (head, config) = answer_to(&front, "GET /iceberg/v1/config?warehouse=x", "").await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("application/json"),
        "{head}"
    );
    assert!(
        config["defaults"].is_object() && config["overrides"].is_object(),
        "{config}"
    );
    let (_, namespaces) = answer_to(&front, "GET /iceberg/v1/namespaces", "").await;
    assert_eq!(namespaces["namespaces"], serde_json::json!([["weir"]]));
    let (_, within) = answer_to(&front, "GET /iceberg/v1/namespaces?parent=weir", "").await;
    assert_eq!(within["namespaces"], serde_json::json!([]));
    let all = "/iceberg/v1/namespaces/weir/tables";
    let (_, tables) = answer_to(&front, &format!("GET {all}"), "").await;
    let identifier = serde_json::json!({"namespace": ["weir"], "name": "orders_eu_1"});
    assert_eq!(tables["identifiers"], serde_json::json!([identifier]));

    let one = format!("GET {all}/orders_eu_1");
    let (head, table) = answer_to(&front, &one, "").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let metadata = &table["metadata"];
    assert_eq!(metadata["table-uuid"], id.to_string());
    let location = table["metadata-location"].as_str().unwrap();
    let version = manifest.state().table(id).unwrap().version();
    assert!(location.ends_with(&format!(
        "/archive/orders_eu_1/metadata/v{version}.metadata.json"
    )));
    let path = ObjectPath::archive(
        &TableName::new("orders_eu_1").unwrap(),
        ArchiveObject::Metadata(version),
    );
    let stored = front
        .store
        .get(&path, RequestKind::ArchiveGet)
        .await
        .unwrap();
    let stored: serde_json::Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(&stored, metadata);

    // What has not changed is not sent again.
    let etag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap();
    let known = format!("if-none-match: {etag}\r\n");
    let (head, _) = answer_to(&front, &one, &known).await;
    assert!(head.starts_with("http/1.1 304"), "{head}");
    let (head, _) = answer_to(&front, &format!("{one}?snapshots=refs"), &known).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for (name, status) in [("orders_eu_1", 204), ("nothing", 404)] {
        let (head, _) = answer_to(&front, &format!("HEAD {all}/{name}"), "").await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
    }

    for (request, status, kind) in [
        (format!("GET {all}/nothing"), 404, "NoSuchTableException"),
        (
            "GET /iceberg/v1/namespaces/other/tables".to_owned(),
            404,
            "NoSuchNamespaceException",
        ),
        (
            "GET /iceberg/v1/namespaces/weir%1Forders_eu_1/tables/files".to_owned(),
            404,
            "NoSuchTableException",
        ),
        (format!("{one}?snapshots=some"), 400, "BadRequestException"),
        (
            format!("DELETE {all}/orders_eu_1"),
            405,
            "UnsupportedOperationException",
        ),
        (format!("POST {all}"), 405, "UnsupportedOperationException"),
        ("GET /iceberg/v1/views".to_owned(), 404, "NotFoundException"),
    ] {
        let (head, body) = answer_to(&front, &request, "").await;
        assert!(
            head.starts_with(&format!("http/1.1 {status}")),
            "{request}: {head}"
        );
        let error = &body["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&kind.into(), &status.into()),
            "{request}"
        );
    }
}

/// What an engine is given with a table.
struct Given {
    config: Value,
    prefix: String,
    metadata: Value,
    location: String,
}

async fn given(front: &Front, table: &str) -> Given {
    let path = format!("GET /iceberg/v1/namespaces/weir/tables/{table}");
    let asks = "x-iceberg-access-delegation: vended-credentials,remote-signing\r\n";
    let (head, body) = answer_to(front, &path, asks).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let given = &body["storage-credentials"][0];
    assert_eq!(given["config"], body["config"]);
    Given {
        config: given["config"].clone(),
        prefix: given["prefix"].as_str().unwrap().to_owned(),
        metadata: body["metadata"].clone(),
        location: body["metadata-location"].as_str().unwrap().to_owned(),
    }
}

impl Given {
    fn says(&self, name: &str) -> &str {
        self.config[name].as_str().unwrap()
    }

    /// The answer to a request that is signed with what was given: its status, its headers in lower case, its body.
    async fn ask(&self, front: &Front, request: &str, headers: &str) -> (u16, String, Bytes) {
        self.ask_changed(front, request, headers, |_| {}).await
    }

    async fn ask_changed(
        &self,
        front: &Front,
        request: &str,
        headers: &str,
        change: impl FnOnce(&mut axum::http::request::Parts),
    ) -> (u16, String, Bytes) {
        let (method, path) = request.split_once(' ').unwrap();
        let signed = axum::http::Request::builder().method(method).uri(path);
        let signed = signed.header("host", "node").body(()).unwrap();
        let mut signed = signed.into_parts().0;
        let keys = (
            self.says("s3.access-key-id"),
            self.says("s3.secret-access-key"),
            self.says("s3.session-token"),
        );
        sign_request(&mut signed, keys, front.node.broker().manifest().time());
        change(&mut signed);
        let mut text = format!(
            "{method} {} HTTP/1.1\r\nconnection: close\r\n{headers}",
            signed.uri
        );
        for (name, value) in &signed.headers {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        text.push_str("\r\n");
        let mut stream = TcpStream::connect(front.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let within = Duration::from_secs(10);
        tokio::time::timeout(within, read).await.unwrap().unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(answer[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, Bytes::from(answer.split_off(end + 4)))
    }
}

fn path_of(url: &str) -> String {
    format!("/{}", url.strip_prefix("s3://").unwrap())
}

/// Stores what stands for a data file, of five and a half pieces.
async fn with_file(front: &Front, table: &str) -> (String, Bytes) {
    let id = FileId(Env::system().random_uuid());
    let object = ArchiveObject::Data(id);
    let path = ObjectPath::archive(&TableName::new(table).unwrap(), object);
    let content: Vec<u8> = (0..5_767_168u32).map(|n| (n / 7) as u8).collect();
    let content = Bytes::from(content);
    let stored = front
        .store
        .put_unique(&path, content.clone(), RequestKind::ArchivePut);
    stored.await.unwrap();
    (format!("data/{id}.parquet"), content)
}

#[tokio::test]
async fn whoever_is_given_a_table_reads_its_files_by_way_of_the_node() {
    let front = front(3).await;
    with_table(&front, "orders", "orders", 7).await;
    let (name, content) = with_file(&front, "orders").await;
    let given = given(&front, "orders").await;
    assert_eq!(given.prefix, "s3://fs/archive/orders");
    assert_eq!(given.metadata["location"], given.prefix);
    assert_eq!(given.says("s3.endpoint"), "http://node");
    assert_eq!(given.says("s3.path-style-access"), "true");

    // The metadata that lies in the store has its own paths; that which is served has those by which it is.
    let (status, _, metadata) = given
        .ask(&front, &format!("GET {}", path_of(&given.location)), "")
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        serde_json::from_slice::<Value>(&metadata).unwrap(),
        given.metadata
    );

    let path = path_of(&format!("{}/{name}", given.prefix));
    let get = format!("GET {path}");
    let (status, head, body) = given.ask(&front, &get, "").await;
    assert!(status == 200 && body == content, "{head}");
    let lines = [
        "content-length: 5767168",
        "accept-ranges: bytes",
        "last-modified: ",
        &format!("etag: \"{}\"", name.rsplit('/').next().unwrap()),
    ];
    assert!(lines.iter().all(|line| head.contains(line)), "{head}");
    let (status, as_head, body) = given.ask(&front, &format!("HEAD {path}"), "").await;
    assert!(status == 200 && body.is_empty() && lines.iter().all(|line| as_head.contains(line)));
    for (range, start, end) in [
        ("0-9", 0, 10),
        ("1048570-1048580", 1_048_570, 1_048_581),
        ("100-3145827", 100, 3_145_828),
        ("5767167-", 5_767_167, 5_767_168),
        ("-1048577", 4_718_591, 5_767_168),
    ] {
        let (status, head, body) = given
            .ask(&front, &get, &format!("range: bytes={range}\r\n"))
            .await;
        assert!(
            status == 206 && body == content.slice(start..end),
            "{range}: {head}"
        );
        let said = format!("content-range: bytes {start}-{}/5767168", end - 1);
        assert!(head.contains(&said), "{range}: {head}");
    }
    let (status, _, body) = given.ask(&front, &get, "range: bytes=5767168-\r\n").await;
    assert!(status == 416 && body.starts_with(b"<?xml"));
}

#[tokio::test]
async fn what_is_given_with_a_table_opens_no_other_and_changes_nothing() {
    let front = front(3).await;
    with_table(&front, "orders", "orders", 7).await;
    with_table(&front, "secrets", "secrets", 8).await;
    let (name, _) = with_file(&front, "orders").await;
    let (other, _) = with_file(&front, "secrets").await;
    let given = given(&front, "orders").await;
    let path = format!("/fs/archive/orders/{name}");
    let told = |body: &Bytes| String::from_utf8(body.to_vec()).unwrap();
    for (request, status, code) in [
        (format!("GET {path}"), 200, ""),
        (
            format!("GET /fs/archive/secrets/{other}"),
            403,
            "AccessDenied",
        ),
        (
            format!("GET /fs/archive/orders/../secrets/{other}"),
            404,
            "NoSuchKey",
        ),
        (
            format!("GET /fs/archive/orders/%2e%2e/secrets/{other}"),
            404,
            "NoSuchKey",
        ),
        (
            "GET /fs/archive/orders2/data/x".to_owned(),
            403,
            "AccessDenied",
        ),
        ("GET /fs/cluster.json".to_owned(), 403, "AccessDenied"),
        ("GET /fs/catalog-key.json".to_owned(), 403, "AccessDenied"),
        (
            "GET /other/archive/orders/data/x".to_owned(),
            403,
            "AccessDenied",
        ),
        (
            "GET /fs/archive/orders/data/nothing".to_owned(),
            404,
            "NoSuchKey",
        ),
        (
            format!(
                "GET /fs/archive/orders/data/{}.parquet",
                Env::system().random_uuid()
            ),
            404,
            "NoSuchKey",
        ),
        (format!("DELETE {path}"), 405, "MethodNotAllowed"),
        (format!("PUT {path}"), 405, "MethodNotAllowed"),
        ("GET /fs?location".to_owned(), 501, "NotImplemented"),
        (
            "GET /fs?list-type=2&prefix=archive/".to_owned(),
            403,
            "AccessDenied",
        ),
        (
            "GET /fs?list-type=2&prefix=archive/secrets/".to_owned(),
            403,
            "AccessDenied",
        ),
        (
            "GET /fs?list-type=2&max-keys=x".to_owned(),
            400,
            "InvalidArgument",
        ),
    ] {
        let (found, head, body) = given.ask(&front, &request, "").await;
        assert_eq!(found, status, "{request}: {head}");
        assert!(
            status == 200 || told(&body).contains(&format!("<Code>{code}</Code>")),
            "{request}"
        );
    }
    // Without a signature nobody is told anything.
    let mut stream = TcpStream::connect(front.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    // With another than that of the request nothing is shown.
    let get = format!("GET {path}");
    let changed = given.ask_changed(&front, &get, "", |head| {
        head.headers
            .insert("x-amz-content-sha256", "other".parse().unwrap());
    });
    let (status, _, body) = changed.await;
    assert!(
        status == 403 && told(&body).contains("SignatureDoesNotMatch"),
        "{}",
        told(&body)
    );
    for header in ["x-amz-security-token", "authorization"] {
        let changed = given.ask_changed(&front, &get, "", |head| {
            let said = head.headers[header]
                .to_str()
                .unwrap()
                .replacen(['A', 'e'], "B", 1);
            head.headers.insert(header, said.parse().unwrap());
        });
        let (status, head, body) = changed.await;
        assert!(status == 403, "{header}: {head} {}", told(&body));
    }
}

#[tokio::test]
async fn the_files_of_a_table_are_listed() {
    let front = front(3).await;
    // Others before and after it, in the order of names.
    for (number, name) in (7..).zip(["orders", "order", "orders2"]) {
        with_table(&front, name, name, number).await;
    }
    let mut names = Vec::new();
    for name in ["order", "orders", "orders", "orders", "orders2"] {
        let (file, _) = with_file(&front, name).await;
        names.push(format!("archive/{name}/{file}"));
    }
    let given = given(&front, "orders").await;
    let metadata = path_of(&given.location).replace("/fs/", "");
    let keys_of = |body: &str, of: &str| -> Vec<String> {
        let tag = format!("<{of}>");
        let parts = body.split(tag.as_str()).skip(1);
        parts
            .map(|part| part.split('<').next().unwrap().to_owned())
            .collect()
    };
    let list = async |query: &str| {
        let request = format!("GET /fs/?list-type=2&{query}");
        let (status, head, body) = given.ask(&front, &request, "").await;
        assert_eq!(status, 200, "{head}");
        String::from_utf8(body.to_vec()).unwrap()
    };
    let all = list("prefix=archive%2Forders%2F").await;
    let mut expected = names[1..4].to_vec();
    expected.sort_unstable();
    expected.push(metadata.clone());
    assert_eq!(keys_of(&all, "Key"), expected);
    assert!(
        all.contains("<IsTruncated>false</IsTruncated>") && all.contains("<Size>5767168</Size>")
    );
    let metadata_only = list("prefix=archive/orders/metadata/&encoding-type=url").await;
    assert_eq!(keys_of(&metadata_only, "Key"), [metadata]);
    let folders = list("prefix=archive/orders/&delimiter=/").await;
    assert_eq!(keys_of(&folders, "Key"), [""; 0]);
    let prefixes = ["archive/orders/data/", "archive/orders/metadata/"];
    assert_eq!(keys_of(&folders, "CommonPrefixes><Prefix"), prefixes);
    // Page by page.
    let (mut found, mut token) = (Vec::new(), String::new());
    for _ in 0..10 {
        let query = format!("prefix=archive/orders/&max-keys=2{token}");
        let page = list(&query).await;
        found.extend(keys_of(&page, "Key"));
        match keys_of(&page, "NextContinuationToken").pop() {
            Some(next) => token = format!("&continuation-token={}", next.replace('/', "%2F")),
            None => break,
        }
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn tables_are_listed_page_by_page() {
    let front = front(3).await;
    for (number, name) in (7..).zip(["b", "a", "c"]) {
        with_table(&front, name, name, number).await;
    }
    let all = "GET /iceberg/v1/namespaces/weir/tables";
    let page = async |query: &str| {
        let (head, body) = answer_to(&front, &format!("{all}{query}"), "").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let names = body["identifiers"].as_array().unwrap().iter();
        let names: Vec<Value> = names.map(|one| one["name"].clone()).collect();
        (json!(names), body["next-page-token"].clone())
    };
    assert_eq!(page("").await, (json!(["a", "b", "c"]), Value::Null));
    assert_eq!(
        page("?pageSize=2").await,
        (json!(["a", "b", "c"]), Value::Null)
    );
    assert_eq!(
        page("?pageToken=&pageSize=2").await,
        (json!(["a", "b"]), json!("b"))
    );
    assert_eq!(
        page("?pageToken=b&pageSize=2").await,
        (json!(["c"]), Value::Null)
    );
    let (head, _) = answer_to(&front, &format!("{all}?pageToken=&pageSize=0"), "").await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
}
