//! Every API in every version, with requests of all kinds.

use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::kafka::apis::{APIS, with_request_type};
use crate::kafka::guard::tests::Maker;

use super::*;

/// Whatever a well-formed request says, it is answered in its version, by an answer that the codec reads
/// to its end, and the connection goes on.
#[tokio::test(start_paused = true)]
async fn every_api_answers_in_every_version() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "x", 3).await;
    every_request_is_answered(&rig, &mut client).await;
}

/// Sends requests of every kind, and expects an answer to each.
pub(super) async fn every_request_is_answered(rig: &Rig, client: &mut Client) {
    let mut runner = TestRunner::deterministic();
    let choices = proptest::collection::vec(proptest::num::u8::ANY, 1..100);
    for api in &APIS {
        for version in api.versions.min..=api.versions.max {
            for _ in 0..12 {
                let choices = choices.new_tree(&mut runner).unwrap().current();
                let made = Maker::make(api.key, version, &choices).out;
                if decodes(api.key, version, &made).is_none() {
                    continue;
                }
                answers(rig, client, api.key, version, &made).await;
            }
        }
    }
}

/// The size of the request, if the codec takes it.
fn decodes(api: ApiKey, version: i16, body: &[u8]) -> Option<bool> {
    let mut body = Bytes::copy_from_slice(body);
    if api == ApiKey::Produce {
        use kafka_protocol::messages::ProduceRequest;
        let request = ProduceRequest::decode(&mut body, version).ok()?;
        return Some(request.acks == 0);
    }
    with_request_type!(api, R => {
        R::decode(&mut body, version).ok().map(|_| false)
    }, else None)
}

async fn answers(rig: &Rig, client: &mut Client, api: ApiKey, version: i16, body: &[u8]) {
    client.send_body(api as i16, version, body).await;
    let what = format!("{api:?} {version}: {body:?}");
    let limit = Duration::from_secs(7200);
    let frame = tokio::time::timeout(limit, client.frame()).await;
    let Some(mut frame) = frame.expect(&what) else {
        // Kafka, too, answers a failed Produce without acknowledgement by closing.
        assert_eq!(decodes(api, version, body), Some(true), "{what}");
        *client = rig.connect();
        return;
    };
    with_request_type!(api, R => {
        let header_version = <R as Request>::Response::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
        assert_eq!(header.correlation_id, client.correlation, "{what}");
        let response = <R as Request>::Response::decode(&mut frame, version);
        assert!(response.is_ok() && !frame.has_remaining(), "{what}: {response:?}");
    }, else panic!("not offered"));
}

/// What an honest client sends first, in each version of it.
#[tokio::test(start_paused = true)]
async fn api_versions_tells_what_is_offered_and_who_asks() {
    use kafka_protocol::messages::ApiVersionsRequest;
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 0..=4 {
        let request = match version {
            3.. => ApiVersionsRequest::default()
                .with_client_software_name(words("apache-kafka-java"))
                .with_client_software_version(words("4.1.0")),
            _ => ApiVersionsRequest::default(),
        };
        let answer = client.call(version, request).await;
        assert_eq!(answer.error_code, 0);
        let told: Vec<_> = answer
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version))
            .collect();
        let offered: Vec<_> = APIS
            .iter()
            .map(|api| (api.key as i16, api.versions.min, api.versions.max))
            .collect();
        assert_eq!(told, offered);
    }
    let request = ApiVersionsRequest::default().with_client_software_name(words("not a name"));
    assert_eq!(client.call(3, request).await.error_code, 42);
}

#[tokio::test(start_paused = true)]
async fn api_versions_that_is_too_new_is_answered_in_version_0() {
    use kafka_protocol::messages::ApiVersionsResponse;
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let mut frame = BytesMut::new();
    frame.put_i16(18);
    frame.put_i16(77);
    frame.put_i32(1234);
    frame.extend_from_slice(b"whatever the future brings");
    client.send_frame(&frame).await;
    let mut answer = client.frame().await.unwrap();
    assert_eq!(answer.get_i32(), 1234);
    let answer = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(answer.error_code, 35);
    let only = &answer.api_keys[..];
    assert_eq!(only.len(), 1);
    assert_eq!(
        (only[0].api_key, only[0].min_version, only[0].max_version),
        (18, 0, 4)
    );
    // The same connection goes on with a version that both know.
    let request = kafka_protocol::messages::ApiVersionsRequest::default();
    assert_eq!(client.call(0, request).await.error_code, 0);
}
