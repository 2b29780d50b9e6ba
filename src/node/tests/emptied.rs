//! A store that is emptied, exchanged or taken away, under a node that runs or before one starts.

use std::fs;
use std::path::Path;

use uuid::Uuid;

use super::*;
use crate::manifest::OpenError;
use crate::rules::{Rule, assert_needed};
use crate::store::{Created, ObjectPath, RequestKind};
use crate::testing::{Fault, Faulty};

fn options(url: StoreUrl) -> NodeOptions {
    let mut options = NodeOptions::new(url, Env::system());
    options.manifest.look_interval = Duration::from_millis(20);
    options
}

async fn on(directory: &Path) -> Result<Node, NodeError> {
    let url = format!("file://{}", directory.display()).parse().unwrap();
    Node::open(options(url), &NodeMetrics::default()).await
}

/// Creates a topic, if the node commits at all.
async fn create(node: &Node, name: &str) -> bool {
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: Some(1),
        ..NewTopic::default()
    };
    let (broker, session) = (node.broker(), Session::internal("test"));
    let created = broker.create_topics(&session, vec![topic], false);
    let created = tokio::time::timeout(Duration::from_millis(500), created).await;
    created.is_ok_and(|created| created.is_ok_and(|each| each.iter().all(Result::is_ok)))
}

/// Asks the node for its state until it says what is wrong, or that all is well.
async fn said(node: &Node, what: impl Fn(&Option<String>) -> bool) -> Option<String> {
    let asking = async {
        loop {
            let asked = node.manifest().fresh();
            let _ = tokio::time::timeout(Duration::from_millis(20), asked).await;
            let said = node.manifest().refusal();
            if what(&said) {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let said = tokio::time::timeout(Duration::from_secs(8), asking).await;
    said.unwrap_or_else(|_| panic!("{:?}", node.manifest().refusal()))
}

fn move_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        if name != ".staging" {
            fs::rename(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_directory_that_is_emptied_is_noticed_and_gone_on_with_when_it_is_back() {
    let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = on(place.path()).await.unwrap();
    assert!(create(&node, "before").await);
    move_all(place.path(), elsewhere.path());
    let why = said(&node, Option::is_some).await.unwrap();
    for part in ["was emptied", "cluster.json", "mount it"] {
        assert!(why.contains(part), "{why}");
    }
    assert!(!create(&node, "meanwhile").await);
    assert!(!place.path().join("manifest").exists());
    move_all(elsewhere.path(), place.path());
    said(&node, Option::is_none).await;
    assert!(create(&node, "after").await);
}

#[tokio::test]
async fn a_directory_with_a_log_and_no_cluster_is_refused_with_a_sentence() {
    let place = tempfile::tempdir().unwrap();
    let node = on(place.path()).await.unwrap();
    assert!(create(&node, "t").await);
    node.stop(Duration::from_secs(5)).await;
    let cluster = place.path().join("cluster.json");
    let content = fs::read(&cluster).unwrap();
    fs::remove_file(&cluster).unwrap();
    let error = on(place.path()).await.err().unwrap();
    let is_it = matches!(&error, NodeError::Manifest(OpenError::NoCluster { .. }));
    assert!(is_it, "{error}");
    let error = error.to_string();
    for part in [
        "manifest/log/",
        "no cluster.json",
        "put cluster.json back",
        "another place",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!cluster.exists());
    fs::write(&cluster, content).unwrap();
    assert!(on(place.path()).await.is_ok());
}

#[test]
fn who_begins_a_new_cluster_or_does_not_look_is_found() {
    assert_needed(&[
        (
            Rule::NewClustersNeedEmptyLog,
            a_directory_with_a_log_and_no_cluster_is_refused_with_a_sentence,
        ),
        (
            Rule::ClusterIsWatched,
            a_directory_that_is_emptied_is_noticed_and_gone_on_with_when_it_is_back,
        ),
    ]);
}

#[tokio::test]
async fn a_store_that_is_now_another_cluster_s_is_not_written_to() {
    let store = Store::memory();
    let options = options(StoreUrl::memory());
    let node = Node::start(store.clone(), options, &NodeMetrics::default())
        .await
        .unwrap();
    let path = ObjectPath::cluster();
    let own = store.get(&path, RequestKind::Cluster).await.unwrap();
    let other = Uuid::from_u128(7);
    let json = format!("{{\"cluster_id\": \"{other}\", \"layout_version\": 1}}");
    for (content, lost) in [(json.into_bytes().into(), true), (own, false)] {
        store.delete(vec![path.clone()]).await.unwrap();
        let put = store.create(&path, content, RequestKind::Cluster).await;
        assert!(matches!(put, Ok(Created::Created)));
        let names_it = |why: &String| why.contains(&other.to_string());
        let what = |said: &Option<String>| match lost {
            true => said.as_ref().is_some_and(names_it),
            false => said.is_none(),
        };
        said(&node, what).await;
        assert_eq!(create(&node, &format!("lost-{lost}")).await, !lost);
    }
}

#[tokio::test]
async fn a_store_that_refuses_says_why_until_it_does_so_no_more() {
    let (store, switch) = Faulty::switched(Fault::Denied);
    let options = options(StoreUrl::memory());
    let node = Node::start(store, options, &NodeMetrics::default())
        .await
        .unwrap();
    switch.set(true);
    let why = said(&node, Option::is_some).await.unwrap();
    assert!(why.contains("rights"), "{why}");
    switch.set(false);
    said(&node, Option::is_none).await;
    assert!(create(&node, "t").await);
}
