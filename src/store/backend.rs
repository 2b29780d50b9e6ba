//! Which store a URL means, and how it is set up.

use std::fmt;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::{Host, Url};

use crate::env::Env;

use super::aws::{self, Aws, Lender};
use super::error::{Cause, StoreError};
use super::failure::Verdict;
use super::file::FileStore;
use super::options::StoreOptions;
use super::read_only::ReadOnly;
use super::url::{Cloud, Location, StoreUrl};
use super::wire::TracingConnector;

/// A store of some kind, before retries, bounds and metrics.
pub(super) struct Backend {
    pub(super) objects: Arc<dyn ObjectStore>,
    /// The same store's uploads in parts, if it has them.
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
    pub(super) nature: Nature,
    /// Comes before every path.
    pub(super) prefix: Path,
    /// How the store is called in messages.
    pub(super) name: String,
    /// What gives others rights to some of it, if it can.
    pub(super) lender: Option<Lender>,
}

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// Reached by HTTP: what happened on the wire is known.
    Http(Cloud),
    /// Files of this machine.
    File,
    /// In this process, without a clock of its own.
    Memory,
}

impl Nature {
    /// Listing can begin after a name and is in the order of names, so it is done page by page.
    pub(super) fn lists_in_pages(self) -> bool {
        matches!(self, Nature::Http(Cloud::S3 | Cloud::Gcs))
    }

    /// Many objects can be deleted by one request.
    pub(super) fn deletes_in_bulk(self) -> bool {
        self == Nature::Http(Cloud::S3)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

const AT_STORE: &str = "See the environment variables that the store's own tools use";
const AT_FOLDER: &str =
    "Make the directory writable for the user that runs Weir, or name another one";

impl Backend {
    pub(super) async fn open(
        url: &StoreUrl,
        options: &StoreOptions,
    ) -> Result<Backend, StoreError> {
        Backend::open_as(url, options, FileStore::open).await
    }

    /// The same, with every change refused.
    pub(super) async fn open_read_only(
        url: &StoreUrl,
        options: &StoreOptions,
    ) -> Result<Backend, StoreError> {
        let mut backend = Backend::open_as(url, options, FileStore::open_existing).await?;
        backend.objects = Arc::new(ReadOnly::new(backend.objects));
        // An upload in parts would go past it.
        backend.parts = None;
        Ok(backend)
    }

    async fn open_as(
        url: &StoreUrl,
        options: &StoreOptions,
        open_directory: fn(&FilePath, Env) -> io::Result<FileStore>,
    ) -> Result<Backend, StoreError> {
        let name = url.to_string();
        match &url.0 {
            Location::Memory => Ok(Backend::of(Arc::new(InMemory::new()), Nature::Memory, name)),
            Location::File { directory } => {
                let (directory, env) = (directory.clone(), options.env.clone());
                let opened = tokio::task::spawn_blocking(move || open_directory(&directory, env))
                    .await
                    .map_err(|error| setup(&name, Cause::of(&error), AT_FOLDER))?;
                match opened {
                    Ok(store) => Ok(Backend::of(Arc::new(store), Nature::File, name)),
                    Err(error) => Err(setup(&name, Cause::of(&error), AT_FOLDER)),
                }
            }
            Location::Bucket {
                cloud,
                bucket,
                prefix,
            } => {
                let nature = Nature::Http(*cloud);
                let backend = match cloud {
                    Cloud::S3 => {
                        let aws = resolved(&name, options).await?;
                        let lender = Lender::new(&aws, bucket, prefix);
                        let store = s3_at(&name, bucket, aws, options)?;
                        Backend {
                            lender,
                            ..Backend::of(store, nature, name)
                        }
                    }
                    Cloud::Gcs => {
                        let built = GoogleCloudStorageBuilder::from_env()
                            .with_bucket_name(bucket)
                            .with_client_options(client(options))
                            .with_retry(never())
                            .with_http_connector(TracingConnector)
                            .build();
                        let store = built.map_err(|e| setup(&name, Cause::of(&e), AT_STORE))?;
                        Backend::of(Arc::new(store), nature, name)
                    }
                    Cloud::Azure => {
                        let built = MicrosoftAzureBuilder::from_env()
                            .with_container_name(bucket)
                            .with_client_options(client(options))
                            .with_retry(never())
                            .with_http_connector(TracingConnector)
                            .build();
                        let store = built.map_err(|e| setup(&name, Cause::of(&e), AT_STORE))?;
                        Backend::of(Arc::new(store), nature, name)
                    }
                };
                let prefix = Path::from(prefix.as_str());
                Ok(Backend { prefix, ..backend })
            }
        }
    }

    /// A store that takes objects in parts as well.
    pub(super) fn of<S: ObjectStore + MultipartStore>(
        store: Arc<S>,
        nature: Nature,
        name: String,
    ) -> Backend {
        Backend {
            parts: Some(Arc::clone(&store) as Arc<dyn MultipartStore>),
            ..Backend::plain(store, nature, name)
        }
    }

    /// A store that takes only whole objects.
    pub(super) fn plain(objects: Arc<dyn ObjectStore>, nature: Nature, name: String) -> Backend {
        Backend {
            objects,
            parts: None,
            nature,
            prefix: Path::default(),
            name,
            lender: None,
        }
    }
}

/// Where S3 is, with credentials that were tried.
async fn resolved(name: &str, options: &StoreOptions) -> Result<Aws, StoreError> {
    let aws = aws::resolve(&options.env)
        .await
        .map_err(|wrong| setup(name, wrong.cause, wrong.advice))?;
    if let Err(judged) = aws.credentials.fetch().await {
        match judged.verdict {
            Verdict::Permanent { advice } => return Err(setup(name, judged.cause, advice)),
            // The first request tries again, with its deadline.
            _ => tracing::warn!(store = name, cause = %judged.cause, "no AWS credentials yet"),
        }
    }
    Ok(aws)
}

/// A bucket at a place that is known.
pub(super) fn s3_at(
    name: &str,
    bucket: &str,
    aws: Aws,
    options: &StoreOptions,
) -> Result<Arc<AmazonS3>, StoreError> {
    let plain_http = aws
        .endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    // A wildcard certificate does not cover a bucket with a dot in its name.
    let virtual_hosted = aws.endpoint.is_none() && !bucket.contains('.');
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(aws.region)
        .with_credentials(aws.credentials)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_virtual_hosted_style_request(virtual_hosted)
        // A body that nobody can change on its way need not be hashed for the signature, which costs more time than
        // everything else that is done to it.
        .with_unsigned_payload(!is_exposed(aws.endpoint.as_deref()))
        .with_client_options(client(options).with_allow_http(plain_http))
        .with_retry(never())
        .with_http_connector(TracingConnector);
    if let Some(endpoint) = aws.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let store = builder
        .build()
        .map_err(|error| setup(name, Cause::of(&error), AT_STORE))?;
    Ok(Arc::new(store))
}

/// Whether a body could be changed between here and the store: it goes without TLS, and not to this machine.
pub(super) fn is_exposed(endpoint: Option<&str>) -> bool {
    let Some(endpoint) = endpoint.and_then(|endpoint| Url::parse(endpoint).ok()) else {
        return false;
    };
    let is_here = match endpoint.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    endpoint.scheme() == "http" && !is_here
}

/// One attempt means one request: the retries are ours, which knows what may be repeated.
fn never() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn client(options: &StoreOptions) -> ClientOptions {
    ClientOptions::new()
        .with_connect_timeout(options.connect_timeout)
        // The attempt as a whole is bounded above, by the same duration for every store.
        .with_timeout(options.request_timeout)
        .with_pool_idle_timeout(std::time::Duration::from_secs(60))
        .with_pool_max_idle_per_host(options.max_requests)
}

fn setup(store: &str, cause: Cause, advice: &'static str) -> StoreError {
    StoreError::Setup {
        store: store.to_owned(),
        cause,
        advice,
    }
}
