//! The types of settings that are not numbers, sizes or durations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::{Security, Value};

/// A host (a name or an address) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A host name or an address, without brackets.
    pub host: String,
    /// A port; 0 asks the system for a free one when listening.
    pub port: u16,
}

impl HostPort {
    /// Whether it stands for all addresses of the machine (`0.0.0.0`, `[::]`), which nobody can
    /// connect to.
    pub fn is_unspecified(&self) -> bool {
        self.host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_unspecified())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> HostPort {
        HostPort {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

const HOST_RULE: &str = "a host is a name or an address (an IPv6 address in brackets)";

/// Reads `HOST` or `HOST:PORT`.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("a ']' is missing")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(HOST_RULE.to_owned());
            }
            match rest {
                "" => (host, None),
                _ => (
                    host,
                    Some(rest.strip_prefix(':').ok_or("a ':' is missing after ']'")?),
                ),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(plain) {
        return Err(HOST_RULE.to_owned());
    }
    let port = match port {
        None => None,
        Some(port) => Some(
            port.parse::<u16>()
                .map_err(|_| format!("'{port}' is not a port from 0 to 65535"))?,
        ),
    };
    Ok((host.to_owned(), port))
}

/// Where a front end listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Nowhere.
    Off,
    /// There.
    At(HostPort),
}

impl ListenAddress {
    /// The address, unless it is off.
    pub fn address(&self) -> Option<&HostPort> {
        match self {
            ListenAddress::Off => None,
            ListenAddress::At(address) => Some(address),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Off => f.write_str("off"),
            ListenAddress::At(address) => address.fmt(f),
        }
    }
}

impl Value for ListenAddress {
    const KIND: &'static str = "HOST:PORT|off";

    fn read(text: &str) -> Result<ListenAddress, String> {
        if text == "off" {
            return Ok(ListenAddress::Off);
        }
        let rule = "write HOST:PORT, for example 127.0.0.1:9092, or off";
        match host_and_port(text).map_err(|reason| format!("{reason}; {rule}"))? {
            (host, Some(port)) => Ok(ListenAddress::At(HostPort { host, port })),
            (_, None) => Err(format!("the port is missing; {rule}")),
        }
    }
}

/// The front ends that clients of the outside connect to and whose address they must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Kafka's protocol.
    Kafka,
    /// AMQP 0-9-1.
    Amqp,
    /// HTTP.
    Http,
}

impl Protocol {
    /// Every front end.
    pub const ALL: [Protocol; 3] = [Protocol::Kafka, Protocol::Amqp, Protocol::Http];

    /// Its name: also the key of its endpoint in a node's registration.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Kafka => "kafka",
            Protocol::Amqp => "amqp",
            Protocol::Http => "http",
        }
    }
}

/// The addresses that clients are told, written as `HOST[:PORT]` for all front ends or
/// `kafka=HOST[:PORT],http=HOST[:PORT]` for some. A port that is not given is the one the front end is
/// bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertise {
    all: Option<(String, Option<u16>)>,
    /// By the names of listeners.
    each: BTreeMap<&'static str, (String, Option<u16>)>,
}

impl Advertise {
    /// Whether an address is given for `protocol`.
    pub fn names(&self, protocol: Protocol) -> bool {
        self.all.is_some() || self.names_listener(protocol.name())
    }

    /// Whether an address is given for the listener of this name.
    pub fn names_listener(&self, listener: &str) -> bool {
        self.each.contains_key(listener)
    }

    /// What clients of a further listener of `protocol` are told: what is said for it by name, or the host that is said
    /// for the front end, with the port that is listened on.
    pub fn endpoint_of(&self, listener: &str, protocol: Protocol, bound: SocketAddr) -> HostPort {
        if listener == protocol.name() {
            return self.endpoint(protocol, bound);
        }
        let of_protocol = self.each.get(protocol.name()).or(self.all.as_ref());
        match (self.each.get(listener), of_protocol) {
            (Some(named), _) => at(named, bound),
            (None, Some((host, _))) => at(&(host.clone(), None), bound),
            (None, None) => bound.into(),
        }
    }

    /// What clients of `protocol` are told, where it is bound to `bound` (with its real port).
    pub fn endpoint(&self, protocol: Protocol, bound: SocketAddr) -> HostPort {
        match (self.own_endpoint(protocol, bound), &self.all) {
            (Some(own), _) => own,
            (None, Some(all)) => at(all, bound),
            (None, None) => bound.into(),
        }
    }

    /// The same if it is said for this front end by name, and not for all of them.
    pub fn own_endpoint(&self, protocol: Protocol, bound: SocketAddr) -> Option<HostPort> {
        self.each.get(protocol.name()).map(|named| at(named, bound))
    }
}

/// The address that is told, with the port that is listened on if it names none.
fn at((host, port): &(String, Option<u16>), bound: SocketAddr) -> HostPort {
    HostPort {
        host: host.clone(),
        port: port.unwrap_or(bound.port()),
    }
}

impl Value for Advertise {
    const KIND: &'static str = "HOST[:PORT]";

    fn read(text: &str) -> Result<Advertise, String> {
        let mut advertise = Advertise::default();
        for part in text.split(',').map(str::trim) {
            let (listener, address) = match part.split_once('=') {
                None => (None, part),
                Some((name, address)) => {
                    let protocols = Protocol::ALL.map(Protocol::name);
                    let listeners = Security::ALL.map(Security::listener);
                    let mut names = protocols.into_iter().chain(listeners);
                    let known = names.find(|known| *known == name.trim()).ok_or_else(|| {
                        format!(
                            "'{name}' is not a front end; they are kafka, amqp and http, and kafka-sasl, kafka-ssl and \
                             kafka-sasl-ssl are listeners of Kafka clients"
                        )
                    })?;
                    (Some(known), address.trim())
                }
            };
            let rule = "write HOST, HOST:PORT or kafka=HOST:PORT,http=HOST:PORT";
            let (host, port) =
                host_and_port(address).map_err(|reason| format!("{reason}; {rule}"))?;
            let given = HostPort {
                host,
                port: port.unwrap_or(1),
            };
            if given.is_unspecified() || given.port == 0 {
                return Err(format!("clients cannot connect to '{address}'; {rule}"));
            }
            let entry = (given.host, port);
            let before = match listener {
                None => advertise.all.replace(entry),
                Some(listener) => advertise.each.insert(listener, entry),
            };
            if before.is_some() {
                return Err(format!("it names two addresses for one front end; {rule}"));
            }
        }
        Ok(advertise)
    }
}

/// How engines come to the files of tables that the catalog shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogAccess {
    /// There is no catalog.
    Off,
    /// With rights to the store that they have themselves.
    None,
    /// With rights to the store that it gives for a while, for the files of one table.
    Sts,
    /// By way of the node, which serves them itself.
    Proxy,
}

impl Value for CatalogAccess {
    const KIND: &'static str = "off|none|sts|proxy";

    fn read(text: &str) -> Result<CatalogAccess, String> {
        match text {
            "off" => Ok(CatalogAccess::Off),
            "none" => Ok(CatalogAccess::None),
            "sts" => Ok(CatalogAccess::Sts),
            "proxy" => Ok(CatalogAccess::Proxy),
            _ => Err("it must be off, none, sts or proxy".to_owned()),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Value for LogFormat {
    const KIND: &'static str = "text|json";

    fn read(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("it must be text or json".to_owned()),
        }
    }
}
