//! `tidegate check`: every problem of a configuration file at once.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use super::exit;
use crate::config::Config;

/// Arguments of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file
    pub file: PathBuf,
}

/// Reads the file and all files that it names, starts nothing, and says what is wrong.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    match Config::load(&args.file) {
        Ok(config) => {
            let (listeners, upstreams, routes) = (config.listeners.len(), config.upstreams.len(), config.routes.len());
            println!(
                "{}: good, with {listeners} listener(s), {upstreams} upstream(s), {routes} route(s)",
                args.file.display()
            );
            ExitCode::from(exit::OK)
        }
        Err(problems) => {
            eprint!("{}", problems.render(io::stderr().is_terminal()));
            ExitCode::from(exit::CONFIG)
        }
    }
}
