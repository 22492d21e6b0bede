//! `tidegate ticket`: makes a ticket, or shows what one says.

mod explain;
mod mint;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use super::exit;
use crate::access::ticket::Settings;
use crate::config::Config;

/// Arguments of `ticket`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Make a ticket with the keys of a configuration, and print it
    Mint(mint::Args),
    /// Show what a ticket, or any other JSON Web Token, says
    Explain(explain::Args),
}

/// Does the one or the other.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let done = match &args.command {
        Command::Mint(args) => mint::run(args),
        Command::Explain(args) => explain::run(args),
    };
    match done {
        Ok(()) => ExitCode::from(exit::OK),
        Err(Failure::Told(code)) => ExitCode::from(code),
        Err(Failure::Because(code, why)) => {
            eprintln!("error: {why}");
            ExitCode::from(code)
        }
    }
}

/// Why it was not done.
enum Failure {
    /// It was said already; the exit code.
    Told(u8),
    /// The exit code, and what to say.
    Because(u8, String),
}

impl Failure {
    /// What was asked for is wrong.
    fn wrong(why: impl Into<String>) -> Self {
        Self::Because(exit::CONFIG, why.into())
    }

    /// It went wrong.
    fn failed(why: impl std::fmt::Display) -> Self {
        Self::Because(exit::FAILED, why.to_string())
    }
}

/// The ticket section of a file, with keys that a gateway has too.
fn settings(file: &Path) -> Result<Settings, Failure> {
    let config = Config::load(file).map_err(|problems| {
        eprint!("{}", problems.render(io::stderr().is_terminal()));
        Failure::Told(exit::CONFIG)
    })?;
    let settings =
        config.ticket.ok_or_else(|| Failure::wrong(format!("{} has no [ticket] section", file.display())))?;
    if settings.keys.is_empty() {
        let why = format!("{} names no keys in [ticket], so each gateway has a random one of its own", file.display());
        return Err(Failure::wrong(why));
    }
    Ok(settings)
}
