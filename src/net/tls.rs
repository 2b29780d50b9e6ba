//! TLS: what a listener shows its clients, from files that are read again when they change.
//!
//! Only TLS 1.2 and 1.3 are spoken, with the ciphers that rustls has for them; there is no compression and no
//! renegotiation. The handshake of a connection takes place in the connection's own task and within
//! [`HANDSHAKE_TIME`], and the connection has its slot meanwhile, so a flood of handshakes takes no more than
//! connections may.
//!
//! A connection looks whether the files have changed, at most once in [`LOOK_EVERY`]; those that are there stay. Files
//! that cannot be used are reported, and what was read before is used until they can.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig, version};
use tokio_rustls::server::TlsStream;

use super::RateLimitedLog;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How often it is looked whether the files have changed, at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{what} cannot be read from {}: {why}", path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate and the key cannot be used.
    #[error("the certificate of {} cannot be used with the key of {}: {why}", cert.display(), key.display())]
    Unusable {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        why: rustls::Error,
    },
}

/// The certificate of a node and its key, as they are in their files.
#[derive(Debug)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    seen: [Option<SystemTime>; 2],
    looked: Instant,
    failed: RateLimitedLog,
}

impl Tls {
    /// Reads the files: certificates in PEM, the node's own first, and the key of that.
    ///
    /// # Errors
    /// [`TlsError`], which does not show the key.
    pub fn load(cert: &Path, key: &Path) -> Result<Tls, TlsError> {
        let seen = seen(cert, key);
        let config = read(cert, key)?;
        Ok(Tls {
            cert: cert.to_owned(),
            key: key.to_owned(),
            loaded: Mutex::new(Loaded {
                config,
                seen,
                looked: Instant::now(),
                failed: RateLimitedLog::default(),
            }),
        })
    }

    fn config(&self) -> Arc<ServerConfig> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.looked.elapsed() >= LOOK_EVERY {
            loaded.looked = Instant::now();
            let now = seen(&self.cert, &self.key);
            if now != loaded.seen {
                match read(&self.cert, &self.key) {
                    Ok(config) => {
                        tracing::info!(cert = %self.cert.display(), "read the certificate again");
                        loaded.config = config;
                        loaded.seen = now;
                    }
                    // Perhaps only one of the two files is there yet.
                    Err(error) => {
                        if let Some(more) = loaded.failed.pass() {
                            tracing::warn!(%error, more, "the certificate cannot be read again; the one before is used");
                        }
                    }
                }
            }
        }
        Arc::clone(&loaded.config)
    }

    /// Speaks TLS on a connection from now on.
    ///
    /// # Errors
    /// The handshake failed or took too long.
    pub(super) async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.config());
        match timeout(HANDSHAKE_TIME, acceptor.accept(socket)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the handshake took too long",
            )),
        }
    }
}

/// When the files were written last.
fn seen(cert: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    let written = |path: &Path| fs::metadata(path).and_then(|of| of.modified()).ok();
    [written(cert), written(key)]
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |what, path: &Path, why: String| TlsError::File {
        what,
        path: path.to_owned(),
        why,
    };
    let certs: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let certs = certs.map_err(|why| failed("the certificate", cert, why.to_string()))?;
    if certs.is_empty() {
        let why = "there is no certificate in it".to_owned();
        return Err(failed("the certificate", cert, why));
    }
    let private = PrivateKeyDer::from_pem_file(key);
    let private = private.map_err(|why| failed("the key", key, why.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certs, private)
        });
    config.map(Arc::new).map_err(|why| TlsError::Unusable {
        cert: cert.to_owned(),
        key: key.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

    /// Certificates that vouch for themselves, for the name `localhost`, and their keys; of no use to anybody.
    const ONE: [&str; 2] = [
        include_str!("../../tests/fixtures/tls/one.pem"),
        include_str!("../../tests/fixtures/tls/one.key"),
    ];
    const TWO: [&str; 2] = [
        include_str!("../../tests/fixtures/tls/two.pem"),
        include_str!("../../tests/fixtures/tls/two.key"),
    ];

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Files {
            Files(tempfile::tempdir().unwrap())
        }

        fn write(&self, [cert, key]: [&str; 2]) -> [PathBuf; 2] {
            let at = |name: &str| self.0.path().join(name);
            fs::write(at("cert.pem"), cert).unwrap();
            fs::write(at("key.pem"), key).unwrap();
            [at("cert.pem"), at("key.pem")]
        }

        fn load(&self, files: [&str; 2]) -> Result<Tls, TlsError> {
            let [cert, key] = self.write(files);
            Tls::load(&cert, &key)
        }
    }

    fn client(trusted: &str, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    /// Whether a client that trusts this certificate is answered.
    async fn is_served(tls: &Tls, connector: TlsConnector) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            let (socket, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = tls.accept(socket).await {
                let _ = stream.write_all(b"!").await;
                let _ = stream.shutdown().await;
            }
        };
        let asking = async {
            let socket = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            match connector.connect(name, socket).await {
                Ok(mut stream) => stream.read_u8().await.is_ok(),
                Err(_) => false,
            }
        };
        let ((), served) = tokio::join!(serving, asking);
        served
    }

    #[tokio::test]
    async fn clients_that_trust_the_certificate_are_served_by_both_versions_and_others_are_not() {
        let files = Files::new();
        let tls = files.load(ONE).unwrap();
        for version in [&version::TLS12, &version::TLS13] {
            assert!(is_served(&tls, client(ONE[0], &[version])).await);
            assert!(!is_served(&tls, client(TWO[0], &[version])).await);
        }
    }

    #[tokio::test]
    async fn a_certificate_that_changes_is_shown_to_those_who_come_later() {
        let files = Files::new();
        let tls = files.load(ONE).unwrap();
        let both: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
        let look_again = || tls.loaded.lock().unwrap().looked = Instant::now() - LOOK_EVERY;
        // What cannot be used leaves the one before in use.
        files.write([ONE[0], TWO[1]]);
        look_again();
        assert!(is_served(&tls, client(ONE[0], both)).await);
        files.write(TWO);
        look_again();
        assert!(is_served(&tls, client(TWO[0], both)).await);
        assert!(!is_served(&tls, client(ONE[0], both)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_shake_hands_is_let_go() {
        let files = Files::new();
        let tls = files.load(ONE).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let error = tls.accept(socket).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn files_that_are_none_are_named_and_keys_are_not_shown() {
        let files = Files::new();
        let key_of = |text: &str| text.lines().nth(1).unwrap().to_owned();
        for (bad, file) in [
            ([ONE[0], "no key"], "key.pem"),
            (["no certificate", ONE[1]], "cert.pem"),
            ([ONE[0], TWO[1]], "cert.pem"),
            ([ONE[1], ONE[1]], "cert.pem"),
        ] {
            let error = format!("{0} {0:?}", files.load(bad).unwrap_err());
            assert!(error.contains(file), "{error}");
            for key in [ONE[1], TWO[1]] {
                assert!(!error.contains(&key_of(key)), "{error}");
            }
        }
        let missing = Tls::load(
            Path::new("/nowhere/cert.pem"),
            Path::new("/nowhere/key.pem"),
        );
        assert!(
            missing
                .unwrap_err()
                .to_string()
                .contains("/nowhere/cert.pem")
        );
    }
}
