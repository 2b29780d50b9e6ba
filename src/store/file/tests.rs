use std::collections::BTreeSet;

use object_store::ObjectStoreExt;

use super::*;

fn open(directory: &tempfile::TempDir) -> FileStore {
    FileStore::open(directory.path(), Env::system()).unwrap()
}

fn path() -> Path {
    Path::from("manifest/log/00000000000000000001.commit")
}

fn staged(directory: &tempfile::TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.path().join(STAGING)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

async fn create(store: &FileStore, body: &'static str) -> Result<PutResult> {
    store
        .put_opts(&path(), body.into(), PutMode::Create.into())
        .await
}

#[tokio::test]
async fn nothing_is_left_in_staging_by_a_win_a_loss_or_an_overwrite() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    create(&store, "a").await.unwrap();
    let lost = create(&store, "b").await.unwrap_err();
    assert!(
        matches!(lost, object_store::Error::AlreadyExists { .. }),
        "{lost:?}"
    );
    store.put(&path(), "c".into()).await.unwrap();
    assert_eq!(staged(&directory), Vec::<PathBuf>::new());
    let bytes = store.get(&path()).await.unwrap().bytes().await.unwrap();
    assert_eq!(bytes, "c");
}

#[tokio::test]
async fn two_processes_on_one_directory_have_one_winner_for_each_name() {
    let directory = tempfile::tempdir().unwrap();
    let stores = [Arc::new(open(&directory)), Arc::new(open(&directory))];
    for seq in 0..50 {
        let path = Path::from(format!("manifest/log/{seq:020}.commit"));
        let creates = (0..6usize).map(|n| {
            let (store, path) = (Arc::clone(&stores[n % 2]), path.clone());
            tokio::spawn(async move {
                let body = n.to_string();
                store
                    .put_opts(&path, body.into(), PutMode::Create.into())
                    .await
                    .is_ok()
            })
        });
        let answers = futures::future::join_all(creates).await;
        let winners: Vec<_> = (0..6)
            .filter(|n| *answers[*n].as_ref().unwrap())
            .map(|n| n.to_string())
            .collect();
        let bytes = stores[0].get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(winners, [String::from_utf8(bytes.to_vec()).unwrap()]);
    }
}

#[tokio::test]
async fn readers_never_see_a_part_of_an_object() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory));
    let reader = Arc::clone(&store);
    let reading = tokio::spawn(async move {
        let mut lengths = BTreeSet::new();
        for _ in 0..2000 {
            if let Ok(found) = reader.get(&path()).await {
                lengths.insert(found.bytes().await.unwrap().len());
            }
        }
        lengths
    });
    for byte in 0..20u8 {
        store
            .put(&path(), vec![byte; 1_000_000].into())
            .await
            .unwrap();
    }
    let lengths = reading.await.unwrap();
    assert!(
        lengths.iter().all(|length| *length == 1_000_000),
        "{lengths:?}"
    );
}

#[tokio::test]
async fn what_a_crash_left_in_staging_is_no_object_and_is_removed_after_an_hour() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    create(&store, "a").await.unwrap();
    // A crash while writing, and one between the link and the removal of the second name.
    let half = directory.path().join(STAGING).join("half");
    let second = directory.path().join(STAGING).join("second");
    fs::write(&half, "ha").unwrap();
    let target = store.inner.path_to_filesystem(&path()).unwrap();
    fs::hard_link(&target, &second).unwrap();
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    // An object with two names can be read: the reader syncs its directory.
    assert_eq!(
        store.get(&path()).await.unwrap().bytes().await.unwrap(),
        "a"
    );
    drop(open(&directory));
    assert_eq!(
        staged(&directory).len(),
        2,
        "they are young: another process may be writing them"
    );
    let old = std::fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000));
    for path in [&half, &second] {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_times(old)
            .unwrap();
    }
    let store = open(&directory);
    assert_eq!(staged(&directory), Vec::<PathBuf>::new());
    assert_eq!(
        store.get(&path()).await.unwrap().bytes().await.unwrap(),
        "a"
    );
}

#[test]
fn a_full_disk_is_an_error_that_can_be_tried_again_and_says_so() {
    let full = io::Error::from(ErrorKind::StorageFull);
    assert_eq!(
        judge_io(&full, false),
        Verdict::Transient { reached: false }
    );
    let error = failed(&full, FilePath::new("/data/x"), false).to_string();
    assert!(error.contains("the disk is full"), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(FileStore::open(&file.join("under"), Env::system()).is_err());
}

#[tokio::test]
async fn an_upload_in_parts_leaves_nothing_in_staging_whether_it_ends_or_is_aborted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let id = store.create_multipart(&path()).await.unwrap();
    assert_eq!(staged(&directory).len(), 1);
    let path = path();
    let last = store.put_part(&path, &id, 1, "end".into()).await.unwrap();
    let first = vec![1; PART_LEN].into();
    let first = store.put_part(&path, &id, 0, first).await.unwrap();
    let missing = store
        .complete_multipart(&path, &id, vec![first.clone()])
        .await;
    assert!(missing.is_err(), "a part is not in the list");
    store
        .complete_multipart(&path, &id, vec![first, last])
        .await
        .unwrap();
    assert_eq!(staged(&directory), Vec::<PathBuf>::new());
    let size = store.head(&path).await.unwrap().size;
    assert_eq!(size, PART_LEN as u64 + 3);

    let id = store.create_multipart(&path).await.unwrap();
    store.abort_multipart(&path, &id).await.unwrap();
    assert_eq!(staged(&directory), Vec::<PathBuf>::new());
    for id in [id, "../cluster.json".to_owned()] {
        let gone = store.put_part(&path, &id, 0, "x".into()).await.unwrap_err();
        assert!(
            matches!(gone, object_store::Error::NotFound { .. }),
            "{gone:?}"
        );
    }
}
