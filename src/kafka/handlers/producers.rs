//! InitProducerId (KIP-98).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};

/// Idempotent producers get a new id each time they ask. Transactional ones are refused with a code that clients
/// take as fatal: every code but the retriable ones is, and this one says what is the matter.
pub(super) async fn init_producer_id(
    context: &Context,
    request: InitProducerIdRequest,
) -> Answer<InitProducerIdResponse> {
    let minted = match request.transactional_id {
        None => {
            let minted = context.broker().new_producer(&context.session).await;
            minted.map_err(|why| errors::init_producer_id(&why))
        }
        Some(id) if id.is_empty() => {
            let what = "a transactional id must not be empty";
            Err(Fault::new(ResponseError::InvalidRequest, what))
        }
        Some(_) => {
            let what = "transactions are not supported yet";
            Err(Fault::new(ResponseError::UnsupportedVersion, what))
        }
    };
    let response = InitProducerIdResponse::default();
    Ok(match minted {
        Ok((id, epoch)) => response
            .with_producer_id(ProducerId(id.0))
            .with_producer_epoch(epoch.0),
        Err(fault) => {
            let (code, _) = context.fault(&fault);
            response
                .with_error_code(code)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        }
    })
}
