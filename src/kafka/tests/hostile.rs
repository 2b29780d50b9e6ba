//! Requests that nobody would send, to a whole node: it answers or closes, and goes on.

#![allow(
    clippy::print_stdout,
    reason = "a run says what it did, to those who ask with --nocapture"
)]

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;

use crate::fuzz::tests::{Chance, HOSTILE};
use crate::kafka::fuzz;

use super::*;

/// How many requests; more if somebody asks for a longer run.
fn requests() -> usize {
    let longer = std::env::var("WEIR_FUZZ_SECONDS").ok();
    let seconds: usize = longer.and_then(|text| text.parse().ok()).unwrap_or(0);
    let usual = if cfg!(debug_assertions) {
        1_500
    } else {
        10_000
    };
    usual.max(seconds * 200)
}

/// A well-formed frame whose numbers and lengths are at the edges of what can be said.
fn hostile(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut frame = chance.of(corpus).clone();
    // The first eight bytes say what it is and to whom the answer goes.
    let body = 8..frame.len();
    for _ in 0..chance.below(4) {
        let number = chance.of(HOSTILE).to_be_bytes();
        let width = *chance.of(&[1, 2, 4, 8]);
        let at = body.start + chance.below(body.len());
        for (there, byte) in frame.iter_mut().skip(at).zip(&number[8 - width..]) {
            *there = *byte;
        }
    }
    frame
}

/// A node, and a topic `x` with records, so that requests that name it get somewhere.
async fn prepared() -> (Rig, Client) {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "x", 3).await;
    create(&mut client, "xx", 1).await;
    (rig, client)
}

#[tokio::test(start_paused = true)]
async fn a_node_outlives_hostile_requests_of_every_api_and_version() {
    let corpus = crate::fuzz::tests::corpus::of("kafka_request");
    let mut chance = Chance::new(77);
    let (mut rig, mut client) = prepared().await;
    let (mut answered, mut closed) = (0, 0);
    for n in 0..requests() {
        if n % 500 == 499 {
            // What went before must not fill the node with groups and topics for ever.
            (rig, client) = prepared().await;
        }
        let frame = hostile(&corpus, &mut chance);
        let what = format!("{frame:02x?}");
        // Some answers are awaited for as long as the client says: up to 24 days.
        let limit = Duration::from_secs(3600 * 24 * 40);
        let asked = AssertUnwindSafe(async {
            client.send_frame(&frame).await;
            if is_silent(&frame) {
                client = rig.connect();
                return true;
            }
            client.frame().await.is_some()
        });
        let outcome = tokio::time::timeout(limit, asked.catch_unwind()).await;
        if outcome.expect(&what).expect(&what) {
            answered += 1;
        } else {
            closed += 1;
            let ended = std::mem::replace(&mut client, rig.connect()).ended;
            ended
                .await
                .unwrap_or_else(|panic| panic!("{panic}: {what}"));
        }
    }
    assert!(rig.node.broker().manifest().stopped().is_none());
    let request = kafka_protocol::messages::ApiVersionsRequest::default();
    assert_eq!(rig.connect().call(0, request).await.error_code, 0);
    println!("hostile requests: {answered} answered, {closed} refused");
    assert!(answered > closed / 10 && closed > 0, "{answered} {closed}");
}

/// A Produce without acknowledgement has no answer.
fn is_silent(frame: &[u8]) -> bool {
    use kafka_protocol::messages::ProduceRequest;
    if frame.get(..2) != Some(&[0, 0]) || !fuzz::request(frame) {
        return false;
    }
    let frame = Bytes::copy_from_slice(frame);
    let Ok(crate::kafka::codec::Opening::Request(header, body)) = crate::kafka::codec::open(&frame)
    else {
        return false;
    };
    crate::kafka::codec::decode::<ProduceRequest>(&header, body).is_ok_and(|r| r.acks == 0)
}
