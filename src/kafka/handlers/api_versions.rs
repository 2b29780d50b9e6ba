//! ApiVersions (KIP-35, KIP-511): what is offered, and who is asking.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::super::service::{Answer, Context};
use super::super::versions::{OFFERED, Offered};

pub(super) async fn api_versions(
    context: &Context,
    request: ApiVersionsRequest,
) -> Answer<ApiVersionsResponse> {
    if context.version >= 3 {
        let (name, version) = (
            &request.client_software_name,
            &request.client_software_version,
        );
        if !is_software(name) || !is_software(version) {
            let code = context.code(ResponseError::InvalidRequest);
            return Ok(response(code, &[]));
        }
        context.client.is_software(name, version);
    }
    Ok(response(0, OFFERED))
}

/// The answer to a version that is too new, to be written in version 0.
pub(crate) fn unsupported(code: i16) -> ApiVersionsResponse {
    let this = OFFERED
        .iter()
        .filter(|offered| offered.api == ApiKey::ApiVersions);
    response(code, this)
}

fn response<'a>(code: i16, offered: impl IntoIterator<Item = &'a Offered>) -> ApiVersionsResponse {
    let versions = offered.into_iter().map(|offered| {
        ApiVersion::default()
            .with_api_key(offered.api as i16)
            .with_min_version(offered.versions.min)
            .with_max_version(offered.versions.max)
    });
    ApiVersionsResponse::default()
        .with_error_code(code)
        .with_api_keys(versions.collect())
}

/// KIP-511: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software(text: &str) -> bool {
    let plain = |c: &u8| c.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|c| plain(c) || matches!(c, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_the_rule_of_kip_511() {
        for good in ["librdkafka", "2.3.0", "a", "apache-kafka-java", "4.0.0-rc1"] {
            assert!(is_software(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "ä", "a_b", "a\n"] {
            assert!(!is_software(bad), "{bad:?}");
        }
    }
}
