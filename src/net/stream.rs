//! A connection's bytes, however they come.
//!
//! Front ends are handed a [`Stream`] and do not know what is below it. Another way of carrying bytes, such as TLS, is
//! another variant here and nothing elsewhere.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// The bytes are on the socket as they are.
    Plain(TcpStream),
}

/// The half of a connection that is read.
#[derive(Debug)]
pub enum StreamReader {
    /// The bytes are on the socket as they are.
    Plain(OwnedReadHalf),
}

/// The half of a connection that is written.
#[derive(Debug)]
pub enum StreamWriter {
    /// The bytes are on the socket as they are.
    Plain(OwnedWriteHalf),
}

impl Stream {
    /// The two halves, which different futures may use.
    pub fn into_split(self) -> (StreamReader, StreamWriter) {
        match self {
            Stream::Plain(socket) => {
                let (reader, writer) = socket.into_split();
                (StreamReader::Plain(reader), StreamWriter::Plain(writer))
            }
        }
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket),
        }
    }
}

impl StreamReader {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut OwnedReadHalf> {
        match self.get_mut() {
            StreamReader::Plain(half) => Pin::new(half),
        }
    }
}

impl StreamWriter {
    /// Whether the peer has closed its side, though there may be bytes that have not been read.
    pub fn is_hung_up(&self) -> bool {
        let StreamWriter::Plain(half) = self;
        let ready = half.as_ref().ready(Interest::READABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }

    fn inner(self: Pin<&mut Self>) -> Pin<&mut OwnedWriteHalf> {
        match self.get_mut() {
            StreamWriter::Plain(half) => Pin::new(half),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream::Plain(socket)
    }
}

/// Reads and writes of a type are those of its `inner`.
macro_rules! pass_on {
    (read $type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                self.inner().poll_read(context, into)
            }
        }
    };
    (write $type:ty) => {
        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.inner().poll_write(context, bytes)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                pieces: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.inner().poll_write_vectored(context, pieces)
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.inner().poll_flush(context)
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                self.inner().poll_shutdown(context)
            }
        }
    };
}

pass_on!(read Stream);
pass_on!(write Stream);
pass_on!(read StreamReader);
pass_on!(write StreamWriter);
