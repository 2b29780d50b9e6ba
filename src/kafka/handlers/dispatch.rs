//! From a request to its handler, by the table of [`apis`](super::super::apis).

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::messages::ApiKey;

use crate::net::BytePermit;

use super::super::apis::every_api;
use super::super::call::{Call, Overlap};
use super::super::codec::{self, Header, Malformed};
use super::super::context::{Context, answer};

/// Decodes a body that the guard has passed, and makes a call of it.
pub(crate) fn call(
    context: Context,
    header: &Header,
    body: Bytes,
    permit: BytePermit,
) -> Result<Call, Malformed> {
    macro_rules! dispatch {
        ($($api:ident($request:ident) => $file:ident::$handler:ident, $overlap:ident, $shape:literal, $remarks:literal;)*) => {
            match header.api.key {
                $(ApiKey::$api => {
                    let request = codec::decode(header, body)?;
                    let name = header.api.name;
                    let overlap = Overlap::$overlap;
                    let run = async move {
                        let handler = super::$file::$handler(&context, request);
                        answer(&context, overlap, name, permit, handler).await
                    };
                    Ok(Call { overlap, run: run.boxed() })
                })*
                other => Err(Malformed::UnknownApi(other as i16)),
            }
        };
    }
    every_api!(dispatch)
}
