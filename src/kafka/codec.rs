//! Frames as requests, and responses as frames.
//!
//! A request frame is a header and a body. The header is read here by hand, as its first eight bytes
//! decide everything else; the body goes through the [`guard`] and then to the codec.
//! Record batches stay opaque bytes that refer to the frame.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use super::apis::{self, Api};
use super::guard::{self, Refused, Verdict};

/// What the header says.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) api: &'static Api,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) client_id: Option<String>,
}

/// Why a frame is not a request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the frame has no whole request header")]
    Header,
    #[error("there is no API {0}")]
    UnknownApi(i16),
    #[error("{api} has no version {version}")]
    UnknownVersion { api: &'static str, version: i16 },
    #[error("the body of {api} version {version} is refused: {why}")]
    Refused {
        api: &'static str,
        version: i16,
        why: Refused,
    },
    #[error("the body of {api} version {version} cannot be read: {why}")]
    Undecodable {
        api: &'static str,
        version: i16,
        why: String,
    },
}

/// How a frame begins.
#[derive(Debug)]
pub(crate) enum Opening {
    /// A request with its body.
    Request(Header, Bytes),
    /// An ApiVersions request of a version that is too new. It is answered in version 0 (KIP-511).
    UnknownApiVersions { correlation: i32 },
}

/// Reads the header of a frame.
pub(crate) fn open(frame: &Bytes) -> Result<Opening, Malformed> {
    let fixed: &[u8; 8] = frame.first_chunk().ok_or(Malformed::Header)?;
    let [k0, k1, v0, v1, c0, c1, c2, c3] = *fixed;
    let key = i16::from_be_bytes([k0, k1]);
    let version = i16::from_be_bytes([v0, v1]);
    let correlation = i32::from_be_bytes([c0, c1, c2, c3]);
    let api = apis::find(key).ok_or(Malformed::UnknownApi(key))?;
    if !api.has(version) {
        if api.key == ApiKey::ApiVersions {
            return Ok(Opening::UnknownApiVersions { correlation });
        }
        return Err(Malformed::UnknownVersion {
            api: api.name,
            version,
        });
    }
    let header_version = api.key.request_header_version(version);
    let end = guard::check_header(header_version, frame).map_err(|_| Malformed::Header)?;
    // A client id that is not UTF-8 is no reason to refuse a client.
    let client_id = client_id(&frame[..end]);
    let header = Header {
        api,
        version,
        correlation,
        client_id,
    };
    Ok(Opening::Request(header, frame.slice(end..)))
}

fn client_id(header: &[u8]) -> Option<String> {
    let length = i16::from_be_bytes(*header.get(8..)?.first_chunk()?);
    let length = usize::try_from(length).ok()?;
    Some(String::from_utf8_lossy(header.get(10..10 + length)?).into_owned())
}

/// Judges a body.
pub(crate) fn check(header: &Header, body: &Bytes) -> Result<Verdict, Malformed> {
    guard::check(header.api, header.version, body).map_err(|why| Malformed::Refused {
        api: header.api.name,
        version: header.version,
        why,
    })
}

/// Decodes a body that the guard has passed.
pub(crate) fn decode<R: Decodable>(header: &Header, mut body: Bytes) -> Result<R, Malformed> {
    R::decode(&mut body, header.version).map_err(|why| Malformed::Undecodable {
        api: header.api.name,
        version: header.version,
        why: why.to_string(),
    })
}

/// A response could not be put into the version asked for. A defect of this node.
#[derive(Debug, thiserror::Error)]
#[error("a response cannot be written in version {version}: {why}")]
pub(crate) struct Unencodable {
    version: i16,
    why: String,
}

impl Unencodable {
    pub(crate) fn new(version: i16, why: String) -> Unencodable {
        Unencodable { version, why }
    }
}

/// A response as a frame.
pub(crate) fn encode<R: Encodable + HeaderVersion>(
    correlation: i32,
    version: i16,
    response: &R,
) -> Result<Bytes, Unencodable> {
    let mut frame = BytesMut::with_capacity(256);
    begin(&mut frame, correlation, R::header_version(version));
    let wrap = |why: String| Unencodable::new(version, why);
    response
        .encode(&mut frame, version)
        .map_err(|why| wrap(why.to_string()))?;
    finish(&mut frame, 0).map_err(wrap)?;
    Ok(frame.freeze())
}

/// Begins a frame: space for its length, and the response header.
pub(crate) fn begin(frame: &mut BytesMut, correlation: i32, header_version: i16) {
    frame.put_i32(0);
    frame.put_i32(correlation);
    if header_version >= 1 {
        // No tagged fields.
        frame.put_u8(0);
    }
}

/// Fills in the length of a frame that continues for `more` bytes elsewhere.
pub(crate) fn finish(frame: &mut BytesMut, more: usize) -> Result<(), String> {
    let length = frame.len() - 4 + more;
    let length = i32::try_from(length).map_err(|_| format!("it has {length} bytes"))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::StrBytes;

    fn frame(key: i16, version: i16, rest: &[u8]) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(7);
        frame.extend_from_slice(rest);
        frame.freeze()
    }

    #[test]
    fn headers_of_both_versions_are_read_as_the_codec_writes_them() {
        for api in &apis::APIS {
            for version in api.versions.min..=api.versions.max {
                for client_id in [None, Some(""), Some("a client")] {
                    let written = RequestHeader::default()
                        .with_request_api_key(api.key as i16)
                        .with_request_api_version(version)
                        .with_correlation_id(-5)
                        .with_client_id(client_id.map(StrBytes::from_static_str));
                    let header_version = api.key.request_header_version(version);
                    let mut bytes = BytesMut::new();
                    written.encode(&mut bytes, header_version).unwrap();
                    bytes.extend_from_slice(b"body");
                    let Opening::Request(header, body) = open(&bytes.freeze()).unwrap() else {
                        panic!("not a request");
                    };
                    assert_eq!(header.api.key, api.key);
                    assert_eq!(header.version, version);
                    assert_eq!(header.correlation, -5);
                    assert_eq!(header.client_id.as_deref(), client_id);
                    assert_eq!(&body[..], b"body");
                }
            }
        }
    }

    #[test]
    fn headers_that_lie_or_end_early_are_refused() {
        let cases: &[&[u8]] = &[
            &[],
            &[0],
            &[0, 5, b'a'],
            &[0x7f, 0xff, b'a'],
            &[0xff, 0xfe],
            &[0xff, 0xff, 1],
            &[0xff, 0xff, 1, 0, 9],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
        ];
        for case in cases {
            let error = open(&frame(3, 12, case)).unwrap_err();
            assert_eq!(error, Malformed::Header, "{case:?}");
        }
        for end in 0..8 {
            let short = frame(3, 12, &[]).slice(..end);
            assert_eq!(open(&short).unwrap_err(), Malformed::Header);
        }
    }

    #[test]
    fn unknown_apis_and_versions_are_told_apart() {
        assert_eq!(
            open(&frame(4, 0, &[])).unwrap_err(),
            Malformed::UnknownApi(4)
        );
        assert!(matches!(
            open(&frame(3, 99, &[])).unwrap_err(),
            Malformed::UnknownVersion { version: 99, .. }
        ));
        assert!(matches!(
            open(&frame(18, 99, &[])).unwrap(),
            Opening::UnknownApiVersions { correlation: 7 }
        ));
    }

    #[test]
    fn a_client_id_that_is_not_utf8_is_read_all_the_same() {
        let opened = open(&frame(3, 1, &[0, 1, 0xe4, 0, 0, 0, 0])).unwrap();
        let Opening::Request(header, _) = opened else {
            panic!("not a request");
        };
        assert_eq!(header.client_id.as_deref(), Some("\u{fffd}"));
    }
}
