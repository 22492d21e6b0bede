//! `tidegate demo`: a chat over WebSocket on top of a backend that only knows HTTP, and a page that shows both.
//!
//! [`backend`] is written as the contract asks, `hub` is its chat room, [`trace`] is what it tells about itself, and
//! [`page`] serves the page and the trace to a browser.

mod answer;
pub mod backend;
mod hub;
pub mod page;
mod query;
mod run;
#[cfg(test)]
mod tests;
pub mod trace;

pub use run::run;

use std::io;

use crate::commands::dev_cert::{self, DevCertError, DevCertificate};

/// Port that is tried when none is asked for.
const USUAL_PORT: u16 = 8443;

/// What `tidegate demo` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port to listen on at 127.0.0.1; without it 8443, or any free port when that is taken
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

/// All that the gateway is put in front of.
#[derive(Debug)]
pub struct Parts {
    /// The chat backend, already listening.
    pub backend: backend::Backend,
    /// The page and its trace, for requests that no route takes.
    pub page: page::PageService,
    /// A certificate for localhost, made for this run.
    pub certificate: DevCertificate,
}

/// Why the demo cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The backend could not listen.
    #[error("the demo's backend cannot listen on 127.0.0.1")]
    Backend(#[source] io::Error),
    /// No certificate could be made.
    #[error("the demo has no certificate")]
    Certificate(#[source] DevCertError),
}

/// Starts the backend and makes the page and a certificate.
///
/// # Errors
///
/// [`DemoError`], when the system has no port or no randomness to give.
pub async fn parts() -> Result<Parts, DemoError> {
    let certificate = dev_cert::generate(&[]).map_err(DemoError::Certificate)?;
    let backend = backend::Backend::start().await.map_err(DemoError::Backend)?;
    let page = page::service(backend.trace());
    Ok(Parts { backend, page, certificate })
}
