//! The connection below the WebSocket: TCP, and TLS when the URL asks for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Target;

/// As browsers do for wss: a server that also speaks HTTP/2 must not choose it.
const ALPN: [&[u8]; 1] = [b"http/1.1"];

/// Whose certificates are good enough.
pub(in crate::commands) enum Trust<'a> {
    /// Those of the authorities that the system trusts.
    System,
    /// Those in a PEM file, and what they have signed.
    File(&'a Path),
    /// Every certificate there is.
    Anyone,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(in crate::commands) enum TransportError {
    #[error("cannot connect to {host}:{port}")]
    Connect { host: String, port: u16, source: io::Error },
    #[error("{host:?} is no name that a certificate can be for")]
    Name { host: String, source: InvalidDnsNameError },
    #[error("no TLS connection to {host}; a certificate of your own can be trusted with --ca FILE")]
    Tls { host: String, source: io::Error },
    #[error("cannot read certificates from {}", path.display())]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate; it must have one or more PEM blocks of type CERTIFICATE", path.display())]
    Empty { path: PathBuf },
    #[error("{} holds a certificate that cannot be trusted", path.display())]
    Anchor { path: PathBuf, source: rustls::Error },
    #[error("the system has no certificates to trust ({reason}); name a PEM file with --ca FILE")]
    NoRoots { reason: String },
    #[error("TLS cannot be set up")]
    Setup { source: rustls::Error },
}

/// A byte stream that a WebSocket can live on.
pub(in crate::commands) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to the target and, for `wss`, shakes hands and verifies who is there.
pub(super) async fn open(target: &Target, trust: &Trust<'_>) -> Result<Box<dyn Stream>, TransportError> {
    let (host, port) = (target.host.clone(), target.port);
    // What is wrong with a file should be said before anything is sent to a server.
    let tls = if target.tls { Some(connector(trust, &ALPN)?) } else { None };
    let tcp = match TcpStream::connect((host.as_str(), port)).await {
        Ok(tcp) => tcp,
        Err(source) => return Err(TransportError::Connect { host, port, source }),
    };
    // Messages are small and answers are waited for. A socket that refuses the option still works.
    let _ = tcp.set_nodelay(true);
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let name = match ServerName::try_from(host.clone()) {
        Ok(name) => name,
        Err(source) => return Err(TransportError::Name { host, source }),
    };
    match tls.connect(name, tcp).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(source) => Err(TransportError::Tls { host, source }),
    }
}

/// What makes TLS of a connection and verifies who is there. `alpn` are the protocols on offer, the best first.
pub(in crate::commands) fn connector(trust: &Trust<'_>, alpn: &[&[u8]]) -> Result<TlsConnector, TransportError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|source| TransportError::Setup { source })?;
    let mut config = match trust {
        Trust::System => builder.with_root_certificates(system_roots()?).with_no_client_auth(),
        Trust::File(path) => builder.with_root_certificates(file_roots(path)?).with_no_client_auth(),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAnyone { provider }))
            .with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn system_roots() -> Result<RootCertStore, TransportError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that nobody can parse any more; one of them must not cost us all the others.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first().map_or_else(|| String::from("none found"), ToString::to_string);
        return Err(TransportError::NoRoots { reason });
    }
    Ok(roots)
}

fn file_roots(path: &Path) -> Result<RootCertStore, TransportError> {
    let unreadable = |source| TransportError::Pem { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|source| TransportError::Anchor { path: path.to_owned(), source })?;
    }
    if roots.is_empty() {
        return Err(TransportError::Empty { path: path.to_owned() });
    }
    Ok(roots)
}

/// For `--insecure`: does not look at the certificate, only that the peer holds its key.
#[derive(Debug)]
struct AcceptAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
