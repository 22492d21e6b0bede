//! What is told to operators: logs and their form, metrics and their names.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

/// How the process logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The form of a line.
    pub format: Format,
    /// Directives of `tracing_subscriber::EnvFilter`, such as `info` or `info,tidegate::bridge=debug`; known to parse.
    pub filter: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::Auto, filter: "info".to_owned() }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people if the output is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

mod lines;
pub mod metrics;
mod passed;
mod side;

pub use side::{Reason, Side, Turn};

pub use lines::{Opening, Refused, chain, connection_closed, connection_opened, refused, ticket_issued, unsigned};
pub use passed::{Passed, request_passed};

/// Libraries whose debug and trace lines can hold request heads, and with them credentials: they are kept at `info`
/// whatever the filter says.
const QUIET: [&str; 6] = ["hyper", "hyper_util", "h2", "rustls", "tungstenite", "tokio_tungstenite"];

/// Sets up logging to standard error for the life of the process.
///
/// # Errors
///
/// Fails when the filter does not parse, which the configuration rules out, or when logging is already set up.
pub fn install(settings: &Settings) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = EnvFilter::builder().parse(&settings.filter)?;
    let human = match settings.format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Human => true,
        Format::Json => false,
    };
    // A filter of its own, because the most specific directive wins: `h2::hpack=trace` would beat `h2=info`.
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(may_speak));
    let lines = fmt::layer().with_writer(io::stderr);
    if human {
        registry.with(lines.with_ansi(io::stderr().is_terminal())).try_init()?;
    } else {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        registry.with(lines).try_init()?;
    }
    Ok(())
}

/// Whether the filter decides about this line.
fn may_speak(line: &Metadata<'_>) -> bool {
    let library = line.target().split("::").next().unwrap_or_default();
    *line.level() <= Level::INFO || !QUIET.contains(&library)
}
