//! Clients that cost little themselves: after the handshake they write prepared frames and count marks in what they read.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Stands once in every message and event, and nowhere else: not in headers, and not in the lengths of frames that are
/// sent here.
pub(crate) const MARK: u8 = b'#';

/// Nothing takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What clients connect to.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    classic: Arc<ClientConfig>,
    hybrid: Arc<ClientConfig>,
}

/// How keys are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// X25519, which every peer speaks.
    Classic,
    /// X25519 with ML-KEM-768, which current browsers ask for.
    Hybrid,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, certificate: &Path) -> Self {
        let config = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
            let provider =
                rustls::crypto::CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
            let config = ClientConfig::builder_with_provider(Arc::new(provider));
            let mut config = config
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.resumption = Resumption::disabled();
            Arc::new(config)
        };
        let classic = config(&[aws_lc_rs::kx_group::X25519]);
        Self { address, classic, hybrid: config(&[aws_lc_rs::kx_group::X25519MLKEM768]) }
    }

    pub(crate) async fn connect(&self, key_exchange: KeyExchange) -> Client {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let config = if key_exchange == KeyExchange::Hybrid { &self.hybrid } else { &self.classic };
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(config.clone()).connect(name, stream).await.unwrap()
        };
        let stream = timeout(PATIENCE, connecting).await.expect("a TLS handshake in time");
        Client { stream, buffer: Vec::new() }
    }

    /// A WebSocket on `/chat` with this query.
    pub(crate) async fn websocket(&self, query: &str) -> Client {
        self.websocket_by(&format!("/chat?{query}"), KeyExchange::Classic).await
    }

    pub(crate) async fn websocket_by(&self, target: &str, key_exchange: KeyExchange) -> Client {
        let mut client = self.connect(key_exchange).await;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.send(request.as_bytes()).await;
        assert!(client.head().await.starts_with(b"HTTP/1.1 101 "), "no WebSocket");
        client
    }
}

/// One TLS connection, and what was read of it and not used yet.
pub(crate) struct Client {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("an open connection");
        self.stream.flush().await.expect("an open connection");
    }

    /// The head of an answer.
    pub(crate) async fn head(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return self.buffer.drain(..end + 4).collect();
            }
            assert!(self.read().await, "the connection ended in a head");
        }
    }

    /// Waits for marks, and takes everything that was read.
    pub(crate) async fn marks(&mut self) -> u64 {
        loop {
            let marks = memchr::memchr_iter(MARK, &self.buffer).count() as u64;
            self.buffer.clear();
            if marks > 0 {
                return marks;
            }
            assert!(self.read().await, "the connection ended");
        }
    }

    /// Ends it as a WebSocket client should.
    pub(crate) async fn close(mut self) {
        self.send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await;
        let end = async { while self.read().await {} };
        timeout(PATIENCE, end).await.expect("an end in time");
    }

    /// Reads something; false at the end.
    async fn read(&mut self) -> bool {
        // Kept by idle clients too, so not large.
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(4 * 1024);
        }
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(read) if read > 0)
    }
}

/// A masked text message of this size (RFC 6455 section 5.2). The mask is zero: a server has to apply it all the same.
pub(crate) fn message(size: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match size {
        0..126 => frame.push(0x80 | size as u8),
        126..0x1_0000 => {
            frame.push(0x80 | 0x7e);
            frame.extend((size as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 0x7f);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.resize(frame.len() + size - 1, b'x');
    frame.push(MARK);
    frame
}

/// A POST with a body of this size.
pub(crate) fn post(size: usize) -> Vec<u8> {
    let head = format!(
        "POST /messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n\r\n"
    );
    [head.as_bytes(), &vec![b'x'; size]].concat()
}
