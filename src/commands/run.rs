//! `tidegate run`: serve until told to stop.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use tracing::{error, info};

use super::{exit, runtime, shutdown_signal};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::process;
use crate::telemetry::{self, Format, chain};

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file
    pub file: PathBuf,
    /// Form of the log lines, instead of the file's
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<LogFormat>,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise
    Auto,
    /// For people
    Human,
    /// One JSON object per line
    Json,
}

/// Loads the file, serves, and stops in order at SIGINT or SIGTERM.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let mut config = match Config::load(&args.file) {
        Ok(config) => config,
        Err(problems) => {
            eprint!("{}", problems.render(io::stderr().is_terminal()));
            return ExitCode::from(exit::CONFIG);
        }
    };
    if let Some(format) = args.log_format {
        config.log.format = match format {
            LogFormat::Auto => Format::Auto,
            LogFormat::Human => Format::Human,
            LogFormat::Json => Format::Json,
        };
    }
    if let Err(error) = telemetry::install(&config.log) {
        eprintln!("error: cannot set up logging: {error}");
        return ExitCode::from(exit::FAILED);
    }
    process::raise_file_limit();
    let runtime = match runtime(config.server.threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the runtime");
            return ExitCode::from(exit::FAILED);
        }
    };
    let code = runtime.block_on(serve(config));
    // What is left after the deadline does not hold the process.
    runtime.shutdown_background();
    code
}

async fn serve(config: Config) -> ExitCode {
    let signal = match shutdown_signal() {
        Ok(signal) => signal,
        Err(error) => {
            error!(%error, "cannot listen for signals");
            return ExitCode::from(exit::FAILED);
        }
    };
    let gateway = match Gateway::start(config, None) {
        Ok(gateway) => gateway,
        Err(error) => {
            error!(error = chain(&error), "cannot start");
            return ExitCode::from(exit::FAILED);
        }
    };
    // Awaited outside the log line: a line that the filter leaves out evaluates nothing.
    let signal = signal.await;
    info!(signal, "asked to stop");
    let drained = gateway.stop().await;
    ExitCode::from(if drained.cut == 0 { exit::OK } else { exit::CUT })
}
