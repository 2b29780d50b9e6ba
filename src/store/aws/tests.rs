use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::provider::future::ProvideCredentials as Provided;

use super::*;

const START: Timestamp = Timestamp(1_700_000_000_000);

/// Gives credentials that live for so long, after a while, and counts.
#[derive(Debug)]
struct Provider {
    life: Option<Duration>,
    asked: Arc<AtomicUsize>,
    env: Env,
    fails_from: usize,
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(async move {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            if asked >= self.fails_from {
                return Err(CredentialsError::provider_error("the provider is away"));
            }
            let expiry = self.life.map(|life| {
                let end = self.env.wall().after(life).0;
                UNIX_EPOCH + Duration::from_millis(end.unsigned_abs())
            });
            Ok(Credentials::new(
                format!("key{asked}"),
                "FAKESECRET",
                Some("FAKETOKEN".to_owned()),
                expiry,
                "test",
            ))
        })
    }
}

fn credentials(life: Option<Duration>, fails_from: usize) -> (AwsCredentials, Arc<AtomicUsize>) {
    let env = Env::simulated(1, START);
    let asked = Arc::new(AtomicUsize::new(0));
    let provider = Provider {
        life,
        asked: Arc::clone(&asked),
        env: env.clone(),
        fails_from,
    };
    (
        AwsCredentials::new(SharedCredentialsProvider::new(provider), env),
        asked,
    )
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn many_requests_at_the_start_make_one_request_for_credentials() {
    let (credentials, asked) = credentials(Some(HOUR), usize::MAX);
    let all = futures::future::join_all((0..50).map(|_| credentials.get_credential())).await;
    assert!(all.iter().all(|one| one.as_ref().unwrap().key_id == "key0"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_before_they_expire_while_others_go_on_with_the_old_ones() {
    let (credentials, asked) = credentials(Some(HOUR), usize::MAX);
    credentials.get_credential().await.unwrap();
    tokio::time::sleep(HOUR - Duration::from_secs(301)).await;
    assert_eq!(credentials.get_credential().await.unwrap().key_id, "key0");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (renewing, other) =
        futures::future::join(credentials.get_credential(), credentials.get_credential()).await;
    assert_eq!(renewing.unwrap().key_id, "key1");
    assert_eq!(other.unwrap().key_id, "key0");
    assert_eq!(credentials.get_credential().await.unwrap().key_id, "key1");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_again_and_fails_requests_only_after_the_expiry() {
    let (credentials, asked) = credentials(Some(HOUR), 1);
    credentials.get_credential().await.unwrap();
    tokio::time::sleep(HOUR - Duration::from_secs(200)).await;
    for _ in 0..20 {
        assert_eq!(credentials.get_credential().await.unwrap().key_id, "key0");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    tokio::time::sleep(Duration::from_secs(11)).await;
    credentials.get_credential().await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    tokio::time::sleep(Duration::from_secs(200)).await;
    let error = credentials.get_credential().await.unwrap_err().to_string();
    assert!(error.contains("the provider is away"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn keys_without_an_expiry_are_asked_for_once() {
    let (credentials, asked) = credentials(None, usize::MAX);
    credentials.get_credential().await.unwrap();
    tokio::time::sleep(HOUR * 1000).await;
    credentials.get_credential().await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn short_lived_credentials_are_not_renewed_at_every_request() {
    let (credentials, asked) = credentials(Some(Duration::from_secs(120)), usize::MAX);
    for _ in 0..60 {
        credentials.get_credential().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_are_not_shown() {
    let (credentials, _) = credentials(None, usize::MAX);
    credentials.get_credential().await.unwrap();
    assert!(!format!("{credentials:?}").contains("FAKE"));
}
