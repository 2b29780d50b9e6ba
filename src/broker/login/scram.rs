//! The server's side of SCRAM (RFC 5802), without channel binding: pure text in, text out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::credentials::{Algorithms, are_equal};
use crate::state::access::{ScramMechanism, Verifier};

/// The longest message of a client.
pub(super) const MAX_MESSAGE: usize = 4096;

/// A message of the client is none: it breaks off, or is of what is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What the client begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) user: String,
    nonce: String,
    /// It without the header, as it is signed.
    bare: String,
    header: String,
}

impl First {
    /// `n,,n=user,r=nonce`
    pub(super) fn parse(message: &[u8]) -> Result<First, Malformed> {
        let text = text(message)?;
        let mut fields = text.splitn(3, ',');
        let (binding, authzid) = (fields.next(), fields.next());
        let (Some(binding @ ("n" | "y")), Some(authzid), Some(bare)) =
            (binding, authzid, fields.next())
        else {
            return Err(Malformed);
        };
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|field| field.strip_prefix("n="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let user = unescaped(user.ok_or(Malformed)?)?;
        let nonce = nonce.filter(|nonce| is_nonce(nonce)).ok_or(Malformed)?;
        // Extensions: Kafka's delegation tokens, which there are not.
        if fields.next().is_some() {
            return Err(Malformed);
        }
        // To act for somebody else is not supported; for oneself is the same as to say nothing.
        let acts_for = authzid.strip_prefix("a=").map(unescaped).transpose()?;
        if acts_for.is_some_and(|other| other != user)
            || !(authzid.is_empty() || authzid.starts_with("a="))
        {
            return Err(Malformed);
        }
        Ok(First {
            user,
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
            header: format!("{binding},{authzid},"),
        })
    }
}

/// An exchange in which the server waits for the client's proof.
pub(super) struct Exchange {
    mechanism: ScramMechanism,
    first: First,
    nonce: String,
    challenge: String,
    verifier: Verifier,
}

impl Exchange {
    /// Challenges the client; `nonce` is the server's part of it.
    pub(super) fn new(
        mechanism: ScramMechanism,
        first: First,
        nonce: &[u8],
        verifier: Verifier,
    ) -> Exchange {
        let nonce = format!("{}{}", first.nonce, STANDARD.encode(nonce));
        let salt = STANDARD.encode(verifier.salt());
        let challenge = format!("r={nonce},s={salt},i={}", verifier.iterations);
        Exchange {
            mechanism,
            first,
            nonce,
            challenge,
            verifier,
        }
    }

    /// What the client is asked.
    pub(super) fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Judges the proof: `c=header,r=nonce,p=proof`. With the right one, what the client is told to know that this is
    /// the server.
    pub(super) fn finish(&self, message: &[u8]) -> Result<Option<String>, Malformed> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Malformed)?;
        let proof = STANDARD.decode(proof).map_err(|_| Malformed)?;
        let mut fields = without_proof.split(',');
        let header = fields.next().and_then(|field| field.strip_prefix("c="));
        let header = STANDARD.decode(header.ok_or(Malformed)?);
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let nonce = nonce.ok_or(Malformed)?;
        let is_same = header.is_ok_and(|header| header == self.first.header.as_bytes());
        if !is_same || nonce != self.nonce || proof.len() != self.mechanism.hash_len() {
            return Err(Malformed);
        }
        let signed = format!("{},{},{without_proof}", self.first.bare, self.challenge);
        let algorithms = Algorithms::of(self.mechanism);
        let signature = algorithms.hmac(self.verifier.stored_key(), signed.as_bytes());
        let pairs = signature.as_ref().iter().zip(&proof);
        let client_key: Vec<u8> = pairs.map(|(a, b)| a ^ b).collect();
        let stored_key = algorithms.digest(&client_key);
        if !are_equal(stored_key.as_ref(), self.verifier.stored_key()) {
            return Ok(None);
        }
        let signature = algorithms.hmac(self.verifier.server_key(), signed.as_bytes());
        Ok(Some(format!("v={}", STANDARD.encode(signature))))
    }
}

fn text(message: &[u8]) -> Result<&str, Malformed> {
    if message.len() > MAX_MESSAGE {
        return Err(Malformed);
    }
    std::str::from_utf8(message).map_err(|_| Malformed)
}

fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty()
        && nonce
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// A name in which `=2C` is a comma and `=3D` an equals sign.
fn unescaped(name: &str) -> Result<String, Malformed> {
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = if let Some(rest) = part.strip_prefix("2C") {
            (',', rest)
        } else if let Some(rest) = part.strip_prefix("3D") {
            ('=', rest)
        } else {
            return Err(Malformed);
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    match plain.is_empty() {
        true => Err(Malformed),
        false => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::credentials::{Secret, hash};
    use super::*;

    /// The example of RFC 7677, section 3.
    fn exchange() -> Exchange {
        let first = First::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        assert_eq!(first.user, "user");
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = hash(&Secret::new("pencil"), ScramMechanism::Sha256, &salt, 4096);
        let mut exchange = Exchange::new(ScramMechanism::Sha256, first, b"", verifier);
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
        exchange.challenge = format!("r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", exchange.nonce);
        exchange
    }

    const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_example_of_the_standard_is_exchanged() {
        let told = exchange().finish(PROOF.as_bytes()).unwrap();
        let expected = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(told.as_deref(), Some(expected));
    }

    #[test]
    fn another_proof_is_refused_and_another_nonce_or_header_is_none() {
        let wrong = PROOF.replace("p=dHzb", "p=eHzb");
        assert_eq!(exchange().finish(wrong.as_bytes()), Ok(None));
        for bad in [
            PROOF.replace("r=rOpr", "r=sOpr"),
            PROOF.replace("c=biws", "c=eSws"),
            PROOF.replace("VQ=", ""),
            PROOF.replace(",p=", ",q="),
            String::new(),
        ] {
            assert_eq!(exchange().finish(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn names_are_unescaped_and_what_is_not_supported_is_refused() {
        let user = |message: &str| First::parse(message.as_bytes()).map(|first| first.user);
        assert_eq!(user("n,,n=a=2Cb=3Dc,r=x"), Ok("a,b=c".to_owned()));
        assert_eq!(user("y,a=a,n=a,r=x"), Ok("a".to_owned()));
        for bad in [
            "p=tls-unique,,n=a,r=x",
            "n,a=b,n=a,r=x",
            "n,,n=a=2,r=x",
            "n,,n=,r=x",
            "n,,n=a,r=",
            "n,,m=x,n=a,r=x",
            "n,,n=a,r=x,tokenauth=true",
            "n,b,n=a,r=x",
        ] {
            assert_eq!(user(bad), Err(Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn hostile_messages_are_refused(first in ".{0,60}", last in ".{0,80}") {
            let _ = First::parse(first.as_bytes());
            prop_assert!(exchange().finish(last.as_bytes()).ok().flatten().is_none());
        }
    }
}
