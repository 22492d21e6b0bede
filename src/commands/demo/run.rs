//! Puts the gateway in front of the demo's backend and serves until told to stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{Args, Parts, USUAL_PORT, parts};
use crate::commands::dev_cert::DevCertificate;
use crate::commands::{exit, runtime, shutdown_signal};
use crate::config::Config;
use crate::gateway::{Gateway, StartError};
use crate::telemetry::{self, chain};

/// What the demo cannot do without.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the demo until SIGINT or SIGTERM.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let log = telemetry::Settings { filter: "warn".to_owned(), ..telemetry::Settings::default() };
    let served = telemetry::install(&log)
        .and_then(|()| Ok(runtime(None)?))
        .and_then(|runtime| runtime.block_on(serve(args.port)));
    match served {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("error: the demo cannot run: {}", chain(&*error));
            ExitCode::from(exit::FAILED)
        }
    }
}

async fn serve(port: Option<u16>) -> Result<(), Failure> {
    let signal = shutdown_signal()?;
    let parts = parts().await?;
    let key = certified_key(&parts.certificate)?;
    let start = |port: u16| -> Result<Gateway, Failure> {
        let config = config(port, parts.backend.address(), &key)?;
        Ok(Gateway::start(&config, Some(parts.page.clone()))?)
    };
    let gateway = match start(port.unwrap_or(USUAL_PORT)) {
        // Somebody has the usual port, and nobody asked for it.
        Err(error) if port.is_none() && matches!(error.downcast_ref(), Some(StartError::Bind(_))) => start(0)?,
        started => started?,
    };
    if let Some(address) = gateway.addresses().first() {
        println!(
            "open https://localhost:{}/ in a browser, and accept its warning: the certificate was made just now",
            address.port()
        );
        println!("or talk to it here: tidegate connect 'wss://localhost:{}/chat?name=me' --insecure", address.port());
        println!("stop with Ctrl-C");
    }
    signal.await;
    let Parts { backend, .. } = parts;
    // The page's trace is an answer that never ends by itself. The backend goes last: its streams' end would be what the
    // clients are told, instead of the shutdown.
    backend.trace().end();
    let drained = gateway.stop().await;
    backend.stop().await;
    if drained.cut > 0 {
        eprintln!("{} connection(s) did not end in time and were cut", drained.cut);
    }
    Ok(())
}

/// The configuration that the demo would be run with from a file.
fn config(port: u16, backend: SocketAddr, key: &Arc<CertifiedKey>) -> Result<Config, Failure> {
    let text = format!(
        r#"
[server]
drain_timeout = "3s"

[[listener]]
address = "{address}"
tls = false

[upstream.backend]
endpoints = ["http://{backend}"]

[[route]]
path = "/chat"
auth = "none"
bridge = {{ upstream = "backend", events = "/events", messages = "/messages" }}
"#,
        address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    );
    let mut config = Config::parse(&text, "demo", Path::new("")).map_err(|problems| problems.to_string())?;
    for listener in &mut config.listeners {
        // The certificate exists in memory only, where a file cannot name it.
        listener.tls = Some(vec![key.clone()]);
    }
    Ok(config)
}

fn certified_key(made: &DevCertificate) -> Result<Arc<CertifiedKey>, Failure> {
    let chain = vec![CertificateDer::from_pem_slice(made.certificate_pem.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes())?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider)?))
}
