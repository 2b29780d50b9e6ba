//! Rights to the files of one table, for engines: credentials of a role, which the store's security token service gives
//! for a while, narrowed to reading one folder.
//!
//! They are never the node's own, and never more than the role may. Those of one table are given to whoever asks for
//! the table until half of their time is over, so that a crowd of engines makes few requests.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_sdk_sts::Client;
use aws_sdk_sts::config::Builder;
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_sdk_sts::operation::assume_role::AssumeRoleOutput;
use serde_json::json;
use tokio::time::Instant;

use super::Aws;
use crate::store::client::Store;
use crate::store::error::{Cause, StoreError};
use crate::store::metrics::RequestKind;
use crate::store::paths::ObjectPath;
use crate::types::{TableName, Timestamp};

/// Of how many tables and lifetimes credentials are kept.
const MAX_KEPT: usize = 1000;

/// How long the service may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The longest name of a session of a role.
const MAX_SESSION_NAME: usize = 64;

const ADVICE: &str = "catalog=sts needs a store of S3, and a role (catalog_role) that this node may assume and that may \
    read the bucket; see docs/archive.md";

/// Rights to read the objects below a folder, for a while.
#[derive(Clone)]
pub struct TemporaryAccess {
    /// What is no secret: who asks.
    pub key_id: String,
    secret: String,
    token: String,
    /// Until when.
    pub expires: Timestamp,
    /// Where.
    pub region: String,
    /// An endpoint other than AWS's own.
    pub endpoint: Option<String>,
}

impl TemporaryAccess {
    /// The secret key.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The token of the session.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl fmt::Debug for TemporaryAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryAccess")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// What asks the service.
pub(in crate::store) struct Lender {
    config: SdkConfig,
    region: String,
    endpoint: Option<String>,
    bucket: String,
    prefix: String,
    kept: std::sync::Mutex<HashMap<TableName, Kept>>,
}

struct Kept {
    until: Instant,
    lent: Arc<TemporaryAccess>,
}

impl Lender {
    pub(in crate::store) fn new(aws: &Aws, bucket: &str, prefix: &str) -> Option<Lender> {
        Some(Lender {
            config: aws.config.clone()?,
            region: aws.region.clone(),
            endpoint: aws.endpoint.clone(),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            kept: std::sync::Mutex::default(),
        })
    }

    /// What the credentials of a table allow: to read what is in its folder, and to list it.
    fn policy(&self, role: &str, table: &TableName) -> String {
        // The partition of AWS in which the role is: `aws`, `aws-cn` …
        let partition = role
            .split(':')
            .nth(1)
            .filter(|name| name.starts_with("aws"));
        let partition = partition.unwrap_or("aws");
        let folder = ObjectPath::folder_of(table);
        let folder = match self.prefix.as_str() {
            "" => folder,
            prefix => format!("{prefix}/{folder}"),
        };
        let bucket = format!("arn:{partition}:s3:::{}", self.bucket);
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": ["s3:GetObject"],
                    "Resource": [format!("{bucket}/{folder}/*")],
                },
                {
                    "Effect": "Allow",
                    "Action": ["s3:ListBucket"],
                    "Resource": [bucket],
                    "Condition": {"StringLike": {"s3:prefix": [format!("{folder}/*")]}},
                },
            ],
        });
        policy.to_string()
    }

    fn kept(&self, table: &TableName) -> Option<TemporaryAccess> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(table).filter(|kept| Instant::now() < kept.until);
        found.map(|kept| TemporaryAccess::clone(&kept.lent))
    }

    fn keep(&self, table: &TableName, lent: &TemporaryAccess, lifetime: Duration) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            let now = Instant::now();
            kept.retain(|_, kept| now < kept.until);
        }
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        let lent = Kept {
            until: Instant::now() + lifetime / 2,
            lent: Arc::new(lent.clone()),
        };
        kept.insert(table.clone(), lent);
    }

    async fn lend(
        &self,
        role: &str,
        table: &TableName,
        lifetime: Duration,
    ) -> Result<TemporaryAccess, Cause> {
        if let Some(kept) = self.kept(table) {
            return Ok(kept);
        }
        let mut session = format!("weir-{table}");
        session.truncate(MAX_SESSION_NAME);
        let config = Builder::from(&self.config).region(Region::new(self.region.clone()));
        let asked = Client::from_conf(config.build())
            .assume_role()
            .role_arn(role)
            .role_session_name(session)
            .duration_seconds(i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX))
            .policy(self.policy(role, table))
            .send();
        let answer = match tokio::time::timeout(WITHIN, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Err(match (error.code(), error.message()) {
                    (Some(code), message) => {
                        Cause::new(&format!("{code}: {}", message.unwrap_or_default()))
                    }
                    _ => Cause::of(&error),
                });
            }
            Err(_) => return Err(Cause::new("the security token service did not answer")),
        };
        let lent = self.of(&answer)?;
        self.keep(table, &lent, lifetime);
        Ok(lent)
    }

    fn of(&self, answer: &AssumeRoleOutput) -> Result<TemporaryAccess, Cause> {
        let given = answer.credentials();
        let given = given.ok_or_else(|| Cause::new("the service gave no credentials"))?;
        // Without these they would be somebody's own.
        let millis = given.expiration().to_millis().unwrap_or(0);
        if given.session_token().is_empty() || millis <= 0 {
            return Err(Cause::new(
                "the service gave credentials that do not expire",
            ));
        }
        Ok(TemporaryAccess {
            key_id: given.access_key_id().to_owned(),
            secret: given.secret_access_key().to_owned(),
            token: given.session_token().to_owned(),
            expires: Timestamp(millis),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
        })
    }
}

impl Store {
    /// Whether it can give rights to others.
    pub fn can_lend(&self) -> bool {
        self.requests.backend.lender.is_some()
    }

    /// Rights to read the objects of a table for a while, for others.
    ///
    /// # Errors
    /// [`StoreError::Refused`], if the store has no such rights to give, or does not give them.
    pub async fn lend(
        &self,
        role: &str,
        table: &TableName,
        lifetime: Duration,
    ) -> Result<TemporaryAccess, StoreError> {
        let refused = |cause| StoreError::Refused {
            kind: RequestKind::ArchiveGet,
            subject: ObjectPath::folder_of(table),
            cause,
            advice: ADVICE,
        };
        let lender = self.requests.backend.lender.as_ref();
        let lender =
            lender.ok_or_else(|| refused(Cause::new("this store gives no rights away")))?;
        lender.lend(role, table, lifetime).await.map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lender(prefix: &str) -> Lender {
        Lender {
            config: SdkConfig::builder().build(),
            region: "eu-central-1".to_owned(),
            endpoint: None,
            bucket: "bucket".to_owned(),
            prefix: prefix.to_owned(),
            kept: std::sync::Mutex::default(),
        }
    }

    #[test]
    fn what_is_lent_is_one_folder_to_read_in() {
        let table = TableName::new("orders").unwrap();
        for (prefix, role, bucket, folder) in [
            (
                "",
                "arn:aws:iam::1:role/r",
                "arn:aws:s3:::bucket",
                "archive/orders",
            ),
            (
                "a/b",
                "arn:aws-cn:iam::1:role/r",
                "arn:aws-cn:s3:::bucket",
                "a/b/archive/orders",
            ),
        ] {
            let policy = lender(prefix).policy(role, &table);
            let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
            let read = &policy["Statement"][0];
            assert_eq!(read["Action"], json!(["s3:GetObject"]));
            assert_eq!(read["Resource"], json!([format!("{bucket}/{folder}/*")]));
            let list = &policy["Statement"][1];
            assert_eq!(list["Resource"], json!([bucket]));
            assert_eq!(
                list["Condition"]["StringLike"]["s3:prefix"],
                json!([format!("{folder}/*")])
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_given_again_for_half_of_their_time() {
        let (lender, table) = (lender(""), TableName::new("orders").unwrap());
        let answer = |token: &str, expires: i64| {
            let credentials = aws_sdk_sts::types::Credentials::builder()
                .access_key_id("id")
                .secret_access_key("hidden")
                .session_token(token)
                .expiration(aws_sdk_sts::primitives::DateTime::from_secs(expires));
            let credentials = credentials.build().unwrap();
            AssumeRoleOutput::builder().credentials(credentials).build()
        };
        let lent = lender.of(&answer("token", 7)).unwrap();
        assert_eq!(lent.expires, Timestamp(7000));
        assert!(!format!("{lent:?}").contains("hidden") && !format!("{lent:?}").contains("token"));
        lender.keep(&table, &lent, Duration::from_secs(100));
        tokio::time::advance(Duration::from_secs(49)).await;
        assert!(lender.kept(&table).is_some());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(lender.kept(&table).is_none());
        // What does not expire is somebody's own.
        for (token, expires) in [("", 7), ("token", 0)] {
            assert!(lender.of(&answer(token, expires)).is_err());
        }
        assert!(lender.of(&AssumeRoleOutput::builder().build()).is_err());
    }
}
