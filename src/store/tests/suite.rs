//! What every store must do, run against each of them. The S3 store is tested when `WEIR_TEST_S3_URL` names
//! a bucket (`s3://bucket/prefix`) and the environment has its endpoint and credentials.

use bytes::Bytes;
use uuid::Uuid;

use crate::env::Env;
use crate::store::{
    Created, ObjectPath, ObjectPrefix, Outcome, PART_LEN, PutBody, RequestKind, Store, StoreError,
    StoreMetrics, StoreOptions,
};
use crate::types::{ByteCount, SegmentId, Seq};

async fn every_store<T, F: Future<Output = T>>(test: impl Fn(Store) -> F) {
    test(Store::memory()).await;
    let directory = tempfile::tempdir().unwrap();
    // The directory and its parent do not exist yet.
    let url = format!("file://{}/a/b", directory.path().display());
    test(open(&url).await).await;
    if let Ok(url) = std::env::var("WEIR_TEST_S3_URL") {
        let run = Env::system().random_uuid();
        test(open(&format!("{}/{run}", url.trim_end_matches('/'))).await).await;
    }
}

async fn open(url: &str) -> Store {
    let url = url.parse().unwrap();
    Store::open(&url, StoreOptions::default(), StoreMetrics::default())
        .await
        .unwrap()
}

const PUT: RequestKind = RequestKind::CommitPut;
const GET: RequestKind = RequestKind::CommitGet;

fn body(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn a_created_object_is_read_back_whole_and_in_ranges() {
    every_store(async |store: Store| {
        let path = ObjectPath::commit(Seq(1));
        let pieces = vec![body("one "), body("two "), body("three")];
        assert_eq!(PutBody::from(pieces.clone()).len(), 13);
        let created = store.create(&path, pieces, PUT).await.unwrap();
        assert!(matches!(created, Created::Created), "{created:?}");
        assert_eq!(store.get(&path, GET).await.unwrap(), "one two three");
        let range = |range| store.get_range(&path, range, GET);
        assert_eq!(range(4..7).await.unwrap(), (body("two"), 13));
        assert_eq!(range(8..1000).await.unwrap(), (body("three"), 13));
        for outside in [13..14, 100..101, 3..3] {
            let error = range(outside).await.unwrap_err();
            assert!(matches!(error, StoreError::OutOfRange { .. }), "{error:?}");
        }
        assert_eq!(
            store.probe(&path, 3, GET).await.unwrap(),
            Some((body("one"), 13))
        );
        assert_eq!(store.head(&path, GET).await.unwrap().size, 13);
        assert_eq!(store.metrics().sent(PUT), 13);
    })
    .await;
}

#[tokio::test]
async fn a_create_of_an_object_that_exists_is_refused_and_changes_nothing() {
    every_store(async |store: Store| {
        let path = ObjectPath::commit(Seq(1));
        assert!(matches!(
            store.create(&path, body("a"), PUT).await,
            Ok(Created::Created)
        ));
        for _ in 0..3 {
            assert!(matches!(
                store.create(&path, body("b"), PUT).await,
                Ok(Created::Exists)
            ));
        }
        assert_eq!(store.get(&path, GET).await.unwrap(), "a");
        assert_eq!(store.metrics().count(PUT, Outcome::Ok), 1);
        assert_eq!(store.metrics().count(PUT, Outcome::Exists), 3);
    })
    .await;
}

#[tokio::test]
async fn of_many_creates_of_one_name_exactly_one_wins_and_its_bytes_stand() {
    every_store(async |store: Store| {
        for seq in 1..=10 {
            let path = ObjectPath::commit(Seq(seq));
            let creates = (0..8u8).map(|n| {
                let (store, path) = (store.clone(), path.clone());
                tokio::spawn(
                    async move { store.create(&path, vec![n; 10_000], PUT).await.unwrap() },
                )
            });
            let answers = futures::future::join_all(creates).await;
            let winners: Vec<_> = answers
                .into_iter()
                .enumerate()
                .filter(|(_, answer)| matches!(answer, Ok(Created::Created)))
                .map(|(n, _)| n)
                .collect();
            assert_eq!(winners.len(), 1, "winners of {path}: {winners:?}");
            let stands = store.get(&path, GET).await.unwrap();
            assert!(stands.iter().all(|byte| usize::from(*byte) == winners[0]));
        }
    })
    .await;
}

#[tokio::test]
async fn an_absent_object_is_an_error_for_a_read_and_an_answer_for_a_probe() {
    every_store(async |store: Store| {
        let path = ObjectPath::commit(Seq(9));
        assert!(store.get(&path, GET).await.unwrap_err().is_not_found());
        assert!(
            store
                .get_range(&path, 0..1, GET)
                .await
                .unwrap_err()
                .is_not_found()
        );
        assert!(store.head(&path, GET).await.unwrap_err().is_not_found());
        assert_eq!(
            store
                .probe(&path, 10, RequestKind::CommitProbe)
                .await
                .unwrap(),
            None
        );
        assert_eq!(store.metrics().count(GET, Outcome::NotFound), 3);
        assert_eq!(
            store
                .metrics()
                .count(RequestKind::CommitProbe, Outcome::NotFound),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn a_unique_name_may_be_written_again_with_the_same_bytes() {
    every_store(async |store: Store| {
        let path = ObjectPath::segment(SegmentId(Uuid::from_u128(0x77)));
        for _ in 0..2 {
            store
                .put_unique(&path, body("bytes"), RequestKind::SegmentPut)
                .await
                .unwrap();
        }
        assert_eq!(
            store.get(&path, RequestKind::SegmentGet).await.unwrap(),
            "bytes"
        );
    })
    .await;
}

const UPLOAD: RequestKind = RequestKind::CompactedPut;

/// A part whose every byte tells its number and its place.
fn part(number: u32, len: usize) -> Bytes {
    let byte = |at: usize| (at / 4099) as u8 ^ number as u8;
    (0..len).map(byte).collect()
}

#[tokio::test]
async fn an_upload_in_parts_of_any_order_is_one_object_and_not_seen_before_its_end() {
    every_store(async |store: Store| {
        let path = ObjectPath::segment(SegmentId(Uuid::from_u128(0x78)));
        let mut upload = store.upload(&path, 2, UPLOAD).await.unwrap();
        let parts = [part(0, PART_LEN), part(1, PART_LEN), part(2, 1000)];
        for number in [2u32, 1, 0] {
            let bytes = parts[number as usize].clone();
            upload.part(number, bytes).await.unwrap();
        }
        assert!(store.head(&path, GET).await.unwrap_err().is_not_found());
        assert_eq!(store.list(ObjectPrefix::All, None, 9).await.unwrap(), []);
        upload.finish().await.unwrap();
        let whole = store.get(&path, GET).await.unwrap();
        assert!(whole == parts.concat(), "{} bytes", whole.len());
        assert_eq!(store.metrics().sent(UPLOAD), whole.len() as u64);
        // A lone, short part is the last one.
        let path = ObjectPath::segment(SegmentId(Uuid::from_u128(0x79)));
        let mut upload = store.upload(&path, 2, UPLOAD).await.unwrap();
        upload.part(0, body("short")).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(store.get(&path, GET).await.unwrap(), "short");
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_is_aborted_or_lacks_a_part_is_no_object() {
    every_store(async |store: Store| {
        let path = ObjectPath::segment(SegmentId(Uuid::from_u128(0x7a)));
        let mut upload = store.upload(&path, 2, UPLOAD).await.unwrap();
        upload.part(0, part(0, PART_LEN)).await.unwrap();
        upload.abort().await.unwrap();
        for wrong in [
            vec![(1, 10)],
            vec![(0, 10), (1, 10)],
            vec![(0, PART_LEN + 1)],
            vec![],
        ] {
            let mut upload = store.upload(&path, 2, UPLOAD).await.unwrap();
            for (number, len) in wrong {
                upload.part(number, part(0, len)).await.unwrap();
            }
            let error = upload.finish().await.unwrap_err();
            assert!(matches!(error, StoreError::Refused { .. }), "{error}");
        }
        assert!(store.head(&path, GET).await.unwrap_err().is_not_found());
    })
    .await;
}

#[tokio::test]
async fn a_listing_is_in_the_order_of_names_and_shows_only_the_folder_asked_for() {
    every_store(async |store: Store| {
        let seqs = [30u64, 4, 1, 100, 22];
        for seq in seqs {
            let path = ObjectPath::commit(Seq(seq));
            assert!(matches!(
                store.create(&path, body("x"), PUT).await,
                Ok(Created::Created)
            ));
        }
        let other = ObjectPath::snapshot(Seq(4));
        assert!(matches!(
            store.create(&other, body("xy"), PUT).await,
            Ok(Created::Created)
        ));
        let listed = async |prefix, after: Option<u64>, limit| {
            let after = after.map(|seq| ObjectPath::commit(Seq(seq)));
            let listed = store.list(prefix, after.as_ref(), limit).await.unwrap();
            listed
                .into_iter()
                .map(|object| object.path)
                .collect::<Vec<_>>()
        };
        let commits = |seqs: &[u64]| {
            let paths = seqs.iter().map(|seq| ObjectPath::commit(Seq(*seq)));
            paths.collect::<Vec<_>>()
        };
        assert_eq!(
            listed(ObjectPrefix::Log, None, 100).await,
            commits(&[1, 4, 22, 30, 100])
        );
        assert_eq!(listed(ObjectPrefix::Log, None, 2).await, commits(&[1, 4]));
        assert_eq!(
            listed(ObjectPrefix::Log, Some(4), 2).await,
            commits(&[22, 30])
        );
        assert_eq!(listed(ObjectPrefix::Log, Some(100), 2).await, []);
        assert_eq!(listed(ObjectPrefix::Boundaries, None, 2).await, []);
        assert_eq!(listed(ObjectPrefix::All, None, 100).await.len(), 6);
        let snapshots = store.list(ObjectPrefix::Snapshots, None, 9).await.unwrap();
        assert_eq!((snapshots[0].size, &snapshots[0].path), (2, &other));
    })
    .await;
}

#[tokio::test]
async fn a_deleted_object_is_gone_and_may_be_deleted_again() {
    every_store(async |store: Store| {
        let paths: Vec<_> = (1..=5).map(|seq| ObjectPath::commit(Seq(seq))).collect();
        for path in &paths {
            assert!(matches!(
                store.create(path, body("x"), PUT).await,
                Ok(Created::Created)
            ));
        }
        store.delete(paths[..4].to_vec()).await.unwrap();
        store.delete(paths[..4].to_vec()).await.unwrap();
        assert!(store.get(&paths[0], GET).await.unwrap_err().is_not_found());
        assert_eq!(
            store.list(ObjectPrefix::Log, None, 9).await.unwrap().len(),
            1
        );
        assert!(matches!(
            store.create(&paths[0], body("y"), PUT).await,
            Ok(Created::Created)
        ));
    })
    .await;
}

#[tokio::test]
async fn an_object_above_the_limit_is_not_read_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("file://{}", directory.path().display())
        .parse()
        .unwrap();
    let mut options = StoreOptions::new(Env::system());
    options.max_object = ByteCount(10);
    let store = Store::open(&url, options, StoreMetrics::default())
        .await
        .unwrap();
    let path = ObjectPath::commit(Seq(1));
    assert!(matches!(
        store.create(&path, vec![0; 11], PUT).await,
        Ok(Created::Created)
    ));
    let error = store.get(&path, GET).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::TooLarge {
                size: 11,
                limit: 10,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        store.get_range(&path, 1..11, GET).await.unwrap().0.len(),
        10
    );
}
