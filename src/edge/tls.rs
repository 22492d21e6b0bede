//! Certificates to a TLS server configuration.

use std::sync::Arc;

use rustls::pki_types::{CertificateRevocationListDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, client::verify_server_name};

/// What HTTP/2 is called when TLS agrees on it (RFC 9113 section 3.1).
pub(super) const HTTP2: &[u8] = b"h2";

/// TLS 1.2 and 1.3 with the given certificates, chosen by the name that the client asks for (RFC 6066 section 3). Clients
/// are asked for a certificate of their own if there is something that checks it, and told that HTTP/2 is spoken if `http2` is set.
///
/// # Errors
///
/// Fails when the TLS library refuses its own defaults, which is a defect.
pub fn server_config(
    certificates: Vec<Arc<CertifiedKey>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    http2: bool,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(Arc::new(ByName(certificates)));
    // Our order counts: whoever can, speaks HTTP/2.
    config.alpn_protocols = http2.then(|| HTTP2.to_vec()).into_iter().chain([b"http/1.1".to_vec()]).collect();
    // Two tickets are sent by default; a client that comes back needs one, and each is a kilobyte on the wire.
    config.send_tls13_tickets = 1;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// What checks the certificates of clients: they come from one of the `authorities`, and none in their chain is on one of
/// the `revoked` lists. With lists, every authority in a chain needs its own: what is not known to hold does not hold.
///
/// # Errors
///
/// Fails when there is no authority, or a list cannot be read.
pub fn client_verifier(
    authorities: Arc<RootCertStore>,
    revoked: Vec<CertificateRevocationListDer<'static>>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    // Lists are read once, at the start; refusing everybody once a list is out of date would end every service at some
    // hour, and what an old list revokes stays revoked. So the date of the next one is not enforced.
    let builder = WebPkiClientVerifier::builder_with_provider(authorities, provider).with_crls(revoked);
    if required { builder.build() } else { builder.allow_unauthenticated().build() }
}

/// The first certificate that is valid for the name; the first of all when there is no name or none fits, so that a
/// client by address gets an answer that it can judge for itself.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().find(|certificate| is_valid_for(certificate, &name))
        });
        named.or(self.0.first()).cloned()
    }
}

fn is_valid_for(certificate: &CertifiedKey, name: &ServerName<'_>) -> bool {
    certificate
        .end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
