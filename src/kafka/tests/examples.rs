//! Requests to begin with, for [`crate::fuzz`].

use bytes::BytesMut;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Encodable;

use crate::kafka::apis::{APIS, with_request_type};
use crate::kafka::guard::tests::Maker;

/// A default request of every API in every version, as frames without their length: something to begin with.
pub(crate) fn defaults() -> Vec<Vec<u8>> {
    let every = APIS
        .iter()
        .flat_map(|api| (api.versions.min..=api.versions.max).map(|version| (api.key, version)));
    every
        .filter_map(|(api, version)| {
            let mut body = BytesMut::new();
            with_request_type!(api, R => R::default().encode(&mut body, version).ok()?, else return None);
            Some(frame(api as i16, version, &body))
        })
        .collect()
}

/// A frame, without its length, of a client that says who it is.
pub(crate) fn frame(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let client = b"fuzz";
    let mut frame = Vec::with_capacity(body.len() + 16);
    frame.extend(api.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7i32.to_be_bytes());
    frame.extend((client.len() as i16).to_be_bytes());
    frame.extend(client);
    let flexible = ApiKey::try_from(api).is_ok_and(|api| api.request_header_version(version) >= 2);
    frame.extend(flexible.then_some(0));
    frame.extend(body);
    frame
}

/// A made-up body, out of the guard's table, for [`crate::fuzz`].
pub(crate) fn made_up(api: ApiKey, version: i16, choices: &[u8]) -> Vec<u8> {
    Maker::make(api, version, choices).out
}
