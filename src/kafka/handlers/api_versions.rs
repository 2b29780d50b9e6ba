//! ApiVersions (KIP-35, KIP-511): what is offered, and who is asking.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::super::apis::{APIS, Api};
use super::super::context::{Answer, Context};

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
    Ok(response(0, &APIS))
}

/// The answer to a version that is too new, to be written in version 0.
pub(crate) fn unsupported(code: i16) -> ApiVersionsResponse {
    let this = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions);
    response(code, this)
}

fn response<'a>(code: i16, apis: impl IntoIterator<Item = &'a Api>) -> ApiVersionsResponse {
    let versions = apis.into_iter().map(|api| {
        ApiVersion::default()
            .with_api_key(api.key as i16)
            .with_min_version(api.versions.min)
            .with_max_version(api.versions.max)
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
