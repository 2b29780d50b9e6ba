//! Who finds a place: other nodes, and everybody else.

mod catalog;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::DropGuard;

use super::*;
use crate::broker::Session;
use crate::env::Env;
use crate::net::{ListenerOptions, open_files};
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::peer::{HttpPeers, wire};
use crate::query::{QueryMetrics, QueryOptions};
use crate::store::{Store, StoreUrl};
use crate::types::PeerKey;

/// As a node has them by default.
const STRANGERS: usize = 64;
const FROM_ONE: usize = 32;

struct Front {
    node: Node,
    store: Store,
    address: std::net::SocketAddr,
    _stop: DropGuard,
}

async fn front(max_known: usize) -> Front {
    let mut options = NodeOptions::new(StoreUrl::memory(), Env::system());
    options.peers = Some(Arc::new(HttpPeers::new().unwrap()));
    let metrics = NodeMetrics::default();
    let store = Store::memory();
    let node = Node::start(store.clone(), options, &metrics).await;
    let node = node.unwrap();
    let options = ListenerOptions {
        max_connections: STRANGERS,
        max_connections_per_ip: FROM_ONE,
        asks_login: false,
        max_known,
    };
    let listener = Listener::bind("http", "127.0.0.1:0", options);
    let listener = listener.await.unwrap();
    let address = listener.local_addr();
    let stop = CancellationToken::new();
    let telemetry = Telemetry::new(Env::system().wall());
    let http = {
        let (options, metrics) = (QueryOptions::default(), QueryMetrics::default());
        let queries = Queries::new(node.broker().clone(), options, metrics).unwrap();
        HttpFrontEnd::new(node.broker().clone(), telemetry, queries)
    };
    tokio::spawn(http.serve(listener, stop.clone()));
    Front {
        node,
        store,
        address,
        _stop: stop.drop_guard(),
    }
}

/// Asks on a connection that stays open; the head of the answer, or `None` if the connection is closed.
async fn ask(stream: &mut TcpStream, path: &str, seal: &str) -> Option<String> {
    let seal = match seal {
        "" => String::new(),
        seal => format!("{}: {seal}\r\n", wire::SEAL),
    };
    let question = format!("GET {path} HTTP/1.1\r\nhost: node\r\n{seal}\r\n");
    stream.write_all(question.as_bytes()).await.ok()?;
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer));
    let len = read.await.expect("an answer").ok().filter(|len| *len > 0)?;
    Some(String::from_utf8_lossy(&answer[..len]).into_owned())
}

/// Asks as another node does, what is answered at once.
async fn ask_as_peer(stream: &mut TcpStream, key: &PeerKey) -> Option<String> {
    ask_for_log(stream, key, "after=nothing").await
}

async fn ask_for_log(stream: &mut TcpStream, key: &PeerKey, query: &str) -> Option<String> {
    let path = format!("{}?{query}", wire::LOG);
    let seal = wire::Seal::question(key, &format!("GET {path}"), b"");
    ask(stream, &path, seal.as_str()).await
}

#[tokio::test]
async fn a_node_tells_of_the_log_that_it_serves_and_declines_others() {
    let front = front(3).await;
    let broker = front.node.broker();
    broker
        .new_producer(&Session::internal("a test"))
        .await
        .unwrap();
    let key = broker.peer_key().unwrap().clone();
    let mut peer = TcpStream::connect(front.address).await.unwrap();
    // As a node of before asks, and as one that says which log.
    for query in ["after=0", "after=0&log=0"] {
        let told = ask_for_log(&mut peer, &key, query).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    }
    let told = ask_for_log(&mut peer, &key, "after=0&log=7").await.unwrap();
    assert!(told.contains("409") && told.contains("other-log"), "{told}");
}

#[tokio::test]
async fn three_hundred_nodes_find_places_beside_a_crowd_of_others() {
    open_files();
    let front = front(2048).await;
    let key = front.node.broker().peer_key().unwrap().clone();
    // Each of 299 nodes asks for the log, and forwards four commits.
    let mut peers = Vec::new();
    for number in 0..299 * 5 {
        let mut peer = TcpStream::connect(front.address).await.unwrap();
        let told = ask_as_peer(&mut peer, &key).await;
        let told = told.unwrap_or_else(|| panic!("connection {number} of nodes was closed"));
        assert!(told.contains("409") && told.contains("unfit"), "{told}");
        peers.push(peer);
    }
    // Nobody else is in their way, or they in somebody else's.
    let mut strangers = Vec::new();
    for _ in 0..FROM_ONE {
        let mut stranger = TcpStream::connect(front.address).await.unwrap();
        let told = ask(&mut stranger, "/healthz", "").await.unwrap();
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        strangers.push(stranger);
    }
    // A seal of another key makes nobody a node.
    let forged = ask_as_peer(&mut strangers[0], &PeerKey::new([1; 32])).await;
    assert!(forged.unwrap().starts_with("HTTP/1.1 401"));
    let mut more = TcpStream::connect(front.address).await.unwrap();
    assert_eq!(ask(&mut more, "/healthz", "").await, None);
    for peer in [0, 700, 1494] {
        assert!(ask_as_peer(&mut peers[peer], &key).await.is_some());
    }
}

#[tokio::test]
async fn there_are_only_so_many_connections_of_nodes() {
    let front = front(3).await;
    let key = front.node.broker().peer_key().unwrap().clone();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = TcpStream::connect(front.address).await.unwrap();
        let told = ask_as_peer(&mut peer, &key).await.unwrap();
        assert!(told.contains("unfit"), "{told}");
        peers.push(peer);
    }
    let mut peer = TcpStream::connect(front.address).await.unwrap();
    let told = ask_as_peer(&mut peer, &key).await.unwrap();
    assert!(
        told.contains("full") && told.contains("connection: close"),
        "{told}"
    );
    assert_eq!(ask_as_peer(&mut peer, &key).await, None);
}
