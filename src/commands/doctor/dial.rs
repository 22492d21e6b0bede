//! A connection to the target, for one probe.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::parse_x509_certificate;

use super::measured::Tls;
use super::target::Target;
use crate::commands::connect::transport::{Stream, TransportError, Trust, connector};

/// What connects.
pub(super) struct Dialer {
    pub(super) target: Target,
    /// Where to connect to in place of what the name says.
    address: Option<SocketAddr>,
    tls: Option<Connectors>,
}

struct Connectors {
    /// Offers HTTP/2 before HTTP/1.1, as browsers do.
    both: TlsConnector,
    /// Offers HTTP/1.1 alone.
    old: TlsConnector,
}

/// Which versions of HTTP are on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Both,
    Http1,
}

/// A connection, with what its handshake agreed on.
pub(super) struct Dialled {
    pub(super) stream: Box<dyn Stream>,
    pub(super) address: SocketAddr,
    /// The server has chosen HTTP/2.
    pub(super) is_http2: bool,
    pub(super) tls: Option<Tls>,
}

impl Dialer {
    pub(super) fn new(target: Target, address: Option<SocketAddr>, trust: &Trust<'_>) -> Result<Self, TransportError> {
        let tls = if target.tls {
            Some(Connectors { both: connector(trust, &[b"h2", b"http/1.1"])?, old: connector(trust, &[b"http/1.1"])? })
        } else {
            None
        };
        Ok(Self { target, address, tls })
    }

    pub(super) async fn dial(&self, offer: Offer) -> Result<Dialled, TransportError> {
        let (host, port) = (self.target.host.as_str(), self.target.port);
        let tcp = match self.address {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((host, port)).await,
        };
        let failed = |source| TransportError::Connect { host: host.to_owned(), port, source };
        let tcp = tcp.map_err(failed)?;
        let address = tcp.peer_addr().map_err(failed)?;
        // Pieces of an upload are small and their times count. A socket that refuses the option still works.
        let _ = tcp.set_nodelay(true);
        let Some(connectors) = &self.tls else {
            return Ok(Dialled { stream: Box::new(tcp), address, is_http2: false, tls: None });
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|source| TransportError::Name { host: host.to_owned(), source })?;
        let connector = if offer == Offer::Both { &connectors.both } else { &connectors.old };
        let stream = connector
            .connect(name, tcp)
            .await
            .map_err(|source| TransportError::Tls { host: host.to_owned(), source })?;
        let session = stream.get_ref().1;
        let is_http2 = session.alpn_protocol() == Some(b"h2");
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => format!("{other:?}"),
        };
        let tls = Tls { version, days_left: certificate.and_then(|certificate| days_left(certificate)) };
        Ok(Dialled { stream: Box::new(stream), address, is_http2, tls: Some(tls) })
    }
}

/// Whole days until a certificate ends.
fn days_left(certificate: &[u8]) -> Option<i64> {
    let ends = parse_x509_certificate(certificate).ok()?.1.validity().not_after.timestamp();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some((ends - i64::try_from(now).ok()?).div_euclid(24 * 60 * 60))
}
