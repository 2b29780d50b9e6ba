//! A node as a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Process;

/// A running node; killed when it is dropped, which loses nothing.
pub(crate) struct Node {
    process: Process,
    pub(crate) kafka: SocketAddr,
    http: SocketAddr,
}

impl Deref for Node {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Node {
    /// Starts a node and waits until it is ready.
    pub(crate) fn start(binary: &Path, store: &str, log: &Path) -> Result<Node> {
        Node::start_with(binary, store, log, &[])
    }

    /// The same with more on its command line.
    pub(crate) fn start_with(
        binary: &Path,
        store: &str,
        log: &Path,
        more: &[&str],
    ) -> Result<Node> {
        Node::start_at_interval(binary, store, log, "0", more)
    }

    /// The same with a `commit_interval`.
    pub(crate) fn start_at_interval(
        binary: &Path,
        store: &str,
        log: &Path,
        interval: &str,
        more: &[&str],
    ) -> Result<Node> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        let free = "127.0.0.1:0";
        let mut command = Command::new(binary);
        command
            .args(["serve", "--store", store, "--kafka", free, "--http", free])
            .args(["--commit-interval", interval])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut process = Process::spawn(&mut command)?;
        let stdout = process.stdout().context("the node has no stdout")?;
        let mut listening = BTreeMap::new();
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if line == "ready" {
                break;
            }
            if let Some((protocol, address)) = line.split_once(" listening on ") {
                listening.insert(protocol.to_owned(), address.parse()?);
            }
        }
        match (listening.get("kafka"), listening.get("http")) {
            (Some(&kafka), Some(&http)) => Ok(Node {
                process,
                kafka,
                http,
            }),
            _ => bail!("the node did not start; see its log"),
        }
    }

    async fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.http).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(page)
    }

    /// One of its metrics, named as in the text: with its labels, if it has any.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let page = self.metrics().await?;
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .with_context(|| format!("the node has no metric {name}"))?;
        Ok(value.trim().parse()?)
    }

    /// How many requests it has made to the store, by kind.
    pub(crate) async fn requests(&self) -> Result<BTreeMap<String, f64>> {
        let page = self.metrics().await?;
        let mut requests = BTreeMap::new();
        for line in page.lines() {
            let Some(labels) = line.strip_prefix("weir_store_requests_total{") else {
                continue;
            };
            let (labels, value) = labels.split_once("} ").context("a strange metric")?;
            let kind = labels
                .split(',')
                .find_map(|label| label.strip_prefix("kind=\""))
                .context("a request without a kind")?;
            let kind = kind.trim_end_matches('"').to_owned();
            *requests.entry(kind).or_insert(0.0) += value.trim().parse::<f64>()?;
        }
        if requests.is_empty() {
            bail!("the node shows no store requests");
        }
        Ok(requests)
    }

    /// How many requests have read what consumers get. What starting reads is among them.
    pub(crate) async fn gets(&self) -> Result<f64> {
        let requests = self.requests().await?;
        let of = |kind: &str| requests.get(kind).copied().unwrap_or(0.0);
        Ok(of("segment_get") + of("commit_get"))
    }
}
