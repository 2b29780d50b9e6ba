//! Passwords and their verifiers (RFC 5802): pure computations.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};

use crate::state::access::{ScramMechanism, Verifier};

/// How often the hash of a password is iterated that is set here.
pub(super) const ITERATIONS: u32 = 8192;

/// The longest password, in bytes: hashing it costs time.
pub(super) const MAX_PASSWORD: usize = 1024;

/// What a client or a person says that nobody else may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// This secret.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }

    pub(in crate::broker) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a password cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum UnfitPassword {
    #[error("the password is empty")]
    Empty,
    #[error("the password is longer than {MAX_PASSWORD} bytes")]
    TooLong,
    #[error("the password is not UTF-8 text")]
    NotText,
    /// Some clients prepare a password before they hash it, and others do not, Kafka's own among them. The two would
    /// log in with different passwords.
    #[error(
        "the password has characters that clients treat in different ways (control characters, or ones that SASLprep \
         would replace or forbid): use others"
    )]
    Ambiguous,
    #[error("the password was not hashed, as the process is stopping")]
    NotHashed,
}

impl Secret {
    /// Refuses what cannot be a password that every client sends alike.
    ///
    /// # Errors
    /// Says what is wrong with it, and nothing of what it is.
    pub fn check_password(&self) -> Result<(), UnfitPassword> {
        let text = std::str::from_utf8(&self.0).map_err(|_| UnfitPassword::NotText)?;
        match text.len() {
            0 => return Err(UnfitPassword::Empty),
            1..=MAX_PASSWORD => {}
            _ => return Err(UnfitPassword::TooLong),
        }
        match stringprep::saslprep(text) {
            Ok(prepared) if prepared == text => Ok(()),
            _ => Err(UnfitPassword::Ambiguous),
        }
    }
}

/// The algorithms of a mechanism.
pub(super) struct Algorithms {
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

impl Algorithms {
    pub(super) fn of(mechanism: ScramMechanism) -> Algorithms {
        match mechanism {
            ScramMechanism::Sha256 => Algorithms {
                hmac: hmac::HMAC_SHA256,
                digest: &digest::SHA256,
                pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256,
            },
            ScramMechanism::Sha512 => Algorithms {
                hmac: hmac::HMAC_SHA512,
                digest: &digest::SHA512,
                pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512,
            },
        }
    }

    pub(super) fn hmac(&self, key: &[u8], message: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac, key), message)
    }

    pub(super) fn digest(&self, bytes: &[u8]) -> digest::Digest {
        digest::digest(self.digest, bytes)
    }
}

/// The verifier of a password: takes milliseconds of processor time.
pub(super) fn hash(
    password: &Secret,
    mechanism: ScramMechanism,
    salt: &[u8],
    iterations: u32,
) -> Verifier {
    let mut salted = vec![0; mechanism.hash_len()];
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    let algorithm = Algorithms::of(mechanism).pbkdf2;
    pbkdf2::derive(algorithm, rounds, salt, &password.0, &mut salted);
    of_salted(&Secret(salted), mechanism, salt, iterations)
}

/// The verifier of a password that its client has salted and hashed (Kafka's AlterUserScramCredentials).
pub(in crate::broker) fn of_salted(
    salted: &Secret,
    mechanism: ScramMechanism,
    salt: &[u8],
    iterations: u32,
) -> Verifier {
    let algorithms = Algorithms::of(mechanism);
    let client_key = algorithms.hmac(&salted.0, b"Client Key");
    let stored_key = algorithms.digest(client_key.as_ref());
    let server_key = algorithms.hmac(&salted.0, b"Server Key");
    Verifier::new(
        iterations,
        salt.to_vec(),
        stored_key.as_ref().to_vec(),
        server_key.as_ref().to_vec(),
    )
}

/// Whether it is the password: takes milliseconds of processor time, as many whether it is or not.
pub(super) fn is_password(
    password: &Secret,
    mechanism: ScramMechanism,
    verifier: &Verifier,
) -> bool {
    let hashed = hash(password, mechanism, verifier.salt(), verifier.iterations);
    are_equal(hashed.stored_key(), verifier.stored_key())
}

/// In a time that tells nothing.
pub(super) fn are_equal(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_hashed_as_the_standard_says() {
        // RFC 7677, section 3: user "user", password "pencil".
        let salt = [
            0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36,
            0xfa, 0x81,
        ];
        let verifier = hash(&Secret::new("pencil"), ScramMechanism::Sha256, &salt, 4096);
        let expected = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
        use base64::Engine;
        let stored = base64::engine::general_purpose::STANDARD.encode(verifier.stored_key());
        assert_eq!(stored, expected);
        for (password, expected) in [("pencil", true), ("pencil ", false), ("", false)] {
            let password = Secret::new(password);
            assert_eq!(
                is_password(&password, ScramMechanism::Sha256, &verifier),
                expected
            );
        }
    }

    #[test]
    fn a_password_that_clients_would_send_in_different_ways_is_refused() {
        for good in ["pencil", "with space", "grüße", "密码"] {
            assert_eq!(Secret::new(good).check_password(), Ok(()), "{good}");
        }
        // A soft hyphen is dropped, a roman numeral and a non-breaking space are replaced, a bell is forbidden.
        for bad in ["I\u{ad}X", "\u{2168}", "a\u{a0}b", "a\u{7}"] {
            let unfit = Secret::new(bad).check_password();
            assert_eq!(unfit, Err(UnfitPassword::Ambiguous), "{bad:?}");
        }
        let check = |bytes: Vec<u8>| Secret::new(bytes).check_password();
        assert_eq!(check(vec![]), Err(UnfitPassword::Empty));
        assert_eq!(check(vec![b'a'; 1025]), Err(UnfitPassword::TooLong));
        assert_eq!(check(vec![0xff]), Err(UnfitPassword::NotText));
        let shown = format!("{:?} {}", Secret::new("pencil"), UnfitPassword::Ambiguous);
        assert!(!shown.contains("pencil"), "{shown}");
    }
}
