//! The listeners of a node: which there are, for which front ends, and what others are told of them.
//!
//! Each has a name, which is the key of its address in the node's registration: a client that came through a listener
//! is told the other nodes' addresses of the same name. There may be several for one front end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use crate::broker;
use crate::config::{HostPort, Protocol, Security, ServeConfig};
use crate::net::{BindError, Listener, ListenerOptions, Tls, TlsError};

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The name of the listener.
    pub name: String,
    /// What it serves.
    pub protocol: Protocol,
    /// The address that is bound, with the real port.
    pub address: SocketAddr,
}

/// A listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Its address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// It cannot speak TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A listener that is asked for.
struct Wanted<'a> {
    name: &'static str,
    protocol: Protocol,
    security: Security,
    address: &'a HostPort,
    options: ListenerOptions,
}

/// A listener that is bound.
pub(super) struct Bound {
    pub(super) protocol: Protocol,
    pub(super) security: Security,
    pub(super) listener: Listener,
    /// What clients are told to connect to.
    pub(super) advertised: HostPort,
}

impl Bound {
    pub(super) fn name(&self) -> &str {
        self.listener.name()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    pub(super) fn listening(&self) -> Listening {
        Listening {
            name: self.name().to_owned(),
            protocol: self.protocol,
            address: self.address(),
        }
    }
}

/// Binds the listeners that are asked for, each with its name: for Kafka clients one for each security protocol, for
/// others one for each front end.
pub(super) async fn bind(config: &ServeConfig) -> Result<Vec<Bound>, ListenError> {
    let listen = &config.listen;
    let is_encrypted = listen.kafka.iter().any(|one| one.security.is_encrypted());
    let files = listen.tls_cert.as_ref().zip(listen.tls_key.as_ref());
    let tls = match files.filter(|_| is_encrypted) {
        Some((cert, key)) => Some(Arc::new(Tls::load(Path::new(cert), Path::new(key))?)),
        None => None,
    };
    let of_kafka = |security: Security| ListenerOptions {
        max_connections: as_usize(listen.max_connections),
        max_connections_per_ip: as_usize(listen.max_connections_per_ip),
        asks_login: security.asks_login(),
        max_known: 0,
    };
    let most = as_usize(listen.max_http_connections);
    let of_http = ListenerOptions {
        max_connections: most,
        // Nodes that connect from elsewhere find a place before they have shown that they are nodes.
        max_connections_per_ip: most.div_ceil(2),
        asks_login: false,
        max_known: as_usize(listen.max_peer_connections),
    };
    let kafka = listen.kafka.iter().map(|one| Wanted {
        name: one.security.listener(),
        protocol: Protocol::Kafka,
        security: one.security,
        address: &one.address,
        options: of_kafka(one.security),
    });
    let http = listen.http.address().map(|address| Wanted {
        name: "http",
        protocol: Protocol::Http,
        security: Security::Plaintext,
        address,
        options: of_http,
    });
    let mut bound = Vec::new();
    for wanted in kafka.chain(http) {
        let Wanted {
            name,
            protocol,
            security,
            address: asked,
            options,
        } = wanted;
        let listener = Listener::bind(name, &asked.to_string(), options).await?;
        let listener = listener.with_tls(tls.clone().filter(|_| security.is_encrypted()));
        let at = listener.local_addr();
        bound.push(Bound {
            protocol,
            security,
            listener,
            advertised: match &listen.advertise {
                Some(advertise) => advertise.endpoint_of(name, protocol, at),
                // As it was asked for, with the real port: a host name stays one.
                None => HostPort {
                    host: asked.host.clone(),
                    port: at.port(),
                },
            },
        });
    }
    Ok(bound)
}

/// What Kafka's settings say of the listeners: they have no words for those of other protocols.
pub(super) fn of_kafka(listeners: &[Bound]) -> Vec<broker::ListenerAddresses> {
    let kafka = listeners
        .iter()
        .filter(|one| one.protocol == Protocol::Kafka);
    let said = kafka.map(|one| broker::ListenerAddresses {
        name: one.security.name(),
        bound: one.address().into(),
        advertised: one.advertised.clone(),
    });
    said.collect()
}

/// Where other nodes reach this one: what is said for `http` by name, else the address that is listened on. What
/// clients are told may be a load balancer's, which leads to anybody.
pub(super) fn for_peers(config: &ServeConfig, bound: SocketAddr) -> HostPort {
    let advertise = config.listen.advertise.as_ref();
    let named = advertise.and_then(|advertise| advertise.own_endpoint(Protocol::Http, bound));
    named.unwrap_or_else(|| match own_address() {
        Some(own) if bound.ip().is_unspecified() => SocketAddr::new(own, bound.port()).into(),
        _ => bound.into(),
    })
}

/// The address of this machine on the way to others. Nothing is sent to find it out.
fn own_address() -> Option<IpAddr> {
    // An address that nobody has (RFC 5737).
    const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
