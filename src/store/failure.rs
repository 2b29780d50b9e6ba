//! What the failure of one attempt means: the one place where errors of stores are judged.

use std::error::Error;
use std::io::ErrorKind;

use crate::rules::{Rule, holds};

use super::answers::Said;
use super::error::Cause;
use super::wire::Traced;

/// Why one attempt failed, and what follows.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) verdict: Verdict,
    pub(super) cause: Cause,
    /// Something other than the store answered.
    pub(super) foreign: bool,
}

/// What follows from the failure of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is no such object.
    NotFound,
    /// The object to create existed before this attempt.
    Exists,
    /// The range begins at or after the object's end.
    OutOfRange,
    /// It may work later. `reached`: the store may have applied this attempt.
    Transient { reached: bool },
    /// It will not work until somebody changes something; and this attempt was not applied.
    Permanent { advice: &'static str },
}

/// An error made in this room that knows its own verdict, wrapped in an `object_store::Error`.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) cause: Cause,
}

impl Judged {
    pub(super) fn wrap(self, store: &'static str) -> object_store::Error {
        object_store::Error::Generic {
            store,
            source: Box::new(self),
        }
    }
}

const BUCKET: &str = "Create the bucket, or correct its name in the store's URL";
const RIGHTS: &str = "Give these credentials the rights to get, put, list and delete objects \
    under the store's URL";
const CLOCK: &str = "Synchronise this machine's clock with NTP";
const REGION: &str = "Set AWS_REGION to the bucket's region, or correct the endpoint";
const KEYS: &str = "Check the credentials: for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or \
    AWS_PROFILE";
const EXPIRED: &str = "Get new credentials (for SSO: aws sso login) and start again";
const UNSUPPORTED: &str = "This store lacks what Weir needs; `weir store check` tells more";
const FOLDER: &str = "Make the directory writable for the user that runs Weir";
const REQUEST: &str = "Check the store's URL, its region and its endpoint";

/// Judges the error of an attempt at a store that is reached by HTTP, by what was seen on the wire.
pub(super) fn judge_http(error: &object_store::Error, traced: &Traced) -> Failure {
    if let Some(judged) = find::<Judged>(error) {
        return Failure {
            verdict: judged.verdict,
            cause: judged.cause.clone(),
            foreign: false,
        };
    }
    if traced.status.is_none() {
        return Failure {
            verdict: Verdict::Transient {
                reached: traced.sent,
            },
            cause: transport(error),
            foreign: false,
        };
    }
    Failure {
        verdict: verdict(traced),
        cause: answer(traced, error),
        foreign: traced.is_foreign(),
    }
}

/// What follows from an answer that was no success, or began as one. A status is believed only with the store's own
/// words: see `answers.rs`.
pub(super) fn verdict(traced: &Traced) -> Verdict {
    match (traced.status.unwrap_or_default(), traced.said.code.as_str()) {
        // The answer began well and broke off, or was not the store's.
        (200..=299, _) => Verdict::Transient { reached: true },
        (416, code) if !code.is_empty() || traced.ended => Verdict::OutOfRange,
        (404, _) if !holds(Rule::OnlyStoreSaysNotFound) => Verdict::NotFound,
        // Something between answered. It may have passed the request on.
        (_, "") => Verdict::Transient { reached: true },
        (404, "NoSuchBucket" | "ContainerNotFound" | "NoSuchContainer") => {
            Verdict::Permanent { advice: BUCKET }
        }
        (404, "NoSuchKey" | "BlobNotFound" | "NoSuchUpload") => Verdict::NotFound,
        // About something else than an object.
        (404, _) => Verdict::Transient { reached: true },
        (412, _) => Verdict::Exists,
        // Azure's word for it. S3's 409 says that two requests met, not which of them won.
        (409, "BlobAlreadyExists") => Verdict::Exists,
        (409, _) => Verdict::Transient { reached: true },
        (300..=399, _)
        | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            Verdict::Permanent { advice: REGION }
        }
        (400, "RequestTimeout" | "BadDigest" | "IncompleteBody") => {
            Verdict::Transient { reached: false }
        }
        (_, "RequestTimeTooSkewed") => Verdict::Permanent { advice: CLOCK },
        (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
            Verdict::Permanent { advice: EXPIRED }
        }
        (401, _) | (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken") => {
            Verdict::Permanent { advice: KEYS }
        }
        (403, _) => Verdict::Permanent { advice: RIGHTS },
        (408 | 425 | 429, _) => Verdict::Transient { reached: true },
        (501, _) => Verdict::Permanent {
            advice: UNSUPPORTED,
        },
        (500.., _) => Verdict::Transient { reached: true },
        _ => Verdict::Permanent { advice: REQUEST },
    }
}

/// The store's answer in words that are safe to log.
fn answer(traced: &Traced, error: &object_store::Error) -> Cause {
    let status = traced.status.unwrap_or_default();
    if (200..=299).contains(&status) {
        return transport(error);
    }
    if traced.is_foreign() {
        return Cause::new(&traced.foreign());
    }
    let Said { code, message } = &traced.said;
    match (code.as_str(), message.as_str()) {
        ("", _) => Cause::new(&format!("the answer was {status} ({})", traced.described)),
        (code, "") => Cause::new(&format!("the store answered {status} ({code})")),
        (code, message) => Cause::new(&format!("the store answered {status} ({code}: {message})")),
    }
}

/// The transport's own words, without those of the layers above, which may repeat an answer.
fn transport(error: &object_store::Error) -> Cause {
    match find::<object_store::client::HttpError>(error) {
        Some(http) => Cause::of(http),
        None => Cause::new("the answer could not be read"),
    }
}

/// Judges the error of an attempt at a store in this process or on this machine.
pub(super) fn judge_local(error: &object_store::Error) -> Failure {
    use object_store::Error as E;
    if let Some(judged) = find::<Judged>(error) {
        return Failure {
            verdict: judged.verdict,
            cause: judged.cause.clone(),
            foreign: false,
        };
    }
    let io = find::<std::io::Error>(error).map(std::io::Error::kind);
    let verdict = match error {
        E::NotFound { .. } => Verdict::NotFound,
        E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Verdict::Exists,
        E::PermissionDenied { .. } => Verdict::Permanent { advice: RIGHTS },
        E::Unauthenticated { .. } => Verdict::Permanent { advice: KEYS },
        E::NotSupported { .. } | E::NotImplemented { .. } => Verdict::Permanent {
            advice: UNSUPPORTED,
        },
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => {
            Verdict::Permanent { advice: REQUEST }
        }
        _ => match io {
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                Verdict::Permanent { advice: FOLDER }
            }
            _ => Verdict::Transient { reached: true },
        },
    };
    Failure {
        verdict,
        cause: Cause::of(error),
        foreign: false,
    }
}

/// What a failed step on the file system means, before (`reached` false) or after the step that makes
/// the object visible.
pub(super) fn judge_io(error: &std::io::Error, reached: bool) -> Verdict {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem if !reached => {
            Verdict::Permanent { advice: FOLDER }
        }
        ErrorKind::Unsupported | ErrorKind::CrossesDevices if !reached => Verdict::Permanent {
            advice: "Use a directory whose file system is one and has hard links, such as ext4 or xfs",
        },
        _ => Verdict::Transient { reached },
    }
}

/// The first error of that type in a chain.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
