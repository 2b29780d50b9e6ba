//! A proxy that holds every HTTP request back for a while, as a store that is far away does: once per
//! request, whatever its size.
//!
//! It reads the head of a request, waits, then passes the head and the body (whose length the head says) on.
//! Answers pass as they come. Connections are kept alive, and the time is not spent while a request waits behind
//! another on its connection: HTTP/1.1 clients send the next request after the answer.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// The longest head that is taken.
const MAX_HEAD: usize = 64 << 10;

/// Listens on a free port of the loopback, for as long as the runtime lives.
pub(crate) async fn listen(upstream: SocketAddr, delay: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                // What went wrong is seen by the client, whose connection ends.
                let _ = pass(client, upstream, delay).await;
            });
        }
    });
    Ok(address)
}

async fn pass(client: TcpStream, upstream: SocketAddr, delay: Duration) -> Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::select! {
        ended = requests(from_client, to_server, delay) => ended,
        ended = copy(&mut from_server, &mut to_client) => ended,
    }
}

async fn copy(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) -> Result<()> {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        let head = loop {
            if let Some(end) = find_end(&buffer) {
                break end;
            }
            if buffer.len() > MAX_HEAD {
                return Err(bad("a head of a request is too long"));
            }
            let read = from.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            buffer.extend_from_slice(&chunk[..read]);
        };
        let mut left = body_length(&buffer[..head])?;
        tokio::time::sleep(delay).await;
        let in_buffer = buffer.len().min(head + left);
        to.write_all(&buffer[..in_buffer]).await?;
        left -= in_buffer - head;
        buffer.drain(..in_buffer);
        while left > 0 {
            let most = left.min(chunk.len());
            let read = from.read(&mut chunk[..most]).await?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            to.write_all(&chunk[..read]).await?;
            left -= read;
        }
    }
}

/// Where the body begins.
fn find_end(buffer: &[u8]) -> Option<usize> {
    let at = buffer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(at + 4)
}

fn body_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head).map_err(|_| bad("a head is not text"))?;
    let mut length = 0;
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| bad("bad length"))?;
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("chunked requests are not known here"));
        }
    }
    Ok(length)
}

fn bad(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}
