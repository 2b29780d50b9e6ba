//! Requests for [`crate::fuzz`]: what a connection does with the bytes of a client before a handler sees them.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::net::{FrameLimits, FrameReader, MemoryBudget};
use crate::types::ByteCount;

use super::apis::with_request_type;
use super::codec::{self, Opening};
use super::guard;
use super::options::KafkaOptions;

/// Opens, judges and decodes a frame, without its length. True if it is a request.
pub(crate) fn request(frame: &[u8]) -> bool {
    let frame = Bytes::copy_from_slice(frame);
    let Ok(Opening::Request(header, body)) = codec::open(&frame) else {
        return false;
    };
    let Ok(verdict) = codec::check(&header, &body) else {
        return false;
    };
    let api = header.api.key;
    assert!(verdict.end <= body.len());
    assert!(verdict.memory <= guard::memory_limit(api as i16, body.len()));
    with_request_type!(api, R => {
        let mut rest = body.clone();
        let Ok(request) = R::decode(&mut rest, header.version) else {
            return false;
        };
        assert_eq!(body.len() - rest.len(), verdict.end, "{api:?} {}", header.version);
        // Some that can be read cannot be written, such as a null that only old versions have.
        let _ = request.encode(&mut BytesMut::new(), header.version);
        true
    }, else false)
}

/// Reads a stream of frames, each with its length, and each frame as a request. True if there was one.
pub(crate) fn stream(stream: &[u8]) -> bool {
    let options = KafkaOptions::default();
    let limits = FrameLimits {
        max_size: ByteCount::mib(1),
        stall: options.max_stall,
    };
    let budget = MemoryBudget::new(ByteCount::mib(2));
    let mut frames = FrameReader::new(stream, limits, budget);
    let read = async {
        let mut any = false;
        while let Ok(Some(frame)) = frames.next(|_, size| size).await {
            any |= request(&frame.body);
        }
        any
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return false;
    };
    runtime.block_on(read)
}
