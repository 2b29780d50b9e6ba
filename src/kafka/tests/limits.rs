//! Frames that break the rules, and bounds.

use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};

use crate::types::ByteCount;

use super::*;

fn header(key: i16, version: i16) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(1);
    frame
}

#[tokio::test(start_paused = true)]
async fn a_bad_frame_ends_its_connection_and_no_other() {
    let rig = Rig::new().await;
    let mut bystander = rig.connect();
    let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut add = |what, frame: &[u8]| {
        let length = i32::try_from(frame.len()).unwrap();
        cases.push((what, [&length.to_be_bytes()[..], frame].concat()));
    };
    add("an empty frame", b"");
    add("half a header", b"\0\x03\0");
    add("an unknown API", &header(4, 0));
    add("an API that is not offered", &header(22 + 4, 0));
    add("a negative API", &header(-1, 0));
    add("a version that is too new", &header(3, 99));
    add("a version that is too old", &header(0, 2));
    add("a negative version", &header(3, -1));
    let mut lie = header(3, 1);
    lie.put_i16(-1);
    lie.put_i32(i32::MAX);
    add("an array longer than the frame", &lie);
    let mut lie = header(3, 1);
    lie.put_i16(i16::MAX);
    add("a client id longer than the frame", &lie);
    let mut text = header(3, 1);
    text.put_i16(-1);
    text.put_i32(1);
    text.put_i16(2);
    text.extend_from_slice(&[0xc3, 0x28]);
    add("a topic that is not UTF-8", &text);
    cases.push(("a negative length", (-1i32).to_be_bytes().to_vec()));
    cases.push(("a huge length", i32::MAX.to_be_bytes().to_vec()));
    cases.push(("an HTTP request", b"GET / HTTP/1.1\r\n\r\n".to_vec()));
    let count = cases.len();
    for (what, bytes) in cases {
        let mut client = rig.connect();
        client.stream.write_all(&bytes).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(1), client.expect_close()).await;
        assert!(closed.is_ok(), "{what}");
        let answer = bystander.call(0, ApiVersionsRequest::default()).await;
        assert_eq!(answer.error_code, 0, "{what}");
    }
    let line = format!("weir_kafka_connections_closed_total{{reason=\"violation\"}} {count}");
    assert!(rig.metrics().contains(&line), "{}", rig.metrics());
    let requests = &rig.shared.requests;
    assert_eq!(requests.available(), requests.capacity());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_within_a_frame_is_let_go() {
    let rig = Rig::new().await;
    for bytes in [&b"\0"[..], b"\0\0\x10\0", b"\0\0\x10\0\0\x03\0"] {
        let mut client = rig.connect();
        client.stream.write_all(bytes).await.unwrap();
        drop(client.stream);
        client.ended.await.unwrap();
    }
    let requests = &rig.shared.requests;
    assert_eq!(requests.available(), requests.capacity());
}

#[tokio::test(start_paused = true)]
async fn requests_share_the_budget_and_all_are_answered() {
    let options = KafkaOptions {
        request_memory: ByteCount::kib(64),
        ..KafkaOptions::default()
    };
    let rig = Rig::with(options).await;
    let mut first = rig.connect();
    create(&mut first, "t", 1).await;
    let clients = (0..20).map(|_| {
        let mut client = rig.connect();
        async move {
            for _ in 0..5 {
                let produced =
                    data::produce(&mut client, 9, "t", batch(&[&"x".repeat(20_000)])).await;
                assert_eq!(produced.error_code, 0);
            }
        }
    });
    futures::future::join_all(clients).await;
    assert_eq!(data::end_offset(&mut first, "t").await, 100);
    let requests = &rig.shared.requests;
    assert_eq!(requests.available(), requests.capacity());
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_idle_connections_at_once() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    client.call(12, MetadataRequest::default()).await;
    rig.stop.cancel();
    client.expect_close().await;
}

#[tokio::test]
async fn the_listener_serves_and_stops() {
    use crate::net::{Listener, ListenerOptions};
    let rig = Rig::new().await;
    let listener = Listener::bind("kafka", "127.0.0.1:0", ListenerOptions::default());
    let listener = listener.await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let broker = rig.node.broker().clone();
    let metrics = rig.shared.metrics.clone();
    let options = KafkaOptions::default();
    let front = KafkaFrontEnd::new(broker, options, metrics);
    let server = tokio::spawn(front.serve(listener, stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // ApiVersions 0 with a null client id.
    let request = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x05\xff\xff";
    stream.write_all(request).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..6], [0, 0, 0, 5, 0, 0]);
    stop.cancel();
    assert_eq!(server.await.unwrap().dropped, 0);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_the_addresses_for_the_listener_that_it_came_through() {
    use kafka_protocol::messages::{DescribeClusterRequest, FindCoordinatorRequest};
    let rig = Rig::new().await;
    let listeners = ["kafka", "inside"];
    let endpoints = listeners.map(|name| (name.to_owned(), format!("{name}.example:9092")));
    let registered = rig.node.broker().register(Endpoints::from(endpoints), None);
    registered.await.unwrap();
    for listener in listeners {
        let expected = words(&format!("{listener}.example"));
        let mut client = rig.connect_to(listener);
        let cluster = client.call(12, MetadataRequest::default()).await;
        assert_eq!(cluster.brokers[0].host, expected);
        let cluster = client.call(1, DescribeClusterRequest::default()).await;
        assert_eq!(cluster.brokers[0].host, expected);
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![words("group")]);
        let found = client.call(4, request).await;
        assert_eq!(found.coordinators[0].host, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_named_again_and_again_is_answered_once() {
    use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
    use kafka_protocol::messages::{
        DescribeConfigsRequest, DescribeGroupsRequest, GroupId, OffsetFetchRequest,
    };
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "topic", 100).await;
    let topic = MetadataRequestTopic::default().with_name(Some(name("topic")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic; 1000]));
    let answer = client.call(9, request).await;
    assert_eq!(answer.topics.len(), 1);
    assert_eq!(answer.topics[0].partitions.len(), 100);
    let group = GroupId(words("group"));
    let request = DescribeGroupsRequest::default().with_groups(vec![group.clone(); 1000]);
    assert_eq!(client.call(4, request).await.groups.len(), 1);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(group)
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![group; 1000]);
    assert_eq!(client.call(8, request).await.groups.len(), 1);
    // Settings come with what they mean, which is long.
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(words("topic"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource.clone(); 1000]);
    let answer = client.call(4, request).await;
    assert!(answer.results.iter().all(|result| result.error_code == 42));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(4, request).await;
    assert!(answer.results[0].configs.len() > 10);
}

#[tokio::test(start_paused = true)]
async fn large_answers_are_not_made_before_there_is_room_for_them() {
    let options = KafkaOptions {
        response_memory: ByteCount::mib(1),
        ..KafkaOptions::default()
    };
    let rig = Rig::with(options).await;
    let mut client = rig.connect();
    create(&mut client, "topic", 2000).await;
    let held = rig.shared.responses.acquire(1 << 20).await;
    client
        .send(9, &MetadataRequest::default().with_topics(None))
        .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let api = r#"weir_kafka_requests_total{api="Metadata",error="none"}"#;
    assert!(!rig.metrics().contains(api), "it is not even made");
    drop(held);
    let answer = client.receive::<MetadataRequest>(9).await;
    assert_eq!(answer.topics[0].partitions.len(), 2000);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let responses = &rig.shared.responses;
    assert_eq!(responses.available(), responses.capacity());
}

#[tokio::test(start_paused = true)]
async fn who_only_connects_is_no_client() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.node.broker().clients(), 0);
    client.call(0, ApiVersionsRequest::default()).await;
    assert_eq!(rig.node.broker().clients(), 1);
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.node.broker().clients(), 0);
}
