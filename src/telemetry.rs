//! Logs: what is told to operators, and in which form.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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

pub use lines::{Opening, Refused, chain, connection_closed, connection_opened, refused};

/// Libraries whose debug and trace lines can hold request heads, and with them credentials: they are kept at `info`
/// whatever the filter says.
const QUIET: [&str; 6] = ["hyper", "hyper_util", "h2", "rustls", "tungstenite", "tokio_tungstenite"];

/// Sets up logging to standard error for the life of the process.
///
/// # Errors
///
/// Fails when the filter does not parse, which the configuration rules out, or when logging is already set up.
pub fn install(settings: &Settings) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut filter = EnvFilter::builder().parse(&settings.filter)?;
    for library in QUIET {
        let quiet =
            if filter.max_level_hint().is_some_and(|level| level < LevelFilter::INFO) { "warn" } else { "info" };
        filter = filter.add_directive(format!("{library}={quiet}").parse()?);
    }
    let human = match settings.format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Human => true,
        Format::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if human {
        builder.with_ansi(io::stderr().is_terminal()).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    }
}
