//! A client's byte stream, with or without TLS.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How much is read at once of a stream without TLS, where it is read without a buffer of the reader's.
const READ: usize = 8 * 1024;

/// A client's byte stream. TLS is boxed: its state is more than a kilobyte, and it moves when the connection is upgraded.
#[derive(Debug)]
pub(super) enum ClientStream {
    /// As it comes.
    Plain(PlainStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<TcpStream> for ClientStream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(PlainStream { stream, unused: Bytes::new() })
    }
}

impl ClientStream {
    /// The client's own certificate, if TLS has asked for one and verified it. A copy: a connection that is upgraded
    /// leaves it behind.
    pub(super) fn certificate(&self) -> Option<CertificateDer<'static>> {
        let Self::Tls(stream) = self else { return None };
        stream.get_ref().1.peer_certificates()?.first().cloned()
    }
}

/// A TCP stream and what was read of it and is not yet used: nothing, nearly always.
#[derive(Debug)]
pub(super) struct PlainStream {
    stream: TcpStream,
    unused: Bytes,
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Self::Plain(PlainStream { stream, .. }) => {
                let $inner = Pin::new(stream);
                $call
            }
            Self::Tls(stream) => {
                let $inner = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Self::Plain(PlainStream { unused, .. }) = self.as_mut().get_mut()
            && !unused.is_empty()
        {
            let now = unused.len().min(buffer.remaining());
            buffer.put_slice(&unused.split_to(now));
            return Poll::Ready(Ok(()));
        }
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

/// TLS has what it decrypted in a buffer of its own; reading it there is one copy less. A stream without TLS has a buffer
/// only while something in it is not used.
impl AsyncBufRead for ClientStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        match self.get_mut() {
            Self::Plain(PlainStream { stream, unused }) => {
                if unused.is_empty() {
                    let mut read = [MaybeUninit::uninit(); READ];
                    let mut read = ReadBuf::uninit(&mut read);
                    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
                    *unused = Bytes::copy_from_slice(read.filled());
                }
                Poll::Ready(Ok(unused))
            }
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_fill_buf(cx),
        }
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        match self.get_mut() {
            Self::Plain(PlainStream { unused, .. }) => {
                unused.advance(amount.min(unused.len()));
                if unused.is_empty() {
                    *unused = Bytes::new();
                }
            }
            Self::Tls(stream) => Pin::new(stream.as_mut()).consume(amount),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(PlainStream { stream, .. }) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn without_tls_nothing_is_lost_or_kept_between_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut client, mut stream) = (client.unwrap(), ClientStream::from(accepted.unwrap().0));
        client.write_all(b"one two ").await.unwrap();
        assert_eq!(stream.fill_buf().await.unwrap(), b"one two ");
        stream.consume(4);
        assert_eq!(stream.fill_buf().await.unwrap(), b"two ");
        let mut two = [0; 2];
        stream.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"tw");
        stream.consume(2);
        client.write_all(b"three").await.unwrap();
        assert_eq!(stream.fill_buf().await.unwrap(), b"three");
        stream.consume(5);
        assert!(matches!(&stream, ClientStream::Plain(plain) if plain.unused.is_empty()));
        drop(client);
        assert_eq!(stream.fill_buf().await.unwrap(), b"");
    }
}
