//! Where a store is: the text of `--store`, parsed and validated.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

/// Where a store is. Credentials are never part of it, so it can be shown anywhere.
///
/// * `file:///absolute/path`, `file://./relative/path`: a directory of this machine. The path is
///   taken as it is written: `%20` is three characters.
/// * `memory://`: lost when the process ends.
/// * `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`: the prefix may be absent.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreUrl(pub(super) Location);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Location {
    File {
        directory: PathBuf,
    },
    Memory,
    Bucket {
        cloud: Cloud,
        bucket: String,
        prefix: String,
    },
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cloud {
    S3,
    Gcs,
    Azure,
}

impl Cloud {
    fn scheme(self) -> &'static str {
        match self {
            Cloud::S3 => "s3",
            Cloud::Gcs => "gs",
            Cloud::Azure => "az",
        }
    }
}

/// The text is not the URL of a store. The message never repeats the text, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStoreUrl {
    /// No `scheme://` at its start.
    #[error(
        "a store is written as a URL: file:///path, file://./path, memory://, s3://bucket/prefix, \
         gs://bucket/prefix or az://container/prefix"
    )]
    NoScheme,
    /// A scheme that Weir has no store for.
    #[error("there is no store for this scheme; the schemes are file, memory, s3, gs and az")]
    UnknownScheme,
    /// `file://` without a path that starts with `/`, `./` or `../`.
    #[error(
        "the path of a file store starts with / or ./ or ../ : file:///absolute/path or \
         file://./relative/path"
    )]
    FilePath,
    /// `memory://` followed by something.
    #[error("nothing may follow memory://")]
    MemoryPath,
    /// The bucket's name is absent or has characters that no bucket has.
    #[error(
        "the bucket's name must have 3 to 63 (Google: 222) letters, digits, dots, dashes and \
         underscores: {scheme}://bucket/prefix"
    )]
    Bucket {
        /// The scheme of the URL.
        scheme: &'static str,
    },
    /// Empty parts, `.` and `..` or characters that need escaping in the prefix.
    #[error(
        "the prefix must be made of parts of letters, digits and the characters - _ . = ! , \
         separated by single slashes"
    )]
    Prefix,
    /// A query, a fragment or a user in the URL.
    #[error(
        "the URL of a store has no user, password, query or fragment; credentials come from the \
         environment (for S3 also from profiles, SSO, web identity and instance metadata)"
    )]
    Secrets,
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(text: &str) -> Result<StoreUrl, InvalidStoreUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidStoreUrl::NoScheme)?;
        let location = match scheme {
            "file" => file(rest)?,
            "memory" if rest.is_empty() => Location::Memory,
            "memory" => return Err(InvalidStoreUrl::MemoryPath),
            "s3" => bucket(Cloud::S3, rest)?,
            "gs" => bucket(Cloud::Gcs, rest)?,
            "az" => bucket(Cloud::Azure, rest)?,
            _ => return Err(InvalidStoreUrl::UnknownScheme),
        };
        Ok(StoreUrl(location))
    }
}

fn file(rest: &str) -> Result<Location, InvalidStoreUrl> {
    let rooted = rest.starts_with('/') || rest.starts_with("./") || rest.starts_with("../");
    if !(rooted || rest == "." || rest == "..") || rest.contains('\0') {
        return Err(InvalidStoreUrl::FilePath);
    }
    Ok(Location::File {
        directory: PathBuf::from(rest),
    })
}

fn bucket(cloud: Cloud, rest: &str) -> Result<Location, InvalidStoreUrl> {
    if rest.contains(['?', '#', '@']) {
        return Err(InvalidStoreUrl::Secrets);
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let longest = if cloud == Cloud::Gcs { 222 } else { 63 };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let proper = bucket.chars().all(plain) && bucket.starts_with(|c: char| c.is_alphanumeric());
    if !(3..=longest).contains(&bucket.len()) || !proper {
        return Err(InvalidStoreUrl::Bucket {
            scheme: cloud.scheme(),
        });
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let parts_are_plain = prefix
        .chars()
        .all(|c| plain(c) || matches!(c, '/' | '=' | '!' | ','));
    if !parts_are_plain
        || Path::parse(prefix).is_err()
        || prefix.starts_with('/')
        || prefix.ends_with('/')
    {
        return Err(InvalidStoreUrl::Prefix);
    }
    Ok(Location::Bucket {
        cloud,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

/// The URL of what has that name below the prefix of a store, as other programs open it: of a directory, the absolute path.
pub(super) fn url_of(store: &str, name: &str) -> String {
    let Some(directory) = store.strip_prefix("file://") else {
        return format!("{}/{name}", store.trim_end_matches('/'));
    };
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
    let absolute = absolute.display().to_string();
    format!("file://{}/{name}", absolute.trim_end_matches('/'))
}

impl StoreUrl {
    /// The URL of what has that name in this store, as other programs open it.
    pub fn url_of(&self, name: &str) -> String {
        url_of(&self.to_string(), name)
    }

    /// The store of this process's memory.
    pub fn memory() -> StoreUrl {
        StoreUrl(Location::Memory)
    }

    /// Whether requests cost money and tens of milliseconds: true for the clouds' stores, false for
    /// file and memory.
    pub fn is_remote(&self) -> bool {
        matches!(self.0, Location::Bucket { .. })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Location::File { directory } => write!(f, "file://{}", directory.display()),
            Location::Memory => f.write_str("memory://"),
            Location::Bucket {
                cloud,
                bucket,
                prefix,
            } => {
                write!(f, "{}://{bucket}", cloud.scheme())?;
                if prefix.is_empty() {
                    Ok(())
                } else {
                    write!(f, "/{prefix}")
                }
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = InvalidStoreUrl;

    fn try_from(text: String) -> Result<StoreUrl, InvalidStoreUrl> {
        text.parse()
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> String {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_as_it_is_written() {
        for text in [
            "file:///var/lib/weir",
            "file://./data",
            "file://../data",
            "memory://",
            "s3://bucket",
            "s3://bucket/a/b",
            "gs://some.bucket/weir",
            "az://container/weir",
        ] {
            assert_eq!(text.parse::<StoreUrl>().unwrap().to_string(), text);
        }
        let url: StoreUrl = "s3://bucket/a/".parse().unwrap();
        assert_eq!(url.to_string(), "s3://bucket/a");
    }

    #[test]
    fn a_url_that_names_no_store_is_refused_with_the_reason() {
        use InvalidStoreUrl as Bad;
        for (text, reason) in [
            ("", Bad::NoScheme),
            ("/var/lib/weir", Bad::NoScheme),
            ("ftp://bucket", Bad::UnknownScheme),
            ("file://data", Bad::FilePath),
            ("memory://x", Bad::MemoryPath),
            ("s3://", Bad::Bucket { scheme: "s3" }),
            ("s3://a b/c", Bad::Bucket { scheme: "s3" }),
            ("gs:///prefix", Bad::Bucket { scheme: "gs" }),
            ("s3://bucket//a", Bad::Prefix),
            ("s3://bucket/a//", Bad::Prefix),
            ("s3://bucket/a/../b", Bad::Prefix),
            ("s3://bucket/a%2fb", Bad::Prefix),
            ("s3://bucket/a?endpoint=x", Bad::Secrets),
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_secret_written_into_a_url_is_not_repeated_by_the_error() {
        let error = "s3://AKIAFAKE:verysecret@bucket/prefix"
            .parse::<StoreUrl>()
            .unwrap_err();
        assert_eq!(error, InvalidStoreUrl::Secrets);
        assert!(!format!("{error} {error:?}").contains("verysecret"));
    }
}
