//! Nodes that speak to each other, over HTTP: the asking side, and the words of both.
//!
//! * `POST /peer/carry`: a commit object that is [forwarded](Peers::forward), to be stored in the next object of the
//!   node asked. Answered with its seq when it is. Declined if it is of a log that the node does not serve.
//! * `GET /peer/log?after=SEQ&log=LOG`: the objects of that log after that seq, as soon as there are any. Without
//!   `log=` it is the first. A node that does not serve the log declines.
//!
//! Nothing depends on any of it ([`Peers`]): a node that cannot be reached is left alone for a while. So whether nodes
//! reach each other, through which network, and how fast, decides about latency and cost only.
//!
//! Who may ask: whoever reads the bucket, and so knows the key that the node registered for its incarnation. Each
//! question is [sealed](wire::Seal) with it, and so is each answer; the key itself is never sent. What is said is not
//! encrypted, as it is not on the way to the clients. An answer is bounded in bytes and in time.
//!
//! A question that is dropped takes its connection with it; what it asked for may be done all the same.

pub mod wire;

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::{Client, Method, RequestBuilder, StatusCode};

use crate::manifest::{Peer, PeerError, Peers};
use crate::types::{LogId, Seq};
use wire::{LogQuery, Seal};

/// For how long a peer may look for something new in the log before it says that there is nothing.
pub const NEWS_WITHIN: Duration = Duration::from_secs(5);

/// How long connecting to a node may take.
const CONNECT: Duration = Duration::from_millis(400);

/// How long an answer may take; callers have shorter timeouts of their own.
const ANSWER: Duration = Duration::from_secs(30);

/// The largest answer that is read: more than the largest object.
const MAX_BODY: usize = 64 << 20;

/// The way to other nodes' HTTP front ends.
#[derive(Clone, Debug)]
pub struct HttpPeers {
    client: Client,
}

impl HttpPeers {
    /// A way with connections of its own.
    ///
    /// # Errors
    ///
    /// The HTTP client's, if it cannot be made.
    pub fn new() -> Result<HttpPeers, reqwest::Error> {
        let client = Client::builder()
            // Nodes are near each other, whatever the way out is.
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(8)
            .build()?;
        Ok(HttpPeers { client })
    }

    async fn ask(&self, peer: &Peer, method: Method, path: &str, body: Bytes) -> Answer {
        let seal = Seal::question(&peer.key, &format!("{method} {path}"), &body);
        let url = format!("http://{}{path}", peer.address);
        let question = self.client.request(method, url).body(body);
        let question = question.header(wire::SEAL, seal.as_str());
        let (status, sealed, body) = answered(question).await?;
        if !Seal::answer(&peer.key, &seal, status.as_u16(), &body).is(&sealed) {
            let what = format!("{} answers {status} without its seal", peer.address);
            return Err(PeerError::Unreachable(what.into()));
        }
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(match wire::meaning(&body) {
                Some(declined) => PeerError::Declined(declined),
                None => PeerError::Unreachable(format!("{} answers {status}", peer.address).into()),
            }),
        }
    }
}

type Answer = Result<Bytes, PeerError>;

/// The status of the answer, its seal and its body.
async fn answered(question: RequestBuilder) -> Result<(StatusCode, Bytes, Bytes), PeerError> {
    let lost = |error: reqwest::Error| PeerError::Unreachable(error.to_string().into());
    let mut answer = question.send().await.map_err(lost)?;
    let seal = answer.headers().get(wire::SEAL);
    let seal = seal.map_or(Bytes::new(), |seal| Bytes::copy_from_slice(seal.as_bytes()));
    let mut body = BytesMut::new();
    while let Some(more) = answer.chunk().await.map_err(lost)? {
        if body.len() + more.len() > MAX_BODY {
            return Err(PeerError::Unreachable("an answer without an end".into()));
        }
        body.extend_from_slice(&more);
    }
    Ok((answer.status(), seal, body.freeze()))
}

#[async_trait]
impl Peers for HttpPeers {
    async fn forward(&self, peer: &Peer, commit: Bytes) -> Result<Seq, PeerError> {
        let body = self.ask(peer, Method::POST, wire::FORWARD, commit).await?;
        let seq = std::str::from_utf8(&body)
            .ok()
            .and_then(|seq| seq.parse().ok());
        let nonsense = || PeerError::Unreachable("an answer that is no seq".into());
        seq.map(Seq).ok_or_else(nonsense)
    }

    async fn log_after(
        &self,
        peer: &Peer,
        log: LogId,
        after: Seq,
    ) -> Result<Vec<(Seq, Bytes)>, PeerError> {
        let path = format!("{}?{}", wire::LOG, LogQuery { log, after });
        let body = self.ask(peer, Method::GET, &path, Bytes::new()).await?;
        let nonsense = || PeerError::Unreachable("an answer that is no log".into());
        wire::unframe(body).ok_or_else(nonsense)
    }
}
