//! Where Kafka clients connect, and how they show who they are there: Kafka's listeners and security protocols.

use std::fmt;

use super::{HostPort, ListenAddress, Value};

/// How clients of a listener are protected: Kafka's security protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// Nothing is encrypted, and nobody logs in.
    Plaintext,
    /// Nothing is encrypted, and clients log in with SASL.
    SaslPlaintext,
    /// TLS, and nobody logs in.
    Ssl,
    /// TLS, and clients log in with SASL.
    SaslSsl,
}

impl Security {
    /// All of them.
    pub const ALL: [Security; 4] = [
        Security::Plaintext,
        Security::SaslPlaintext,
        Security::Ssl,
        Security::SaslSsl,
    ];

    /// How it is written before an address.
    pub fn scheme(self) -> &'static str {
        match self {
            Security::Plaintext => "plaintext",
            Security::SaslPlaintext => "sasl_plaintext",
            Security::Ssl => "ssl",
            Security::SaslSsl => "sasl_ssl",
        }
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Security::Plaintext => "PLAINTEXT",
            Security::SaslPlaintext => "SASL_PLAINTEXT",
            Security::Ssl => "SSL",
            Security::SaslSsl => "SASL_SSL",
        }
    }

    /// The name of the listener, which is the key of its address in a node's registration.
    pub fn listener(self) -> &'static str {
        match self {
            Security::Plaintext => "kafka",
            Security::SaslPlaintext => "kafka-sasl",
            Security::Ssl => "kafka-ssl",
            Security::SaslSsl => "kafka-sasl-ssl",
        }
    }

    /// Whether clients have to log in.
    pub fn asks_login(self) -> bool {
        match self {
            Security::Plaintext | Security::Ssl => false,
            Security::SaslPlaintext | Security::SaslSsl => true,
        }
    }

    /// Whether what is sent is encrypted.
    pub fn is_encrypted(self) -> bool {
        match self {
            Security::Plaintext | Security::SaslPlaintext => false,
            Security::Ssl | Security::SaslSsl => true,
        }
    }
}

/// One listener of Kafka clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaListener {
    /// How its clients are protected.
    pub security: Security,
    /// Where it listens.
    pub address: HostPort,
}

impl fmt::Display for KafkaListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.security {
            Security::Plaintext => self.address.fmt(f),
            security => write!(f, "{}://{}", security.scheme(), self.address),
        }
    }
}

/// The listeners of Kafka clients: `HOST:PORT`, or `SECURITY://HOST:PORT` for one or more with commas between them,
/// each of another security protocol; or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaListeners(Vec<KafkaListener>);

impl KafkaListeners {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &KafkaListener> {
        self.0.iter()
    }
}

impl fmt::Display for KafkaListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("off");
        }
        let listeners: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&listeners.join(","))
    }
}

impl Value for KafkaListeners {
    const KIND: &'static str = "[SECURITY://]HOST:PORT,...|off";

    fn read(text: &str) -> Result<KafkaListeners, String> {
        if text == "off" {
            return Ok(KafkaListeners(Vec::new()));
        }
        let mut listeners: Vec<KafkaListener> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (security, address) = match part.split_once("://") {
                None => (Security::Plaintext, part),
                Some((scheme, address)) => {
                    let scheme = scheme.to_ascii_lowercase();
                    let known = Security::ALL.into_iter().find(|one| one.scheme() == scheme);
                    let known = known.ok_or_else(|| {
                        let all = Security::ALL.map(Security::scheme).join(", ");
                        format!("'{scheme}' is not a security protocol; they are {all}")
                    })?;
                    (known, address)
                }
            };
            let ListenAddress::At(address) = ListenAddress::read(address)? else {
                return Err("off stands by itself".to_owned());
            };
            if listeners.iter().any(|one| one.security == security) {
                let scheme = security.scheme();
                return Err(format!("it names two addresses for {scheme}"));
            }
            listeners.push(KafkaListener { security, address });
        }
        Ok(KafkaListeners(listeners))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_and_shown() {
        let read = |text: &str| KafkaListeners::read(text).unwrap();
        for text in [
            "127.0.0.1:9092",
            "off",
            "0.0.0.0:9092,sasl_plaintext://[::]:9093",
            "sasl_plaintext://localhost:0",
            "ssl://localhost:0,sasl_ssl://localhost:1",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        let two = read("PLAINTEXT://a:1, SASL_SSL://b:2");
        assert_eq!(two.to_string(), "a:1,sasl_ssl://b:2");
        assert_eq!(
            two.iter()
                .map(|one| one.security.asks_login())
                .collect::<Vec<_>>(),
            [false, true]
        );
        for (bad, why) in [
            ("", "port is missing"),
            ("a", "port is missing"),
            ("http://a:1", "not a security protocol"),
            ("a:1,b:2", "two addresses for plaintext"),
            ("a:1,off", "off stands by itself"),
        ] {
            let error = KafkaListeners::read(bad).unwrap_err();
            assert!(error.contains(why) || bad.is_empty(), "{bad}: {error}");
        }
    }
}
