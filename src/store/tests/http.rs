//! The S3 store against a server that answers what a test tells it to: what really goes over the wire, and
//! what is made of the answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::env::Env;
use crate::rules::{Rule, assert_needed};
use crate::store::aws::{Aws, AwsCredentials};
use crate::store::backend::{Backend, Nature, is_exposed, s3_at};
use crate::store::url::Cloud;
use crate::store::{
    Created, ObjectPath, ObjectPrefix, Outcome, RequestKind, Store, StoreError, StoreMetrics,
    StoreOptions,
};
use crate::types::Seq;

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The store answers.
    Status(u16, &'static str),
    /// It gives the first byte of an object of that length.
    Length(u64),
    /// It gives these bytes of an object of that length, from a place on.
    Part(u64, &'static str, u64),
    /// Something between answers, with these lines in the head.
    Foreign(u16, &'static str, &'static str),
    /// Reads the request and closes the connection.
    Close,
    /// Reads the request and never answers.
    Hang,
    /// Announces more bytes than it sends.
    Short,
}

/// A server that gives these answers in turn, and the last one for ever. Requests' heads are kept.
struct Server {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(answers: Vec<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(converse(socket, answers.clone(), Arc::clone(&kept)));
            }
        });
        Server { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn store(&self) -> Store {
        let mut options = StoreOptions::new(Env::system());
        options.request_timeout = Duration::from_secs(1);
        options.retry.base = Duration::from_millis(1);
        options.retry.deadline = Duration::from_secs(5);
        store_at(&self.address, options)
    }
}

fn store_at(address: &str, options: StoreOptions) -> Store {
    let keys = Credentials::new(
        "AKIAFAKE",
        "FAKESECRET",
        Some("FAKETOKEN".to_owned()),
        None,
        "test",
    );
    let provider = SharedCredentialsProvider::new(keys);
    let aws = Aws {
        region: "us-east-1".to_owned(),
        endpoint: Some(format!("http://{address}")),
        credentials: Arc::new(AwsCredentials::new(provider, Env::system())),
        config: None,
    };
    let objects = s3_at("s3://bucket", "bucket", aws, &options).unwrap();
    let backend = Backend::of(objects, Nature::Http(Cloud::S3), "s3://bucket".to_owned());
    Store::of(backend, options, StoreMetrics::default())
}

async fn converse(mut socket: TcpStream, answers: Vec<Answer>, heads: Arc<Mutex<Vec<String>>>) {
    while let Some(head) = request(&mut socket).await {
        let number = {
            let mut heads = heads.lock().unwrap();
            heads.push(head);
            heads.len() - 1
        };
        let text = match answers[number.min(answers.len() - 1)] {
            Answer::Close => return,
            Answer::Hang => std::future::pending().await,
            Answer::Length(length) => part(0, "W", length),
            Answer::Part(start, body, length) => part(start, body, length),
            Answer::Foreign(status, head, body) => format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{head}\r\n{body}",
                body.len()
            ),
            Answer::Short => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\netag: \"a\"\r\n\
                last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nhalf"
                .to_owned(),
            Answer::Status(status, body) => format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\netag: \"a\"\r\nx-amz-request-id: 1\r\n\
                 date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{body}",
                body.len()
            ),
        };
        if socket.write_all(text.as_bytes()).await.is_err() || text.ends_with("half") {
            return;
        }
    }
}

fn part(start: u64, body: &str, length: u64) -> String {
    let last = start + body.len() as u64 - 1;
    format!(
        "HTTP/1.1 206 X\r\ncontent-length: {}\r\netag: \"a\"\r\nx-amz-request-id: 1\r\n\
         content-range: bytes {start}-{last}/{length}\r\n\
         last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{body}",
        body.len()
    )
}

/// Reads one request with its body and returns its head.
async fn request(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body).await.ok()?;
    Some(head)
}

const SLOW: Answer = Answer::Status(503, "<Error><Code>SlowDown</Code></Error>");
const ABSENT: Answer = Answer::Status(404, "<Error><Code>NoSuchKey</Code></Error>");
const TAKEN: Answer = Answer::Status(412, "<Error><Code>PreconditionFailed</Code></Error>");

const PUT: RequestKind = RequestKind::CommitPut;
const GET: RequestKind = RequestKind::CommitGet;

fn commit() -> ObjectPath {
    ObjectPath::commit(Seq(1))
}

async fn create(store: &Store) -> Result<Created, StoreError> {
    store
        .create(&commit(), Bytes::from_static(b"body"), PUT)
        .await
}

#[tokio::test]
async fn a_body_is_hashed_for_its_signature_only_where_somebody_could_change_it() {
    for (endpoint, exposed) in [
        (None, false),
        (Some("https://s3.example.com"), false),
        (Some("http://localhost:9000"), false),
        (Some("http://127.0.0.1:9000"), false),
        (Some("http://[::1]:9000"), false),
        (Some("http://minio:9000"), true),
        (Some("http://10.0.0.7:9000"), true),
        (Some("http://localhost.example.com"), true),
    ] {
        assert_eq!(is_exposed(endpoint), exposed, "{endpoint:?}");
    }
    let server = Server::start(vec![Answer::Status(200, "")]).await;
    let path = ObjectPath::commit(Seq(1));
    let (store, body) = (server.store(), Bytes::from_static(b"a"));
    let created = store.create(&path, body, RequestKind::CommitPut).await;
    assert!(matches!(created, Ok(Created::Created)));
    let heads = server.heads();
    assert!(heads[0].contains("unsigned-payload"), "{heads:?}");
}

#[tokio::test]
async fn a_create_sends_the_condition_and_believes_only_success_and_412() {
    let server = Server::start(vec![Answer::Status(200, ""), TAKEN]).await;
    let store = server.store();
    assert!(matches!(create(&store).await, Ok(Created::Created)));
    assert!(matches!(create(&store).await, Ok(Created::Exists)));
    let heads = server.heads();
    assert!(
        heads[0].starts_with("put /bucket/manifest/log/00000000000000000001.commit "),
        "{heads:?}"
    );
    assert!(
        heads.iter().all(|head| head.contains("if-none-match: *")),
        "{heads:?}"
    );
    assert!(
        heads
            .iter()
            .all(|head| head.contains("x-amz-security-token: faketoken"))
    );
}

#[tokio::test]
async fn a_create_is_sent_once_whatever_is_answered_and_is_then_unknown() {
    let conflict = "<Error><Code>ConditionalRequestConflict</Code></Error>";
    for answer in [
        Answer::Status(409, conflict),
        Answer::Status(500, ""),
        Answer::Status(503, "<Error><Code>SlowDown</Code></Error>"),
        Answer::Status(429, ""),
        Answer::Status(408, ""),
        Answer::Close,
        Answer::Hang,
    ] {
        let server = Server::start(vec![answer]).await;
        let store = server.store();
        let created = create(&store).await.unwrap();
        assert!(matches!(created, Created::Unknown(_)), "{created:?}");
        assert_eq!(server.heads().len(), 1);
        assert_eq!(store.metrics().count(PUT, Outcome::Unknown), 1);
    }
}

#[tokio::test]
async fn a_create_on_a_connection_that_was_closed_meanwhile_is_never_taken_for_a_lost_race() {
    // The first answer keeps the connection; the server then closes it on the second request.
    let answers = vec![Answer::Status(200, ""), Answer::Close, TAKEN];
    let server = Server::start(answers).await;
    let store = server.store();
    assert!(matches!(create(&store).await, Ok(Created::Created)));
    let created = create(&store).await.unwrap();
    assert!(matches!(created, Created::Unknown(_)), "{created:?}");
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn a_create_that_finds_no_server_was_never_sent() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap().to_string();
    drop(unused);
    let store = store_at(&address, StoreOptions::default());
    let error = create(&store).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { attempts: 1, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_read_is_repeated_over_503_resets_and_broken_bodies() {
    let answers = vec![
        SLOW,
        Answer::Close,
        SLOW,
        Answer::Short,
        Answer::Status(200, "WEIR whole"),
    ];
    let server = Server::start(answers).await;
    let store = server.store();
    assert_eq!(store.get(&commit(), GET).await.unwrap(), "WEIR whole");
    // Each attempt is one request on the wire and one in the metrics.
    assert_eq!(server.heads().len(), 5);
    assert_eq!(store.metrics().count(GET, Outcome::Retry), 4);
    assert_eq!(store.metrics().requests(GET), 5);
}

#[tokio::test]
async fn what_only_a_person_can_change_is_told_at_once_with_what_to_do() {
    for (status, code, advice) in [
        (404, "NoSuchBucket", "Create the bucket"),
        (403, "AccessDenied", "rights"),
        (403, "InvalidAccessKeyId", "Check the credentials"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "new credentials"),
        (301, "PermanentRedirect", "AWS_REGION"),
        (501, "NotImplemented", "weir store check"),
    ] {
        let body = format!("<Error><Code>{code}</Code><Message>words</Message></Error>");
        let server = Server::start(vec![Answer::Status(status, body.leak())]).await;
        let store = server.store();
        for error in [
            store.get(&commit(), GET).await.unwrap_err(),
            create(&store).await.unwrap_err(),
            store.delete(vec![commit()]).await.unwrap_err(),
        ] {
            assert!(
                matches!(error, StoreError::Refused { .. }),
                "{code}: {error:?}"
            );
            assert!(error.to_string().contains(advice), "{error}");
            assert!(error.to_string().contains(code), "{error}");
        }
        assert_eq!(server.heads().len(), 3);
    }
}

#[tokio::test]
async fn an_absent_object_is_not_an_absent_bucket() {
    let server = Server::start(vec![ABSENT]).await;
    let store = server.store();
    assert!(store.get(&commit(), GET).await.unwrap_err().is_not_found());
    assert_eq!(store.probe(&commit(), 9, GET).await.unwrap(), None);
    assert_eq!(server.heads().len(), 2);
}

#[tokio::test]
async fn secrets_that_a_store_repeats_in_its_answer_are_not_shown() {
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no match</Message>\
        <CanonicalRequest>x-amz-security-token:FAKETOKEN FAKESECRET</CanonicalRequest></Error>";
    let server = Server::start(vec![Answer::Status(403, body)]).await;
    let store = server.store();
    let error = store.get(&commit(), GET).await.unwrap_err();
    let created = create(&store).await.unwrap_err();
    let options = store.options();
    let shown = format!("{error} {error:?} {created} {created:?} {store:?} {options:?}");
    assert!(shown.contains("no match"));
    assert!(
        !shown.contains("FAKETOKEN") && !shown.contains("FAKESECRET"),
        "{shown}"
    );
}

#[tokio::test]
async fn the_clock_of_the_store_is_read_from_its_answers() {
    let dated = Answer::Foreign(
        206,
        "content-range: bytes 0-0/9\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "t",
    );
    let server = Server::start(vec![dated]).await;
    let store = server.store();
    let now = store.options().env.wall();
    let clock = store
        .clock_difference(&commit(), now, GET)
        .await
        .unwrap()
        .unwrap();
    // The server lives in 1994.
    assert!(
        clock.exceeds(Duration::from_secs(86_400 * 365 * 20)),
        "{clock:?}"
    );
    assert!(clock.ahead_millis < 0);
}

const UPLOAD: RequestKind = RequestKind::CompactedPut;
const BEGUN: Answer = Answer::Status(
    200,
    "<InitiateMultipartUploadResult><UploadId>the-upload</UploadId></InitiateMultipartUploadResult>",
);
const ENDED: Answer = Answer::Status(
    200,
    "<CompleteMultipartUploadResult><ETag>\"a\"</ETag></CompleteMultipartUploadResult>",
);

async fn upload(store: &Store) -> Result<(), StoreError> {
    let mut upload = store.upload(&commit(), 2, UPLOAD).await?;
    upload.part(0, Bytes::from_static(b"bytes")).await?;
    upload.finish().await
}

/// The method and the rest of each request's first line.
fn asked(server: &Server) -> Vec<String> {
    let heads = server.heads();
    let line = |head: &String| {
        let line = head.lines().next().unwrap();
        line.replace("/bucket/manifest/log/00000000000000000001.commit", "it")
            .trim_end_matches(" http/1.1")
            .to_owned()
    };
    heads.iter().map(line).collect()
}

#[tokio::test]
async fn an_upload_is_begun_sent_and_ended_and_each_step_is_repeated() {
    let nothing = Answer::Status(200, "");
    let late = Answer::Status(200, "<Error><Code>InternalError</Code></Error>");
    // The end is answered by 200 with an error in its body: it did not happen, as a look at the object tells.
    let answers = vec![SLOW, BEGUN, Answer::Close, nothing, late, ABSENT, ENDED];
    let server = Server::start(answers).await;
    let store = server.store();
    upload(&store).await.unwrap();
    let part = "put it?partnumber=1&uploadid=the-upload";
    let end = "post it?uploadid=the-upload";
    let expected = [
        "post it?uploads=",
        "post it?uploads=",
        part,
        part,
        end,
        "get it",
        end,
    ];
    assert_eq!(asked(&server), expected);
    assert_eq!(store.metrics().count(UPLOAD, Outcome::Retry), 3);
    assert_eq!(store.metrics().count(UPLOAD, Outcome::Ok), 3);
}

#[tokio::test]
async fn an_upload_whose_last_answer_is_lost_is_settled_by_the_length_of_the_object() {
    let nothing = Answer::Status(200, "");
    let answers = vec![BEGUN, nothing, Answer::Close, Answer::Length(5)];
    let server = Server::start(answers).await;
    upload(&server.store()).await.unwrap();
    assert_eq!(asked(&server).last().unwrap(), "get it");

    // An object of another length is not ours, and the store knows no upload.
    let gone = Answer::Status(404, "<Error><Code>NoSuchUpload</Code></Error>");
    let answers = vec![BEGUN, nothing, gone, Answer::Length(4)];
    let server = Server::start(answers).await;
    let error = upload(&server.store()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("upload"), "{error}");
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted_also_when_a_part_was_on_its_way() {
    let none = Answer::Status(204, "");
    let server = Server::start(vec![BEGUN, Answer::Hang, none, none]).await;
    let store = server.store();
    let late = Duration::from_millis(200);
    assert!(tokio::time::timeout(late, upload(&store)).await.is_err());
    let abort = "delete it?uploadid=the-upload";
    for _ in 0..50 {
        if asked(&server).len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(asked(&server)[2..], [abort, abort]);
}

/// What stands in a web page's head.
const HTML: &str = "content-type: text/html\r\nserver: nginx\r\netag: \"a\"\r\n";
const PAGE: &str = "<html><head/><body>Sign in</body></html>";

/// Errors that are not the store's.
const FOREIGN_ERRORS: [Answer; 11] = [
    Answer::Foreign(404, "content-type: text/plain\r\n", "default backend - 404"),
    Answer::Foreign(404, HTML, PAGE),
    Answer::Foreign(404, "", ""),
    // The store's words, broken off.
    Answer::Foreign(
        404,
        "content-type: application/xml\r\n",
        "<Error><Code>NoSuchKey</Code>",
    ),
    Answer::Foreign(403, HTML, PAGE),
    Answer::Foreign(401, "www-authenticate: Basic\r\n", ""),
    Answer::Foreign(400, HTML, PAGE),
    Answer::Foreign(412, "", ""),
    Answer::Foreign(304, "", ""),
    Answer::Foreign(302, "", ""),
    Answer::Foreign(501, HTML, PAGE),
];

#[tokio::test]
async fn only_the_store_s_own_words_show_that_an_object_is_absent() {
    for foreign in FOREIGN_ERRORS {
        let server = Server::start(vec![foreign]).await;
        let store = server.store();
        let error = store.probe(&commit(), 9, GET).await.unwrap_err();
        assert!(error.is_retriable(), "{foreign:?}: {error}");
        assert_eq!(server.heads().len(), 1);
        // Who repeats requests waits until the store answers.
        let server = Server::start(vec![foreign, foreign, ABSENT]).await;
        let error = server.store().get(&commit(), GET).await.unwrap_err();
        assert!(error.is_not_found(), "{foreign:?}: {error}");
        assert_eq!(server.heads().len(), 3);
    }
}

#[test]
fn who_believes_a_not_found_whoever_says_it_is_found() {
    assert_needed(&[(
        Rule::OnlyStoreSaysNotFound,
        only_the_store_s_own_words_show_that_an_object_is_absent,
    )]);
}

#[tokio::test]
async fn an_answer_of_something_between_is_told_with_what_to_do() {
    let page = Answer::Foreign(404, HTML, PAGE);
    let store = Server::start(vec![page]).await.store();
    let error = store
        .probe(&commit(), 9, GET)
        .await
        .unwrap_err()
        .to_string();
    for part in [
        "other than the store",
        "404",
        "text/html, from nginx",
        "between this machine",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn only_the_store_s_own_answer_shows_what_became_of_a_create() {
    let successes = [
        Answer::Foreign(200, HTML, PAGE),
        Answer::Foreign(200, "etag: \"a\"\r\n", "{\"ok\":true}"),
        Answer::Foreign(200, "", ""),
    ];
    for foreign in FOREIGN_ERRORS.into_iter().chain(successes) {
        let server = Server::start(vec![foreign]).await;
        let created = create(&server.store()).await.unwrap();
        assert!(
            matches!(created, Created::Unknown(_)),
            "{foreign:?}: {created:?}"
        );
        assert_eq!(server.heads().len(), 1);
    }
    let server = Server::start(vec![successes[0], SLOW, Answer::Status(200, "")]).await;
    let segment = RequestKind::SegmentPut;
    server
        .store()
        .put_unique(&commit(), vec![1], segment)
        .await
        .unwrap();
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn an_object_is_not_a_page_nor_a_part_that_nobody_asked_for() {
    let whole = "WEIR and more";
    let answers = vec![
        Answer::Foreign(200, HTML, PAGE),
        Answer::Foreign(200, "content-type: text/plain\r\n", "welcome"),
        // Static pages come in parts, too.
        Answer::Foreign(
            206,
            "content-type: text/html\r\ncontent-range: bytes 0-39/40\r\n",
            PAGE,
        ),
        Answer::Foreign(206, "content-range: bytes 0-6/7\r\n", "welcome"),
        Answer::Foreign(206, "", "WEIR and more"),
        // Other bytes than were asked for, and fewer than announced.
        Answer::Part(1, "EIR and more", 13),
        Answer::Part(0, "WEIR and mor", 13),
        Answer::Part(0, whole, 13),
    ];
    let server = Server::start(answers.clone()).await;
    let read = server.store().get_range(&commit(), 0..1000, GET).await;
    assert_eq!(read.unwrap(), (Bytes::from_static(whole.as_bytes()), 13));
    assert_eq!(server.heads().len(), answers.len());
    let answers = vec![answers[0], answers[1], Answer::Status(200, whole)];
    let server = Server::start(answers).await;
    assert_eq!(server.store().get(&commit(), GET).await.unwrap(), whole);
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn damage_that_the_store_itself_gives_out_is_passed_on_as_such() {
    let server = Server::start(vec![Answer::Status(200, "damaged")]).await;
    assert_eq!(server.store().get(&commit(), GET).await.unwrap(), "damaged");
    let server = Server::start(vec![Answer::Part(0, "damaged", 7)]).await;
    let read = server.store().probe(&commit(), 100, GET).await.unwrap();
    assert_eq!(read.unwrap().0, "damaged");
}

#[tokio::test]
async fn a_range_behind_the_end_is_shown_by_the_store_or_by_the_length() {
    for answer in [
        Answer::Status(416, "<Error><Code>InvalidRange</Code></Error>"),
        Answer::Foreign(416, "content-range: bytes */13\r\n", "no such range"),
    ] {
        let store = Server::start(vec![answer]).await.store();
        let error = store.get_range(&commit(), 50..60, GET).await.unwrap_err();
        assert!(matches!(error, StoreError::OutOfRange { .. }), "{error}");
    }
    let page = Answer::Foreign(416, HTML, PAGE);
    let found = Answer::Part(50, "x", 51);
    let store = Server::start(vec![page, found]).await.store();
    assert_eq!(store.get_range(&commit(), 50..60, GET).await.unwrap().1, 51);
}

#[tokio::test]
async fn a_page_is_not_an_empty_listing() {
    let listed = "<?xml version=\"1.0\"?><ListBucketResult><Contents>\
        <Key>manifest/log/00000000000000000001.commit</Key><Size>4</Size>\
        <LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>";
    let answers = vec![
        Answer::Foreign(200, HTML, PAGE),
        Answer::Foreign(200, "content-type: application/xml\r\n", PAGE),
        Answer::Foreign(200, "", ""),
        Answer::Foreign(200, "", "<ListBucketResult>"),
        Answer::Foreign(404, HTML, PAGE),
        Answer::Status(200, listed),
    ];
    let requests = answers.len();
    let server = Server::start(answers).await;
    let found = server
        .store()
        .list(ObjectPrefix::Log, None, 10)
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(server.heads().len(), requests);
}

#[tokio::test]
async fn a_page_deletes_nothing() {
    let answers = vec![
        Answer::Foreign(200, HTML, PAGE),
        Answer::Foreign(404, HTML, PAGE),
        Answer::Status(
            200,
            "<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>",
        ),
    ];
    let server = Server::start(answers).await;
    server.store().delete(vec![commit()]).await.unwrap();
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn only_the_store_s_own_answers_tell_its_clock() {
    const DATED_HTML: &str =
        "content-type: text/html\r\netag: \"a\"\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    const DATED: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let foreign = [
        Answer::Foreign(404, DATED_HTML, PAGE),
        Answer::Foreign(403, DATED_HTML, PAGE),
        Answer::Foreign(200, DATED_HTML, PAGE),
        Answer::Foreign(503, DATED, ""),
        Answer::Foreign(302, DATED, ""),
    ];
    for answer in foreign {
        let store = Server::start(vec![answer]).await.store();
        for _ in 0..5 {
            let _ = store.probe(&commit(), 9, GET).await;
            let _ = create(&store).await;
        }
        assert_eq!(store.judge_clock(), Ok(()), "{answer:?}");
    }
    let own = [
        ABSENT,
        Answer::Status(503, "<Error><Code>SlowDown</Code></Error>"),
        Answer::Status(200, ""),
    ];
    for answer in own {
        let store = Server::start(vec![answer]).await.store();
        let _ = store.probe(&commit(), 9, GET).await;
        let _ = create(&store).await;
        assert!(store.judge_clock().is_err(), "{answer:?}");
    }
}
