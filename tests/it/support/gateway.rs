//! A real gateway in the test's own process, on free ports.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tidegate::commands::dev_cert;
use tidegate::config::Config;
use tidegate::gateway::{Drained, Gateway};

use super::upstream::FakeUpstream;

/// A gateway that serves, with the certificate that its clients trust.
pub(crate) struct TestGateway {
    pub(crate) gateway: Gateway,
    pub(crate) tls: Arc<ClientConfig>,
    files: TempDir,
}

impl TestGateway {
    /// One route, `/chat`, bridged to `upstream` over HTTP/1.1.
    pub(crate) fn in_front_of(upstream: &FakeUpstream) -> Self {
        Self::with(upstream, "", "")
    }

    /// The same, with further keys for the upstream and for the bridge, one a line.
    pub(crate) fn with(upstream: &FakeUpstream, upstream_keys: &str, bridge_keys: &str) -> Self {
        Self::from_toml(&toml(&format!("http://{}", upstream.address), upstream_keys, bridge_keys))
    }

    /// Any configuration; `certs/dev.pem` and `certs/dev.key` are there.
    pub(crate) fn from_toml(toml: &str) -> Self {
        Self::from_files(toml, certificates())
    }

    /// Any configuration, with the files that it names; clients trust `certs/dev.pem` if it is one of them.
    pub(crate) fn from_files(toml: &str, files: TempDir) -> Self {
        let config = Config::parse(toml, "test.toml", files.path()).unwrap_or_else(|problems| panic!("{problems}"));
        let gateway = Gateway::start(&config, None).unwrap();
        Self { gateway, tls: trusting(&files.path().join("certs/dev.pem")), files }
    }

    /// The certificate that its clients trust, as PEM.
    pub(crate) fn certificate(&self) -> String {
        std::fs::read_to_string(self.files.path().join("certs/dev.pem")).unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.addresses()[0]
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) -> Drained {
        super::must("the gateway to stop", self.gateway.stop()).await
    }
}

/// The configuration that most scenes use.
pub(crate) fn toml(endpoint: &str, upstream_keys: &str, bridge_keys: &str) -> String {
    format!(
        r#"
[[listener]]
address = "127.0.0.1:0"
tls = {{ certificate = "certs/dev.pem", key = "certs/dev.key" }}

[upstream.app]
endpoints = ["{endpoint}"]
{upstream_keys}

[[route]]
path = "/chat"
auth = "none"

[route.bridge]
upstream = "app"
events = "/events"
messages = "/messages"
{bridge_keys}
"#
    )
}

/// A folder with a fresh certificate for localhost.
pub(crate) fn certificates() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    let made = dev_cert::generate(&[]).unwrap();
    std::fs::create_dir(files.path().join("certs")).unwrap();
    std::fs::write(files.path().join("certs/dev.pem"), &made.certificate_pem).unwrap();
    std::fs::write(files.path().join("certs/dev.key"), &made.key_pem).unwrap();
    files
}

/// TLS settings of a client that trusts this certificate and no other.
pub(crate) fn trusting(certificate: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}
