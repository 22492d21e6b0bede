//! A client's byte stream, with or without TLS.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes};
use hyper::upgrade::Upgraded;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::stream_http2::Http2Stream;
use super::{socket, tls};

/// How much is read at once of a stream without TLS, where it is read without a buffer of the reader's.
const READ: usize = 8 * 1024;

/// A client's byte stream. TLS is boxed: its state is more than a kilobyte, and it moves when the connection is upgraded.
#[derive(Debug)]
pub(super) enum ClientStream {
    /// As it comes.
    Plain(Buffered<TcpStream>),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// One stream of an HTTP/2 connection.
    Http2(Box<Buffered<Http2Stream>>),
}

impl From<TcpStream> for ClientStream {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(Buffered::from(stream))
    }
}

impl From<Upgraded> for ClientStream {
    fn from(upgraded: Upgraded) -> Self {
        Self::Http2(Box::new(Buffered::from(Http2Stream::from(upgraded))))
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

impl ClientStream {
    /// The socket; `None` for a stream among others on one.
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(Buffered { stream, .. }) => Some(stream),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Http2(_) => None,
        }
    }

    /// Bytes that the system holds because the client has not acknowledged them; `None` where it does not say.
    pub(super) fn unacknowledged(&self) -> Option<u32> {
        self.socket().and_then(socket::unacknowledged)
    }

    /// Has what the client did not take thrown away with the stream, which it sees as a reset. A failure leaves that to the
    /// system, which tries for some minutes.
    pub(super) fn reset_when_dropped(&self) {
        let _ = self.socket().map(TcpStream::set_zero_linger);
    }
}

/// What is known of how a connection came about, before anything of it is HTTP.
impl ClientStream {
    /// Whether TLS has agreed on HTTP/2.
    pub(super) fn chose_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2))
    }

    /// The name that TLS was asked for.
    pub(super) fn server_name(&self) -> Option<String> {
        let Self::Tls(stream) = self else { return None };
        stream.get_ref().1.server_name().map(str::to_ascii_lowercase)
    }

    /// Whether a stream without TLS begins with HTTP/2 (RFC 9113 section 3.4): `PRI` is a method that nobody else may have.
    /// What it has read for that is read again.
    pub(super) async fn begins_with_http2(&mut self) -> io::Result<bool> {
        const BEGINNING: &[u8] = b"PRI ";
        let Self::Plain(Buffered { stream, unused }) = self else { return Ok(false) };
        let mut read = Vec::new();
        loop {
            let sound = read.iter().zip(BEGINNING).all(|(read, expected)| read == expected);
            if !sound || read.len() >= BEGINNING.len() {
                *unused = read.into();
                return Ok(sound);
            }
            if stream.read_buf(&mut (&mut read).limit(BEGINNING.len())).await? == 0 {
                *unused = read.into();
                return Ok(false);
            }
        }
    }
}

/// A stream and what was read of it and is not yet used: nothing, nearly always.
#[derive(Debug)]
pub(super) struct Buffered<S> {
    stream: S,
    unused: Bytes,
}

impl<S> From<S> for Buffered<S> {
    fn from(stream: S) -> Self {
        Self { stream, unused: Bytes::new() }
    }
}

impl<S: AsyncRead + Unpin> Buffered<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unused.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let now = self.unused.len().min(buffer.remaining());
        buffer.put_slice(&self.unused.split_to(now));
        Poll::Ready(Ok(()))
    }

    fn poll_fill_buf(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.unused.is_empty() {
            let mut read = [MaybeUninit::uninit(); READ];
            let mut read = ReadBuf::uninit(&mut read);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.unused = Bytes::copy_from_slice(read.filled());
        }
        Poll::Ready(Ok(&self.unused))
    }

    fn consume(&mut self, amount: usize) {
        self.unused.advance(amount.min(self.unused.len()));
        if self.unused.is_empty() {
            self.unused = Bytes::new();
        }
    }
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Self::Plain(Buffered { stream, .. }) => {
                let $inner = Pin::new(stream);
                $call
            }
            Self::Tls(stream) => {
                let $inner = Pin::new(stream.as_mut());
                $call
            }
            Self::Http2(stream) => {
                let $inner = Pin::new(&mut stream.stream);
                $call
            }
        }
    };
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => stream.poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Http2(stream) => stream.poll_read(cx, buffer),
        }
    }
}

/// TLS has what it decrypted in a buffer of its own; reading it there is one copy less. The others have a buffer only while
/// something in it is not used.
impl AsyncBufRead for ClientStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        match self.get_mut() {
            Self::Plain(stream) => stream.poll_fill_buf(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_fill_buf(cx),
            Self::Http2(stream) => stream.poll_fill_buf(cx),
        }
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        match self.get_mut() {
            Self::Plain(stream) => stream.consume(amount),
            Self::Tls(stream) => Pin::new(stream.as_mut()).consume(amount),
            Self::Http2(stream) => stream.consume(amount),
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
            Self::Plain(Buffered { stream, .. }) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Http2(stream) => stream.stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, HandshakeKind, RootCertStore, version};
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    #[tokio::test]
    async fn a_session_that_is_resumed_has_its_client_certificate_still() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = || PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let roots = Arc::new(roots);
        let own = rustls::sign::CertifiedKey::from_der(vec![cert.der().clone()], key(), &provider).unwrap();
        let clients = tls::client_verifier(roots.clone(), Vec::new(), false).unwrap();
        let acceptor = TlsAcceptor::from(tls::server_config(vec![Arc::new(own)], Some(clients), false).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for version in [&version::TLS12, &version::TLS13] {
            let config = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]);
            let config = config.unwrap().with_root_certificates(roots.clone());
            let connector =
                TlsConnector::from(Arc::new(config.with_client_auth_cert(vec![cert.der().clone()], key()).unwrap()));
            for resumed in [false, true] {
                let client = async {
                    let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
                    // What is needed to resume comes with or before the first bytes.
                    assert_eq!(stream.read_u8().await.unwrap(), 1);
                };
                let server = async {
                    let mut tls = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
                    tls.write_all(&[1]).await.unwrap();
                    let kind = tls.get_ref().1.handshake_kind();
                    assert_eq!(kind == Some(HandshakeKind::Resumed), resumed, "{version:?} {kind:?}");
                    ClientStream::Tls(Box::new(tls)).certificate()
                };
                let ((), certificate) = tokio::join!(client, server);
                assert_eq!(certificate.as_ref(), Some(cert.der()), "{version:?}");
            }
        }
    }

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
