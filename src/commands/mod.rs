//! The commands of the binary.

pub mod check;
pub mod connect;
pub mod demo;
pub mod dev_cert;
pub mod doctor;
pub mod ledger;
pub mod run;
pub mod ticket;

use std::io;
use std::num::NonZeroUsize;

/// Exit codes, the same for every command; `connect` adds two of its own.
pub mod exit {
    /// It did what it was asked to.
    pub const OK: u8 = 0;
    /// It could not: an address is taken, a file cannot be written, nothing answers.
    pub const FAILED: u8 = 1;
    /// The command line or the configuration is wrong; nothing was started.
    pub const CONFIG: u8 = 2;
    /// It stopped, but the deadline passed with connections still open, and they were cut.
    pub const CUT: u8 = 3;
}

/// A runtime with as many threads as asked for, one per core by default.
///
/// # Errors
///
/// Fails when the system has no threads or descriptors to give.
pub fn runtime(threads: Option<NonZeroUsize>) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.get());
    }
    builder.enable_all().build()
}

/// Resolves at the first SIGINT or SIGTERM.
///
/// # Errors
///
/// Fails when the system refuses signal handlers.
pub(crate) fn shutdown_signal() -> io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}
