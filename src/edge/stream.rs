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
    /// The name that the client has asked TLS for, if it has (RFC 6066 section 3).
    pub(super) fn server_name(&self) -> Option<&str> {
        let Self::Tls(stream) = self else { return None };
        stream.get_ref().1.server_name()
    }

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
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, HandshakeKind, RootCertStore, version};
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::edge::tls;

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
        let acceptor = TlsAcceptor::from(tls::server_config(vec![Arc::new(own)], Some(clients)).unwrap());
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
