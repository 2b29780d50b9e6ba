//! S3 as AWS's own tools see it: credentials, region and endpoint from `aws-config`'s default chain
//! (environment, profiles, SSO, web identity, container and instance metadata).

use std::env::var_os;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::Provider as TlsProvider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_types::service_config::ServiceConfigKey;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::env::Env;
use crate::types::Timestamp;

use super::error::Cause;
use super::failure::{Judged, Verdict};

mod lender;

pub(super) use lender::Lender;
pub use lender::TemporaryAccess;

/// Credentials that expire are renewed this long before, or a quarter of their life before.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Credentials with less than this left are not used any more.
const USABLE: Duration = Duration::from_secs(10);

/// After a renewal failed, the next is tried this much later, as long as the old ones are good.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

/// The region that stands for "the endpoint says where": what MinIO, LocalStack and others expect.
const ANY_REGION: &str = "us-east-1";

const SET_KEYS: &str = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or log in with \
    aws sso login, or run where a role is attached";

/// Where S3 is and who we are.
pub(super) struct Aws {
    pub(super) region: String,
    /// An endpoint other than AWS's own.
    pub(super) endpoint: Option<String>,
    pub(super) credentials: Arc<AwsCredentials>,
    /// What all of it was made of, for asking other services than S3.
    pub(super) config: Option<SdkConfig>,
}

/// Why the chain gave no configuration.
pub(super) struct Misconfigured {
    pub(super) cause: Cause,
    pub(super) advice: &'static str,
}

/// Asks the default chain. Only credentials that nothing but the instance metadata has, or a region that
/// nothing but it has, make a request there; static keys in the environment never do.
pub(super) async fn resolve(env: &Env) -> Result<Aws, Misconfigured> {
    let http = HttpClientBuilder::new()
        .tls_provider(TlsProvider::Rustls(CryptoMode::AwsLc))
        .build_https();
    let local_region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .region()
        .await;
    let static_keys =
        var_os("AWS_ACCESS_KEY_ID").is_some() && var_os("AWS_SECRET_ACCESS_KEY").is_some();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http);
    // An empty region is one that the chain accepts without asking the instance metadata.
    loader = match (local_region, static_keys) {
        (Some(region), _) => loader.region(region),
        (None, true) => loader.region(Region::from_static("")),
        (None, false) => loader,
    };
    let config = loader.load().await;
    let endpoint = endpoint(&config);
    let region = config
        .region()
        .map(Region::as_ref)
        .filter(|region| !region.is_empty());
    let region = match (region, &endpoint) {
        (Some(region), _) => region.to_owned(),
        (None, Some(_)) => ANY_REGION.to_owned(),
        (None, None) => {
            return Err(Misconfigured {
                cause: Cause::new("no AWS region is set"),
                advice: "Set AWS_REGION, or region in the AWS profile",
            });
        }
    };
    let Some(provider) = config.credentials_provider() else {
        return Err(Misconfigured {
            cause: Cause::new("there are no AWS credentials"),
            advice: SET_KEYS,
        });
    };
    Ok(Aws {
        region,
        endpoint,
        credentials: Arc::new(AwsCredentials::new(provider, env.clone())),
        config: Some(config),
    })
}

/// `AWS_ENDPOINT_URL_S3` and the profile's `services` section before `AWS_ENDPOINT_URL` and the
/// profile's `endpoint_url`.
fn endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("s3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    config
        .service_config()
        .and_then(|services| services.load_config(key))
        .or_else(|| config.endpoint_url().map(str::to_owned))
        .filter(|endpoint| !endpoint.is_empty())
}

/// Credentials for `object_store`, kept until shortly before they expire. Many requests at that moment
/// make one renewal; those that still have good credentials do not wait for it.
pub(super) struct AwsCredentials {
    provider: SharedCredentialsProvider,
    env: Env,
    current: ArcSwapOption<Held>,
    /// When a renewal may be tried again after one that failed.
    renewal: Mutex<Option<Instant>>,
}

struct Held {
    credential: Arc<AwsCredential>,
    /// When to renew, and until when they may be used. None for keys that do not expire.
    life: Option<(Timestamp, Timestamp)>,
}

impl Held {
    fn new(credentials: &Credentials, now: Timestamp) -> Held {
        let life = credentials.expiry().map(|expiry| {
            let millis = expiry
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_millis();
            let expiry = Timestamp(i64::try_from(millis).unwrap_or(i64::MAX));
            let early = RENEW_BEFORE.min(expiry.since(now) / 4);
            (before(expiry, early), before(expiry, USABLE.min(early)))
        });
        Held {
            credential: Arc::new(AwsCredential {
                key_id: credentials.access_key_id().to_owned(),
                secret_key: credentials.secret_access_key().to_owned(),
                token: credentials.session_token().map(str::to_owned),
            }),
            life,
        }
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        self.life.is_none_or(|(renew, _)| now < renew)
    }

    fn is_usable(&self, now: Timestamp) -> bool {
        self.life.is_none_or(|(_, end)| now < end)
    }
}

fn before(moment: Timestamp, by: Duration) -> Timestamp {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp(moment.0.saturating_sub(millis))
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsCredentials")
    }
}

impl AwsCredentials {
    pub(super) fn new(provider: SharedCredentialsProvider, env: Env) -> AwsCredentials {
        AwsCredentials {
            provider,
            env,
            current: ArcSwapOption::empty(),
            renewal: Mutex::new(None),
        }
    }

    async fn renew(&self) -> Result<Arc<Held>, Judged> {
        let credentials = self.provider.provide_credentials().await.map_err(judge)?;
        let held = Arc::new(Held::new(&credentials, self.env.wall()));
        if !held.is_usable(self.env.wall()) {
            return Err(Judged {
                verdict: Verdict::Transient { reached: false },
                cause: Cause::new("the AWS credentials that were given have expired already"),
            });
        }
        self.current.store(Some(Arc::clone(&held)));
        Ok(held)
    }

    async fn held(&self) -> Result<Arc<Held>, Judged> {
        let good = |now, fresh: bool| {
            let held = self.current.load_full();
            held.filter(|held| {
                if fresh {
                    held.is_fresh(now)
                } else {
                    held.is_usable(now)
                }
            })
        };
        if let Some(held) = good(self.env.wall(), true) {
            return Ok(held);
        }
        if let Some(held) = good(self.env.wall(), false) {
            // Somebody else is renewing, or did so in vain a moment ago.
            let Ok(mut not_before) = self.renewal.try_lock() else {
                return Ok(held);
            };
            if not_before.is_some_and(|moment| Instant::now() < moment) {
                return Ok(held);
            }
            if let Some(held) = good(self.env.wall(), true) {
                return Ok(held);
            }
            return match self.renew().await {
                Ok(renewed) => Ok(renewed),
                Err(error) => {
                    *not_before = Some(Instant::now() + RENEW_AGAIN);
                    tracing::warn!(%error, "AWS credentials could not be renewed yet");
                    Ok(held)
                }
            };
        }
        let _renewing = self.renewal.lock().await;
        match good(self.env.wall(), true) {
            Some(held) => Ok(held),
            None => self.renew().await,
        }
    }

    /// Fetches the credentials now, so that an error is told at the start.
    pub(super) async fn fetch(&self) -> Result<(), Judged> {
        self.held().await.map(|_| ())
    }
}

#[async_trait]
impl CredentialProvider for AwsCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self.held().await {
            Ok(held) => Ok(Arc::clone(&held.credential)),
            Err(judged) => Err(judged.wrap("S3")),
        }
    }
}

fn judge(error: CredentialsError) -> Judged {
    let verdict = match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            Verdict::Permanent { advice: SET_KEYS }
        }
        _ => Verdict::Transient { reached: false },
    };
    let reason = match error {
        // The chain's own words name every provider that it asked in vain.
        CredentialsError::CredentialsNotLoaded(_) => Cause::new(
            "none in the environment, profiles, SSO, web identity, container or instance metadata",
        ),
        _ => Cause::of(&error),
    };
    Judged {
        verdict,
        cause: Cause::new(&format!("AWS credentials: {reason}")),
    }
}

#[cfg(test)]
mod tests;
