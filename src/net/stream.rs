//! A connection's bytes, however they come.
//!
//! Front ends are handed a [`Stream`] and do not know what is below it. Another way of carrying bytes, such as TLS, is
//! another variant here and nothing elsewhere.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// The bytes are on the socket as they are.
    Plain(TcpStream),
    /// They are encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The half of a connection that is read.
#[derive(Debug)]
pub enum StreamReader {
    /// The bytes are on the socket as they are.
    Plain(OwnedReadHalf),
    /// They are encrypted.
    Tls(ReadHalf<Box<TlsStream<TcpStream>>>),
}

/// The half of a connection that is written.
#[derive(Debug)]
pub enum StreamWriter {
    /// The bytes are on the socket as they are.
    Plain(OwnedWriteHalf),
    /// They are encrypted.
    Tls(WriteHalf<Box<TlsStream<TcpStream>>>),
}

impl Stream {
    /// The two halves, which different futures may use.
    pub fn into_split(self) -> (StreamReader, StreamWriter) {
        match self {
            Stream::Plain(socket) => {
                let (reader, writer) = socket.into_split();
                (StreamReader::Plain(reader), StreamWriter::Plain(writer))
            }
            Stream::Tls(stream) => {
                let (reader, writer) = tokio::io::split(stream);
                (StreamReader::Tls(reader), StreamWriter::Tls(writer))
            }
        }
    }
}

impl StreamWriter {
    /// Whether the peer has closed its side, though there may be bytes that have not been read.
    pub fn is_hung_up(&self) -> bool {
        let half = match self {
            StreamWriter::Plain(half) => half,
            // What comes behind the last byte is inside what is encrypted.
            StreamWriter::Tls(_) => return false,
        };
        let ready = half.as_ref().ready(Interest::READABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream::Plain(socket)
    }
}

/// Reads and writes of a type are those of what it holds.
macro_rules! pass_on {
    (read $type:ty) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_read(context, into),
                    Self::Tls(inner) => Pin::new(inner).poll_read(context, into),
                }
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
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_write(context, bytes),
                    Self::Tls(inner) => Pin::new(inner).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                pieces: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_write_vectored(context, pieces),
                    Self::Tls(inner) => Pin::new(inner).poll_write_vectored(context, pieces),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(inner) => inner.is_write_vectored(),
                    Self::Tls(inner) => inner.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_flush(context),
                    Self::Tls(inner) => Pin::new(inner).poll_flush(context),
                }
            }

            fn poll_shutdown(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(inner) => Pin::new(inner).poll_shutdown(context),
                    Self::Tls(inner) => Pin::new(inner).poll_shutdown(context),
                }
            }
        }
    };
}

pass_on!(read Stream);
pass_on!(write Stream);
pass_on!(read StreamReader);
pass_on!(write StreamWriter);
