//! What nodes say of each other's settings, and what is set for one of them.

use super::*;
use crate::config::ServeConfig;

/// A node that says what it is set to.
async fn served(store: &Store, seed: u64, rack: &str) -> Node {
    let node = node(store, seed, |_| {}).await;
    let mut config = ServeConfig::default();
    config.node.rack = Some(rack.to_owned());
    let properties = NodeProperties::new(&config, &[]);
    node.broker().describe_self(properties);
    // All behind one load balancer.
    let endpoints = Endpoints::from([("kafka".to_owned(), "balancer:9092".to_owned())]);
    let registered = node.broker().register(endpoints, config.node.rack.clone());
    registered.await.unwrap();
    node
}

async fn described(node: &Node, id: i32, name: &str) -> ConfigEntry {
    let names = [name.to_owned()];
    let of_node = ConfigResource::Node(id);
    let session = session();
    let described = node
        .broker()
        .describe_configs(&session, &of_node, Some(&names));
    described.await.unwrap().remove(0)
}

async fn set(node: &Node, id: i32, edits: &[(&str, ConfigEdit)]) -> Result<(), TopicError> {
    let edits = edits
        .iter()
        .map(|(name, edit)| ((*name).to_owned(), edit.clone()))
        .collect();
    let of_node = ConfigResource::Node(id);
    node.broker()
        .alter_configs(&session(), &of_node, edits, false)
        .await
}

#[tokio::test(start_paused = true)]
async fn every_node_tells_the_settings_of_every_other() {
    let store = Store::memory();
    let nodes = [served(&store, 1, "a").await, served(&store, 2, "b").await];
    for asked in &nodes {
        for (id, rack) in [(0, "a"), (1, "b")] {
            let told = described(asked, id, "broker.rack").await;
            assert_eq!(told.value.as_deref(), Some(rack));
            assert_eq!((told.source, told.read_only), (ConfigSource::Static, true));
            let told = described(asked, id, "node.id").await;
            assert_eq!(told.value, Some(id.to_string()));
        }
        let unknown = ConfigResource::Node(7);
        let told = asked
            .broker()
            .describe_configs(&session(), &unknown, None)
            .await;
        assert!(
            matches!(told, Err(TopicError::InvalidRequest(_))),
            "{told:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_for_one_node_holds_for_that_one_and_stays_with_its_id() {
    let store = Store::memory();
    let (a, b) = (served(&store, 1, "a").await, served(&store, 2, "b").await);
    let refused = (
        "auto.create.topics.enable",
        ConfigEdit::Set("false".to_owned()),
    );
    let small = ("message.max.bytes", ConfigEdit::Set("70".to_owned()));
    // Through the other node.
    set(&b, 0, &[refused, small]).await.unwrap();
    a.manifest().fresh().await.unwrap();
    let shown = described(&b, 0, "message.max.bytes").await;
    assert_eq!(shown.value.as_deref(), Some("70"));
    assert_eq!(shown.source, ConfigSource::Node);
    let shown = described(&a, 1, "message.max.bytes").await;
    assert_eq!(shown.source, ConfigSource::Default);

    let created = async |node: &Node, name: &str| {
        let (session, wanted) = (session(), [TopicRef::Name(name.to_owned())]);
        let described = node.broker().describe_topics(&session, &wanted, true);
        described.await.unwrap()[0].is_ok()
    };
    assert!(!created(&a, "one").await);
    assert!(created(&b, "one").await);
    let long = || batch(&["a record that is longer than that"], 0, None);
    let produced = produce(&a, "one", long()).await;
    assert!(
        matches!(produced, Err(ProduceError::Batch { .. })),
        "{produced:?}"
    );
    produce(&b, "one", long()).await.unwrap();

    // Another incarnation is given the id.
    a.broker().retire().await.unwrap();
    let again = served(&store, 3, "c").await;
    assert_eq!(again.broker().node_id(), Some(NodeId(0)));
    assert!(!created(&again, "two").await);
    let back = [
        ("auto.create.topics.enable", ConfigEdit::Delete),
        ("message.max.bytes", ConfigEdit::Delete),
    ];
    set(&b, 0, &back).await.unwrap();
    again.manifest().fresh().await.unwrap();
    assert!(created(&again, "two").await);
}

#[tokio::test(start_paused = true)]
async fn what_no_single_node_decides_is_refused_with_the_reason() {
    let a = served(&Store::memory(), 1, "a").await;
    for (name, value, reason) in [
        ("log.retention.ms", "1", "all nodes share"),
        ("broker.rack", "x", "is read-only"),
        ("no.such.setting", "x", "has no setting"),
        ("num.partitions", "0", "is not a valid value"),
    ] {
        let refused = set(&a, 0, &[(name, ConfigEdit::Set(value.to_owned()))]).await;
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(reason), "{name}: {said}");
    }
    let refused = set(&a, 9, &[("num.partitions", ConfigEdit::Delete)]).await;
    assert!(refused.unwrap_err().to_string().contains("no node 9"));
}

#[tokio::test(start_paused = true)]
async fn a_topic_has_as_many_replicas_as_were_asked_for() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    let new = |name: &str, replicas| NewTopic {
        name: name.to_owned(),
        partitions: Some(2),
        replication_factor: replicas,
        ..NewTopic::default()
    };
    let factor = ConfigEdit::Set("2".to_owned());
    let edits = [("default.replication.factor".to_owned(), factor)].into();
    let by = session();
    let altered = a
        .broker()
        .alter_configs(&by, &ConfigResource::Cluster, edits, false);
    altered.await.unwrap();
    let assigned = NewTopic {
        partitions: None,
        assignment: Some([(0, vec![0, 1, 2, 3])].into()),
        ..new("assigned", None)
    };
    let topics = vec![
        new("three", Some(3)),
        new("default", None),
        new("one", Some(1)),
        assigned,
    ];
    let created = a.broker().create_topics(&session(), topics, false).await;
    let told = |views: Vec<Result<TopicView, TopicError>>| -> Vec<i16> {
        let views = views.into_iter();
        views.map(|view| view.unwrap().replicas).collect()
    };
    assert_eq!(told(created.unwrap()), [3, 2, 1, 4]);
    let names = ["three", "default", "one", "assigned"].map(|name| TopicRef::Name(name.to_owned()));
    let described = b.broker().describe_topics(&session(), &names, false).await;
    assert_eq!(told(described.unwrap()), [3, 2, 1, 4]);
    for factor in [0, -2, MAX_REPLICAS + 1] {
        let topics = vec![new("bad", Some(factor))];
        let created = a.broker().create_topics(&session(), topics, false).await;
        let refused = &created.unwrap()[0];
        assert!(
            matches!(refused, Err(TopicError::InvalidReplicationFactor { .. })),
            "{refused:?}"
        );
    }
}
