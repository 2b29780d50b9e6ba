//! What nodes hand out, and know again: tokens of who has logged in, and rights to read the files of one table.
//!
//! A token says who somebody is, until when, and for which table, and is signed with a key that stands in the bucket
//! and nowhere else. So any node can check what another has handed out, before and after either restarts. The secret
//! key that goes with a right to files is derived from its token; nobody keeps it. A token does not say what its holder
//! may do: that is asked again for each request, so a right that is taken away is gone at once.
//!
//! # Nodes that die, requests that are lost
//!
//! The key is created if absent and read back, so all nodes have the same one, whichever was first. A node keeps the
//! key that it has read; if a person deletes the object, each node signs with a new one from its next start on, and
//! what was signed before is worth nothing there.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{Broker, LoggedIn, Secret, Session};
use crate::store::{Created, ObjectPath, RequestKind, StoreError};
use crate::types::{Seq, TableId, Timestamp};

/// The version of the object with the key.
const VERSION: u32 = 1;

/// How many bytes a key has.
const KEY: usize = 32;

/// The longest token: principals and ids are shorter.
const MAX_TOKEN: usize = 4096;

/// How often the key is created and looked for.
const ATTEMPTS: usize = 3;

/// Why nothing is handed out, or what was handed out is not taken.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// It is not good.
    #[error(transparent)]
    Bad(#[from] BadToken),
    /// The key cannot be read or made.
    #[error("the key of the catalog (catalog-key.json) cannot be read: {0}")]
    Key(String),
    /// The store gives no rights away.
    #[error("the store gives no rights to the files of the table: {0}")]
    Store(#[source] StoreError),
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It is none of this cluster, or has been tampered with.
    #[error("the token is not one that this cluster has handed out")]
    Foreign,
    /// Its time is over.
    #[error("the token has expired; open the table again to be given another")]
    Expired,
}

/// For what a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Login,
    Files,
}

impl Purpose {
    fn name(self) -> &'static [u8] {
        match self {
            Purpose::Login => b"login",
            Purpose::Files => b"files",
        }
    }
}

/// What a token says, as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    /// The principal.
    p: String,
    /// The commit that created its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<u64>,
    /// The table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<Uuid>,
    /// Until when it is good.
    e: i64,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) identity: LoggedIn,
    pub(super) table: Option<TableId>,
    pub(super) expires: Timestamp,
}

/// The right to read the files of a table from any node: what S3 calls temporary credentials.
#[derive(Clone)]
pub struct FileGrant {
    key_id: String,
    secret: Secret,
    token: String,
    claims: Claims,
    table: TableId,
}

impl fmt::Debug for FileGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileGrant")
            .field("claims", &self.claims)
            .finish_non_exhaustive()
    }
}

impl FileGrant {
    /// What S3 calls the access key id. It is no secret.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What requests are signed with.
    pub fn secret(&self) -> &[u8] {
        self.secret.expose()
    }

    /// What is sent with each request.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Until when it is good.
    pub fn expires(&self) -> Timestamp {
        self.claims.expires
    }

    /// The table whose files may be read.
    pub(super) fn table(&self) -> TableId {
        self.table
    }

    /// Its holder, who connects from there.
    pub(super) fn session(&self, remote: Option<std::net::SocketAddr>) -> Session {
        let LoggedIn { principal, user } = self.claims.identity.clone();
        Session {
            principal,
            user,
            ..Session::anonymous(remote)
        }
    }
}

/// With what all nodes of a cluster sign.
pub(super) struct CatalogKey(hmac::Key);

/// The object with the key.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    version: u32,
    key: String,
}

impl CatalogKey {
    fn new(bytes: &[u8]) -> CatalogKey {
        CatalogKey(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn of_object(object: &[u8]) -> Result<CatalogKey, String> {
        let advice = "delete it, and restart the nodes, to have another made";
        let Ok(stored) = serde_json::from_slice::<StoredKey>(object) else {
            return Err(format!("it is damaged; {advice}"));
        };
        if stored.version != VERSION {
            let version = stored.version;
            return Err(format!("it has version {version}: upgrade this node"));
        }
        match URL_SAFE_NO_PAD.decode(&stored.key) {
            Ok(key) if key.len() == KEY => Ok(CatalogKey::new(&key)),
            _ => Err(format!("it is damaged; {advice}")),
        }
    }

    fn sign(&self, what: &[u8], said: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(what);
        context.update(&[0]);
        context.update(said.as_bytes());
        context.sign().as_ref().to_vec()
    }

    pub(super) fn token(
        &self,
        purpose: Purpose,
        identity: &LoggedIn,
        table: Option<TableId>,
        expires: Timestamp,
    ) -> String {
        let written = Written {
            p: identity.principal.clone(),
            u: identity.user.map(|user| user.0),
            t: table.map(|table| table.0),
            e: expires.0,
        };
        // Nothing in it can fail to be written.
        let said = serde_json::to_vec(&written).unwrap_or_default();
        let said = URL_SAFE_NO_PAD.encode(said);
        let seal = URL_SAFE_NO_PAD.encode(self.sign(purpose.name(), &said));
        format!("{said}.{seal}")
    }

    /// What a token says, if it is one of this cluster and good at that time.
    pub(super) fn read(
        &self,
        purpose: Purpose,
        token: &str,
        now: Timestamp,
    ) -> Result<Claims, BadToken> {
        if token.len() > MAX_TOKEN {
            return Err(BadToken::Foreign);
        }
        let (said, seal) = token.split_once('.').ok_or(BadToken::Foreign)?;
        let sent = URL_SAFE_NO_PAD
            .decode(seal)
            .map_err(|_| BadToken::Foreign)?;
        let own = self.sign(purpose.name(), said);
        if constant_time::verify_slices_are_equal(&own, &sent).is_err() {
            return Err(BadToken::Foreign);
        }
        let said = URL_SAFE_NO_PAD.decode(said).ok();
        let written: Option<Written> = said.and_then(|said| serde_json::from_slice(&said).ok());
        let Written { p, u, t, e } = written.ok_or(BadToken::Foreign)?;
        if now.0 >= e {
            return Err(BadToken::Expired);
        }
        Ok(Claims {
            identity: LoggedIn {
                principal: p,
                user: u.map(Seq),
            },
            table: t.map(TableId),
            expires: Timestamp(e),
        })
    }

    /// The right to files that a token stands for.
    pub(super) fn grant(&self, token: String, now: Timestamp) -> Result<FileGrant, BadToken> {
        let claims = self.read(Purpose::Files, &token, now)?;
        let table = claims.table.ok_or(BadToken::Foreign)?;
        let id = self.sign(b"key id", &token);
        let id = id.iter().take(8).map(|byte| format!("{byte:02X}"));
        // As long as S3's: forty letters and digits.
        let secret = self.sign(b"secret", &token);
        let secret = secret.iter().take(20).map(|byte| format!("{byte:02x}"));
        Ok(FileGrant {
            key_id: format!("WEIR{}", id.collect::<String>()),
            secret: Secret::new(secret.collect::<String>()),
            token,
            claims,
            table,
        })
    }
}

impl Broker {
    /// The right to files that a client shows.
    ///
    /// # Errors
    ///
    /// [`GrantError`].
    pub async fn file_grant(&self, token: &str) -> Result<FileGrant, GrantError> {
        let key = self.catalog_key().await?;
        Ok(key.grant(token.to_owned(), self.catalog_time())?)
    }

    /// The key of this cluster, which is made if there is none.
    pub(super) async fn catalog_key(&self) -> Result<&CatalogKey, GrantError> {
        let limit = self.inner.settings.request_timeout;
        let made = self.inner.catalog.key.get_or_try_init(|| self.stored_key());
        match tokio::time::timeout(limit, made).await {
            Ok(key) => key,
            Err(_) => Err(GrantError::Key(
                "the store did not answer in time".to_owned(),
            )),
        }
    }

    async fn stored_key(&self) -> Result<CatalogKey, GrantError> {
        let (store, path) = (&self.inner.store, ObjectPath::catalog_key());
        let failed = |error: StoreError| GrantError::Key(error.to_string());
        for _ in 0..ATTEMPTS {
            match store.get(&path, RequestKind::Cluster).await {
                Ok(object) => return CatalogKey::of_object(&object).map_err(GrantError::Key),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(failed(error)),
            }
            let new = StoredKey {
                version: VERSION,
                key: URL_SAFE_NO_PAD.encode(self.inner.env.random_key()),
            };
            let object = serde_json::to_vec_pretty(&new);
            let object = object.map_err(|error| GrantError::Key(error.to_string()))?;
            // Whoever made it, and whatever became of this, it is read back: so all nodes have the same.
            match store.create(&path, object, RequestKind::Cluster).await {
                Ok(Created::Created | Created::Exists | Created::Unknown(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(GrantError::Key("it does not stay".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> CatalogKey {
        CatalogKey::new(&[byte; KEY])
    }

    fn alice() -> LoggedIn {
        LoggedIn {
            principal: "User:alice".to_owned(),
            user: Some(Seq(7)),
        }
    }

    #[test]
    fn a_token_is_taken_by_who_has_the_key_for_what_it_is_and_until_it_expires() {
        let table = TableId(Uuid::from_u128(9));
        let token = key(1).token(Purpose::Files, &alice(), Some(table), Timestamp(1000));
        let claims = key(1).read(Purpose::Files, &token, Timestamp(999));
        let expected = Claims {
            identity: alice(),
            table: Some(table),
            expires: Timestamp(1000),
        };
        assert_eq!(claims, Ok(expected));
        let read = |key: CatalogKey, purpose, token: &str, now| {
            key.read(purpose, token, Timestamp(now)).unwrap_err()
        };
        let foreign = BadToken::Foreign;
        assert_eq!(
            read(key(1), Purpose::Files, &token, 1000),
            BadToken::Expired
        );
        assert_eq!(read(key(2), Purpose::Files, &token, 999), foreign);
        assert_eq!(read(key(1), Purpose::Login, &token, 999), foreign);
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            // The last digit of what is written so has bits that mean nothing; those that do not decode are refused.
            assert_eq!(read(key(1), Purpose::Files, &other, 999), foreign, "{at}");
        }
        for bad in ["", ".", "a.b", &"a".repeat(5000)] {
            assert_eq!(read(key(1), Purpose::Files, bad, 999), foreign, "{bad}");
        }
    }

    #[test]
    fn the_secret_of_a_right_to_files_follows_from_its_token_and_is_never_shown() {
        let table = TableId(Uuid::from_u128(9));
        let token = |until| key(1).token(Purpose::Files, &alice(), Some(table), Timestamp(until));
        let grant = |until| key(1).grant(token(until), Timestamp(0)).unwrap();
        assert_eq!(grant(1000).secret(), grant(1000).secret());
        assert_ne!(grant(1000).secret(), grant(1001).secret());
        assert_eq!(
            (grant(1000).key_id().len(), grant(1000).secret().len()),
            (20, 40)
        );
        let secret = String::from_utf8(grant(1000).secret().to_vec()).unwrap();
        let shown = format!("{:?}", grant(1000));
        assert!(
            !shown.contains(&secret) && !shown.contains(&token(1000)),
            "{shown}"
        );
        // A login is no right to files.
        let login = key(1).token(Purpose::Login, &alice(), None, Timestamp(1000));
        assert_eq!(
            key(1).grant(login, Timestamp(0)).unwrap_err(),
            BadToken::Foreign
        );
    }

    #[test]
    fn an_object_that_has_no_key_says_what_to_do() {
        let of = |object: &str| CatalogKey::of_object(object.as_bytes()).map(drop);
        let good = format!(
            r#"{{"version":1,"key":"{}"}}"#,
            URL_SAFE_NO_PAD.encode([1; 32])
        );
        assert_eq!(of(&good), Ok(()));
        assert!(
            of(&good.replace("1,", "2,"))
                .unwrap_err()
                .contains("upgrade")
        );
        for bad in ["", "{}", r#"{"version":1,"key":"AAAA"}"#] {
            assert!(of(bad).unwrap_err().contains("delete it"), "{bad}");
        }
    }
}
