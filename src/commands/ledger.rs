//! `tidegate ledger`: who still comes by WebSocket.

mod ask;
mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use super::exit;
use crate::config::{self, Config};
use crate::ledger::Ledger;
use crate::ledger::report::{Plans, Report};
use crate::ledger::store::StoreError;
use crate::telemetry::chain;

/// Arguments of `ledger`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["path", "config", "admin"]))]
pub struct Args {
    /// The file of the ledger, of a gateway that does not run
    pub path: Option<PathBuf>,
    /// The configuration of the gateway: its admin listener is asked if it runs, otherwise the file of its ledger is read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The admin listener of a gateway that runs, as HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// Show this route alone
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Show so many of the last days, at most 90
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub days: u8,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Finds the ledger where it is, and shows it.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    match find(args).and_then(|report| shown(args, report)) {
        Ok(text) => {
            // Whoever reads no further, as `head` does, has seen enough.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::from(exit::OK)
        }
        Err(Failure::Told(code)) => ExitCode::from(code),
        Err(Failure::Because(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Why there is nothing to show.
enum Failure {
    /// It was said already; the exit code.
    Told(u8),
    /// What to say.
    Because(String),
}

impl Failure {
    fn because(why: impl Into<String>) -> Self {
        Self::Because(why.into())
    }
}

fn find(args: &Args) -> Result<Report, Failure> {
    if let Some(address) = &args.admin {
        return ask::ask(address).map_err(|error| Failure::because(format!("{address}: {}", chain(&error))));
    }
    match (&args.config, &args.path) {
        (Some(file), _) => configured(file),
        (None, Some(path)) => read(path, Plans::new()).map_err(|error| {
            let hint = "; ask its admin listener: --admin 127.0.0.1:9900";
            let hint = if matches!(error, StoreError::InUse { .. }) { hint } else { "" };
            Failure::because(format!("{}{hint}", chain(&error)))
        }),
        (None, None) => Err(Failure::because("say where the ledger is")),
    }
}

/// The ledger of a configuration: from the gateway if it runs, otherwise from its file.
fn configured(file: &Path) -> Result<Report, Failure> {
    let config = Config::load(file).map_err(|problems| {
        eprint!("{}", problems.render(io::stderr().is_terminal()));
        Failure::Told(exit::CONFIG)
    })?;
    let admin = config.admin.as_ref().map(|admin| admin.address).filter(|address| address.port() != 0);
    let answered = admin.map(|address| (address, ask::ask(&ask::reachable(address).to_string())));
    let not_answered = match answered {
        Some((_, Ok(report))) => return Ok(report),
        Some((address, Err(error))) => format!("no gateway answers on {address} ({})", chain(&error)),
        None => "its configuration has no [admin] with a port of its own, where it could be asked".to_owned(),
    };
    let Some(path) = &config.ledger.path else {
        return Err(Failure::because(format!("{not_answered}; and without [ledger] and its `path` nothing is kept")));
    };
    read(path, config::sunsets(&config.routes)).map_err(|error| {
        let more = if matches!(error, StoreError::InUse { .. }) { format!("; {not_answered}") } else { String::new() };
        Failure::because(format!("{}{more}", chain(&error)))
    })
}

fn read(path: &Path, plans: Plans) -> Result<Report, StoreError> {
    Ledger::read(path, plans, SystemTime::now())
}

fn shown(args: &Args, mut report: Report) -> Result<String, Failure> {
    if let Some(route) = &args.route {
        let known: Vec<_> = report.routes.iter().map(|known| known.route.clone()).collect();
        report.routes.retain(|known| known.route == *route);
        if report.routes.is_empty() {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::because(format!("there is no route {route:?} in the ledger; known are: {known}")));
        }
    }
    for route in &mut report.routes {
        let passed = route.days.len().saturating_sub(usize::from(args.days));
        route.days.drain(..passed);
    }
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| Failure::because(error.to_string()))?;
        return Ok(text + "\n");
    }
    Ok(table::render(&report))
}
