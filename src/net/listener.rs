//! Accepting connections.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{RateLimitedLog, Stream, Tls};

const BACKLOG: u32 = 1024;
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ListenerOptions {
    /// The most at one time (Kafka's `max.connections`).
    pub max_connections: usize,
    /// The most at one time from one address (Kafka's `max.connections.per.ip`).
    pub max_connections_per_ip: usize,
    /// Whether clients have to log in before anything else.
    pub asks_login: bool,
    /// The most at one time that have shown who they are ([`Slot::become_known`]). They count towards neither of the
    /// above.
    pub max_known: usize,
}

impl Default for ListenerOptions {
    /// 10,000 and no separate bound per address, as clients may all come through one load balancer.
    fn default() -> ListenerOptions {
        ListenerOptions {
            max_connections: 10_000,
            max_connections_per_ip: 10_000,
            asks_login: false,
            max_known: 0,
        }
    }
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: String,
    source: io::Error,
}

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The node has `max_connections`.
    Node,
    /// The remote's address has `max_connections_per_ip`.
    Address,
}

/// Something to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerEvent {
    /// A connection begins.
    Opened,
    /// It has ended.
    Closed,
    /// It was closed at once.
    Rejected(Rejection),
}

/// How the connections ended when the listener was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// How many had not ended within the drain time and were dropped.
    pub dropped: usize,
}

/// What serves the connections of listeners: of one or of several, which share what it has.
pub trait FrontEnd: Send + Sync {
    /// Serves the listener's connections until `shutdown`, then gives them some time to end.
    fn serve(&self, listener: Listener, shutdown: CancellationToken)
    -> BoxFuture<'static, Closing>;
}

/// A bound socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    socket: TcpListener,
    address: SocketAddr,
    options: ListenerOptions,
    tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Binds `address` (`host:port`; port 0 takes a free one). The name tells the node's listeners apart.
    pub async fn bind(
        name: &str,
        address: &str,
        options: ListenerOptions,
    ) -> Result<Listener, BindError> {
        let wrap = |source| BindError {
            address: address.to_owned(),
            source,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in tokio::net::lookup_host(address).await.map_err(wrap)? {
            match bind_one(candidate) {
                Ok((socket, address)) => {
                    return Ok(Listener {
                        name: name.into(),
                        socket,
                        address,
                        options,
                        tls: None,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(wrap(last))
    }

    /// The same, speaking TLS if there is a certificate for it.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Tls>>) -> Listener {
        Listener { tls, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether clients have to log in before anything else.
    pub fn asks_login(&self) -> bool {
        self.options.asks_login
    }

    /// The address that was bound, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections and runs `handle` for each until `shutdown`; then closes the socket and gives the
    /// connections, which hold a clone of the token, `drain` to end. `observe` is told of each event.
    pub async fn serve<H, F>(
        self,
        shutdown: CancellationToken,
        drain: Duration,
        observe: impl Fn(ListenerEvent) + Send + Sync + 'static,
        handle: H,
    ) -> Closing
    where
        H: Fn(Stream, SocketAddr) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = move |stream, remote, _: Arc<Slot>| handle(stream, remote);
        self.serve_in_places(shutdown, drain, observe, handle).await
    }

    /// The same for a `handle` that may find out who is there.
    pub async fn serve_in_places<H, F>(
        self,
        shutdown: CancellationToken,
        drain: Duration,
        observe: impl Fn(ListenerEvent) + Send + Sync + 'static,
        handle: H,
    ) -> Closing
    where
        H: Fn(Stream, SocketAddr, Arc<Slot>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Listener {
            name,
            socket,
            options,
            tls,
            ..
        } = self;
        let handle = Arc::new(handle);
        let census = Arc::new(Census {
            observe: Box::new(observe),
            options,
            counts: Mutex::default(),
        });
        let mut connections = JoinSet::new();
        let mut refused = RateLimitedLog::default();
        let mut failed = RateLimitedLog::default();
        let mut backoff = ACCEPT_BACKOFF.0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    report(ended);
                    continue;
                }
                accepted = socket.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a connection that was gone before it was taken. Neither ends the listener.
                    if let Some(more) = failed.pass() {
                        tracing::warn!(listener = &*name, %error, more, "cannot accept a connection; trying again");
                    }
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = tokio::time::sleep(backoff) => {}
                    }
                    backoff = (backoff * 2).min(ACCEPT_BACKOFF.1);
                    continue;
                }
            };
            backoff = ACCEPT_BACKOFF.0;
            match Census::admit(&census, remote.ip()) {
                Ok(slot) => {
                    tune(&stream);
                    let slot = Arc::new(slot);
                    let (tls, handle) = (tls.clone(), Arc::clone(&handle));
                    connections.spawn(async move {
                        let stream = match tls {
                            None => stream.into(),
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => Stream::Tls(Box::new(stream)),
                                Err(error) => {
                                    tracing::debug!(%remote, %error, "a TLS handshake failed");
                                    return;
                                }
                            },
                        };
                        let _slot = Arc::clone(&slot);
                        handle(stream, remote, slot).await;
                    });
                }
                Err(why) => {
                    drop(stream);
                    (census.observe)(ListenerEvent::Rejected(why));
                    if let Some(more) = refused.pass() {
                        tracing::warn!(listener = &*name, %remote, ?why, more, "too many connections; closed one");
                    }
                }
            }
        }
        drop(socket);
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        let _ = tokio::time::timeout(drain, drained).await;
        let dropped = connections.len();
        connections.shutdown().await;
        Closing { dropped }
    }
}

fn bind_one(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A node that restarts may bind while its old connections are in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Small answers go at once, and a client that is gone is noticed. A socket that refuses an option still
/// works.
fn tune(stream: &TcpStream) {
    let tuned = stream.set_nodelay(true).and_then(|()| {
        SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))
    });
    if let Err(error) = tuned {
        tracing::debug!(%error, "a socket option was refused");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; the node goes on");
    }
}

/// Who is connected.
struct Census {
    observe: Box<dyn Fn(ListenerEvent) + Send + Sync>,
    options: ListenerOptions,
    counts: Mutex<Counts>,
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().fmt(f)
    }
}

#[derive(Debug, Default)]
struct Counts {
    known: usize,
    /// Those who are not known, and how many of them each address has.
    others: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Counts {
    fn forget(&mut self, address: IpAddr) {
        self.others -= 1;
        if let Some(here) = self.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Census {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing in a critical section panics half-way through a change.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(census: &Arc<Census>, address: IpAddr) -> Result<Slot, Rejection> {
        let options = &census.options;
        {
            let mut counts = census.counts();
            if counts.others >= options.max_connections {
                return Err(Rejection::Node);
            }
            let here = counts.by_address.get(&address).copied().unwrap_or(0);
            if here >= options.max_connections_per_ip {
                return Err(Rejection::Address);
            }
            counts.by_address.insert(address, here + 1);
            counts.others += 1;
        }
        (census.observe)(ListenerEvent::Opened);
        Ok(Slot {
            census: Arc::clone(census),
            address,
            is_known: AtomicBool::new(false),
        })
    }
}

/// The slot of a connection, given back when it ends, however it ends.
#[derive(Debug)]
pub struct Slot {
    census: Arc<Census>,
    address: IpAddr,
    /// Changed while the counts are held.
    is_known: AtomicBool,
}

impl Slot {
    /// Who is connected has shown who it is: from now on the connection counts as one of the known, and its slot is
    /// free for somebody else. False if there are as many known as there may be; then it stays where it was.
    pub fn become_known(&self) -> bool {
        let mut counts = self.census.counts();
        if self.is_known.load(Ordering::Relaxed) {
            return true;
        }
        if counts.known >= self.census.options.max_known {
            return false;
        }
        counts.known += 1;
        counts.forget(self.address);
        self.is_known.store(true, Ordering::Relaxed);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut counts = self.census.counts();
            match self.is_known.load(Ordering::Relaxed) {
                true => counts.known -= 1,
                false => counts.forget(self.address),
            }
        }
        (self.census.observe)(ListenerEvent::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn listener(max_connections: usize, max_connections_per_ip: usize) -> Listener {
        let options = ListenerOptions {
            max_connections,
            max_connections_per_ip,
            asks_login: false,
            max_known: 2,
        };
        Listener::bind("test", "127.0.0.1:0", options)
            .await
            .unwrap()
    }

    /// Answers `!` to each connection and keeps it until it ends.
    async fn greet(mut stream: Stream) {
        let _ = stream.write_all(b"!").await;
        let _ = stream.read_u8().await;
    }

    async fn is_greeted(stream: &mut TcpStream) -> bool {
        stream.read_u8().await.is_ok()
    }

    #[tokio::test]
    async fn connections_over_a_limit_are_closed_and_the_place_is_free_again_afterwards() {
        for (of_node, of_address) in [(1, 9), (9, 1)] {
            let listener = listener(of_node, of_address).await;
            let address = listener.local_addr();
            let open = Arc::new(AtomicI64::new(0));
            let counted = open.clone();
            let stop = CancellationToken::new();
            let server = tokio::spawn(listener.serve(
                stop.clone(),
                Duration::from_millis(50),
                move |event| {
                    counted.fetch_add(
                        match event {
                            ListenerEvent::Opened => 1,
                            ListenerEvent::Closed => -1,
                            ListenerEvent::Rejected(_) => 1000,
                        },
                        Ordering::SeqCst,
                    );
                },
                |stream, _| greet(stream),
            ));
            let mut first = TcpStream::connect(address).await.unwrap();
            assert!(is_greeted(&mut first).await);
            let mut second = TcpStream::connect(address).await.unwrap();
            assert!(!is_greeted(&mut second).await);
            assert_eq!(open.load(Ordering::SeqCst), 1001);
            drop(first);
            let mut greeted = false;
            for _ in 0..200 {
                let mut third = TcpStream::connect(address).await.unwrap();
                if is_greeted(&mut third).await {
                    greeted = true;
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(greeted);
            stop.cancel();
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn stopping_waits_for_connections_up_to_the_drain_time() {
        let listener = listener(9, 9).await;
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        let server = tokio::spawn(listener.serve(
            stop.clone(),
            Duration::from_millis(50),
            |_| {},
            |stream, _| greet(stream),
        ));
        let mut stays = TcpStream::connect(address).await.unwrap();
        assert!(is_greeted(&mut stays).await);
        stop.cancel();
        assert_eq!(server.await.unwrap(), Closing { dropped: 1 });
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_panics_does_not_take_the_listener_with_it() {
        let listener = listener(9, 9).await;
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let server = tokio::spawn(listener.serve(
            stop.clone(),
            Duration::from_millis(50),
            |_| {},
            move |stream, _| {
                let panics = first.swap(false, Ordering::SeqCst);
                async move {
                    assert!(!panics, "a panic on purpose");
                    greet(stream).await;
                }
            },
        ));
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(!is_greeted(&mut first).await);
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(is_greeted(&mut second).await);
        stop.cancel();
        server.await.unwrap();
    }
    #[tokio::test]
    async fn who_is_known_leaves_its_place_to_others_and_there_are_only_so_many_of_them() {
        let listener = listener(1, 1).await;
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        // Who says 1 is known, if there is space for it: the answer says so.
        let handle = |mut stream: Stream, _, slot: Arc<Slot>| async move {
            while let Ok(said) = stream.read_u8().await {
                let known = said == 1 && slot.become_known();
                let _ = stream.write_u8(known.into()).await;
            }
        };
        let drain = Duration::from_millis(50);
        let server = tokio::spawn(listener.serve_in_places(stop.clone(), drain, |_| {}, handle));
        let say = async |stream: &mut TcpStream, what: u8| {
            stream.write_u8(what).await.ok()?;
            stream.read_u8().await.ok()
        };
        let mut known = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            assert_eq!(say(&mut stream, 1).await, Some(1));
            assert_eq!(say(&mut stream, 1).await, Some(1), "it is known once");
            known.push(stream);
        }
        // The one slot for strangers is free, and there is no space for a third who is known.
        let mut stranger = TcpStream::connect(address).await.unwrap();
        assert_eq!(say(&mut stranger, 0).await, Some(0));
        assert_eq!(say(&mut stranger, 1).await, Some(0));
        let mut another = TcpStream::connect(address).await.unwrap();
        assert_eq!(say(&mut another, 1).await, None);
        // A known one goes, and the stranger becomes known.
        known.pop();
        let mut said = Some(0);
        for _ in 0..200 {
            said = say(&mut stranger, 1).await;
            if said == Some(1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(said, Some(1));
        stop.cancel();
        server.await.unwrap();
    }
}
