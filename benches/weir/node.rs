//! A node as a process of its own, so that its processor time and its memory are its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How often the kernel counts processor time, per second: 100 on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// A running node; killed when it is dropped, which loses nothing.
pub(crate) struct Node {
    child: Child,
    pub(crate) kafka: SocketAddr,
    http: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
        let log = fs::File::options().create(true).append(true).open(log)?;
        let free = "127.0.0.1:0";
        let mut child = Command::new(binary)
            .args(["serve", "--store", store, "--kafka", free, "--http", free])
            .args(["--commit-interval", "0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        let stdout = child.stdout.take().context("the node has no stdout")?;
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
            (Some(&kafka), Some(&http)) => Ok(Node { child, kafka, http }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("the node did not start; see its log")
            }
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

    /// Stops its process where it is, or lets it go on.
    pub(crate) fn pause(&self, pause: bool) -> Result<()> {
        use rustix::process::{Pid, Signal, kill_process};
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let signal = if pause { Signal::STOP } else { Signal::CONT };
        kill_process(id.context("a process without an id")?, signal)?;
        Ok(())
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

    /// The processor time that it has used, in seconds.
    pub(crate) fn processor_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program, in brackets, may contain anything.
        let (_, fields) = stat.rsplit_once(')').context("a strange /proc")?;
        let field = |at: usize| -> Result<f64> {
            let field = fields.split_whitespace().nth(at);
            Ok(field.context("a strange /proc")?.parse()?)
        };
        Ok((field(11)? + field(12)?) / TICKS)
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line
            .and_then(|line| line.split_whitespace().next())
            .context("a strange /proc")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}
