//! `tidegate doctor`: probes the way to a gateway through everything that stands in front of it, and says what is wrong with it.
//!
//! `probes` and `websocket` measure, over connections of `dial` and requests of `exchange`; `measured` is what comes of it.
//! From there on all is pure: `timing` judges times, `findings` says what is wrong, `front` and `cures` what to write where,
//! `report` prints it.

mod cures;
mod dial;
mod exchange;
mod findings;
mod front;
mod id;
mod measured;
mod probes;
mod report;
mod target;
#[cfg(test)]
mod tests;
mod timing;
mod websocket;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::HeaderValue;

use self::dial::{Dialer, Offer};
use self::exchange::Trouble;
use self::findings::Severity;
use self::measured::{Measured, Trial};
use self::probes::{Greeting, Patient};
use self::target::Target;
use super::connect::transport::Trust;
use super::exit;
use crate::config::parse_duration;
use crate::protocol::diagnostic::{DEFAULT_PATH, Events, LONGEST_MS};
use crate::telemetry::chain;

const AFTER_HELP: &str = "\
The gateway must have a diagnostic endpoint: diagnostics = \"/.well-known/tidegate/doctor\" in its [[listener]]. It is looked
for at the path of the URL and then at that one. Programs in front often treat paths differently: to see what becomes of a
route, put the endpoint below its path and name it here.

Exit codes:
  0  nothing was found but notes
  1  errors or warnings were found
  2  nothing could be probed, or an option has a bad value

Examples:
  tidegate doctor https://chat.example.com/
  tidegate doctor https://chat.example.com/chat/doctor --idle 0s --json";

/// Every probe that needs events: enough to see a pattern, soon enough to wait for.
const EVENTS: Events = Events { count: 10, interval: Duration::from_millis(200), bare: false };

/// What `tidegate doctor` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// What clients open.
    #[arg(value_name = "URL", help = "What clients open, as https://host[:port]/path")]
    pub url: String,
    /// Accept any certificate: the server may be anyone
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// PEM file with the certificates to trust, instead of those the system trusts
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// What the endpoint wants to be shown, or @FILE that holds it
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Address to connect to in place of what the host's name says, with a port if it is another
    #[arg(long, value_name = "ADDRESS")]
    pub resolve: Option<String>,
    /// How long streams are left silent to see whether they are cut, at most 2m; 0s leaves that out
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = parse_duration)]
    pub idle: Duration,
    /// Print everything that was measured as JSON
    #[arg(long)]
    pub json: bool,
}

/// Probes and prints; says by the exit code what was found.
pub async fn run(args: &Args) -> ExitCode {
    let mut patient = match prepare(args) {
        Ok(patient) => patient,
        Err(error) => return failed(&*error),
    };
    let greeting = match find(&mut patient).await {
        Ok(greeting) => greeting,
        Err(error) => return unreachable(&patient, &error),
    };
    if !args.idle.is_zero() {
        eprintln!("probing, which takes {:?} and a little; --idle 0s leaves silent streams out", args.idle);
    }
    let url = patient.dialer.target.url(&patient.path);
    let measured = Box::pin(measure(&patient, greeting, args.idle)).await;
    let findings = findings::all(&measured);
    let report = if args.json { report::json } else { report::text };
    println!("{}", report(&url, &measured, &findings).trim_end());
    let is_fine = findings.iter().all(|finding| finding.severity == Severity::Note);
    ExitCode::from(if is_fine { exit::OK } else { exit::FAILED })
}

fn prepare(args: &Args) -> Result<Patient, Box<dyn Error>> {
    let target = Target::parse(&args.url)?;
    let address = args.resolve.as_deref().map(|text| target::address(text, target.port)).transpose()?;
    if args.idle > Duration::from_millis(LONGEST_MS) {
        return Err("--idle may be 2m at most".into());
    }
    if !args.idle.is_zero() && args.idle < Duration::from_secs(1) {
        return Err("--idle must be 1s at least, or 0s".into());
    }
    let token = args.token.as_deref().map(token).transpose()?;
    let trust = match (args.insecure, &args.ca) {
        (true, _) => Trust::Anyone,
        (false, Some(file)) => Trust::File(file),
        (false, None) => Trust::System,
    };
    if args.insecure && target.tls {
        eprintln!("warning: --insecure: the certificate is not verified, the server may be anyone");
    }
    let dialer = Dialer::new(target, address, &trust)?;
    Ok(Patient { dialer, path: DEFAULT_PATH.to_owned(), offer: Offer::Both, token })
}

/// The field that shows a token.
fn token(text: &str) -> Result<HeaderValue, Box<dyn Error>> {
    let held = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?,
        None => text.to_owned(),
    };
    let mut value = HeaderValue::try_from(format!("Bearer {}", held.trim_end()))
        .map_err(|_| "--token holds characters that a header cannot carry")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Looks for the endpoint, at one path after another.
async fn find(patient: &mut Patient) -> Result<Greeting, Trouble> {
    let mut first = None;
    for path in patient.dialer.target.paths.clone() {
        patient.path = path;
        match patient.greet(Offer::Both).await {
            Ok(greeting) => return Ok(greeting),
            // Nobody is there, whatever the path.
            Err(error @ (Trouble::Transport(_) | Trouble::Late(_))) => return Err(error),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(Trouble::NotOurs))
}

async fn measure(patient: &Patient, greeting: Greeting, idle: Duration) -> Measured {
    let is_http2 = greeting.answer.is_http2;
    let bare = Events { bare: true, ..EVENTS };
    let silent = async {
        if idle.is_zero() {
            return (Trial::Skipped("--idle 0s"), Trial::Skipped("--idle 0s"));
        }
        let (stream, socket) = tokio::join!(patient.silence(idle), patient.websocket_silence(idle));
        (trial(stream), trial(socket))
    };
    let quick = async {
        // Before the others, which would only be in its way.
        let http1 = patient.greet(Offer::Http1).await;
        let (events, bare_events) = tokio::join!(patient.stream(EVENTS, false), patient.stream(bare.clone(), false));
        let (compressible, bare_compressible) = tokio::join!(patient.stream(EVENTS, true), patient.stream(bare, true));
        let (upload, websocket) = tokio::join!(patient.upload(), patient.websocket());
        let websocket_http2 =
            if is_http2 { trial(patient.websocket_http2().await) } else { Trial::Skipped("there is no HTTP/2") };
        (http1, events, bare_events, compressible, bare_compressible, upload, websocket, websocket_http2)
    };
    let ((silence, websocket_silence), quick) = tokio::join!(silent, quick);
    let (http1, events, bare, compressible, bare_compressible, upload, websocket, websocket_http2) = quick;
    let again = http1.as_ref().map_or(Duration::MAX, |greeting| greeting.round_trip);
    let Greeting { seen, round_trip, answer } = greeting;
    let http2 = match (is_http2, patient.dialer.target.tls) {
        (true, _) => Trial::Done(seen),
        (false, true) => Trial::Failed(Trouble::NoHttp2.told()),
        (false, false) => Trial::Skipped("browsers speak it over TLS alone"),
    };
    Measured {
        address: answer.address,
        tls: answer.tls,
        round_trip_us: probes::micros(round_trip.min(again)),
        signs: answer.signs,
        http1: trial(http1.map(|greeting| greeting.seen)),
        http2,
        events: trial(events),
        bare: trial(bare),
        compressible: trial(compressible),
        bare_compressible: trial(bare_compressible),
        silence,
        upload: trial(upload),
        websocket: trial(websocket),
        websocket_http2,
        websocket_silence,
    }
}

fn trial<T>(result: Result<T, Trouble>) -> Trial<T> {
    match result {
        Ok(value) => Trial::Done(value),
        Err(trouble) => Trial::Failed(trouble.told()),
    }
}

/// Says why nothing can be probed, and what to do about it.
fn unreachable(patient: &Patient, error: &Trouble) -> ExitCode {
    let target = &patient.dialer.target;
    let asked: Vec<_> = target.paths.iter().map(|path| target.url(path)).collect();
    match error {
        Trouble::Transport(_) | Trouble::Late(_) => {}
        Trouble::Status { status, .. } if *status == http::StatusCode::UNAUTHORIZED => {
            eprintln!("help: the endpoint wants its token: --token TOKEN, or --token @FILE");
        }
        _ => {
            eprintln!("help: no diagnostic endpoint answers at {}", asked.join(" or "));
            eprintln!("help: write diagnostics = \"{DEFAULT_PATH}\" in [[listener]] of the gateway,");
            eprintln!("help: and let what is in front of it pass that path on");
        }
    }
    failed(error)
}

fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("error: {}", chain(error));
    ExitCode::from(exit::CONFIG)
}
