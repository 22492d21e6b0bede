//! `tidegate run`: serve until told to stop, and read the file again when told to.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::{exit, runtime, shutdown_signal};
use crate::config::{Config, Problems};
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

impl Args {
    /// The configuration as the file and the arguments make it.
    fn load(&self) -> Result<Config, Problems> {
        let mut config = Config::load(&self.file)?;
        if let Some(format) = self.log_format {
            config.log.format = match format {
                LogFormat::Auto => Format::Auto,
                LogFormat::Human => Format::Human,
                LogFormat::Json => Format::Json,
            };
        }
        Ok(config)
    }
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

/// Loads the file, serves, reads it again at SIGHUP, and stops in order at SIGINT or SIGTERM.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let config = match args.load() {
        Ok(config) => config,
        Err(problems) => {
            eprint!("{}", problems.render(io::stderr().is_terminal()));
            return ExitCode::from(exit::CONFIG);
        }
    };
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
    let code = runtime.block_on(serve(&config, args));
    // What is left after the deadline does not hold the process.
    runtime.shutdown_background();
    code
}

async fn serve(config: &Config, args: &Args) -> ExitCode {
    let signals = shutdown_signal().and_then(|stop| Ok((stop, signal(SignalKind::hangup())?)));
    let (stop, mut hangup) = match signals {
        Ok(signals) => signals,
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
    let mut stop = std::pin::pin!(stop);
    // Awaited outside the log line: a line that the filter leaves out evaluates nothing.
    let signal = loop {
        tokio::select! {
            biased;
            signal = &mut stop => break signal,
            // Those that come while one is answered are one more.
            _ = hangup.recv() => tokio::select! {
                () = reload(&gateway, args) => {}
                signal = &mut stop => break signal,
            },
        }
    };
    info!(signal, "asked to stop");
    let mut stopping = std::pin::pin!(gateway.stop());
    let drained = loop {
        tokio::select! {
            drained = &mut stopping => break drained,
            _ = hangup.recv() => info!("the gateway is stopping, the configuration is not read again"),
        }
    };
    ExitCode::from(if drained.cut == 0 { exit::OK } else { exit::CUT })
}

/// Reads the file again and goes on by it, or says what is wrong with it and goes on as before.
async fn reload(gateway: &Gateway, args: &Args) {
    let file = args.file.display();
    info!(%file, "asked to reload the configuration");
    let again = args.clone();
    // On a thread of its own: certificates may be on a disk that does not answer.
    let loaded = tokio::task::spawn_blocking(move || again.load()).await;
    match loaded {
        Ok(Ok(config)) => {
            if let Err(error) = gateway.reload(&config) {
                error!(%file, error = chain(&error), "configuration not reloaded, the one before serves on");
            }
        }
        Ok(Err(problems)) => {
            gateway.reload_refused();
            let report = problems.render(false);
            error!(%file, report, "configuration not reloaded, the one before serves on");
        }
        Err(error) => {
            gateway.reload_refused();
            error!(%file, %error, "configuration not reloaded, the one before serves on");
        }
    }
}
