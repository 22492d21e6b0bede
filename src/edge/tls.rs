//! Certificates to a TLS server configuration.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, client::verify_server_name};

/// TLS 1.2 and 1.3 with the given certificates, chosen by the name that the client asks for (RFC 6066 section 3).
///
/// # Errors
///
/// Fails when the TLS library refuses its own defaults, which is a defect.
pub fn server_config(certificates: Vec<Arc<CertifiedKey>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(certificates)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Two tickets are sent by default; a client that comes back needs one, and each is a kilobyte on the wire.
    config.send_tls13_tickets = 1;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
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
