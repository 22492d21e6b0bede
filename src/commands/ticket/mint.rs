//! `tidegate ticket mint`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret as _;

use super::{Failure, settings};
use crate::access::ticket::Tickets;
use crate::config::parse_duration;
use crate::edge::origin::Origin;
use crate::identity::ticket::{MAX_LIFETIME, Minting};
use crate::identity::{Claims, Identity, Subject, Way};

const AFTER_HELP: &str = "\
The ticket goes to stdout, and lets whoever has it in, once: keep it out of logs and histories by handing it on, as in
  tidegate connect \"wss://localhost:8443/chat?ticket=$(tidegate ticket mint --config tidegate.toml --route chat --subject ada)\"
It is bound to no address. Without --origin it is good for every origin that the route lets in.";

/// What the ticket is to say.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The configuration file, whose first ticket key signs
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The route that it opens
    #[arg(long, value_name = "NAME")]
    route: String,
    /// Whom it speaks for
    #[arg(long, value_name = "SUBJECT")]
    subject: String,
    /// The only web origin that may use it.
    #[arg(long, value_name = "ORIGIN", help = "The only web origin that may use it, such as https://app.example")]
    origin: Option<String>,
    /// A claim of the identity, as text; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// How long it may wait to be used, 1s to 10m, instead of the file's lifetime
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    lifetime: Option<Duration>,
}

/// Prints a ticket.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let subject = Subject::new(&args.subject).map_err(|error| Failure::wrong(format!("--subject: {error}")))?;
    let claims = claims(&args.claims)?;
    let origin = args.origin.as_deref().map(|origin| {
        let parsed = Origin::parse(origin).ok_or_else(|| Failure::wrong("--origin: write https://app.example"));
        parsed.map(|origin| origin.to_string())
    });
    let origin = origin.transpose()?;
    let range = Duration::from_secs(1)..=MAX_LIFETIME;
    if args.lifetime.is_some_and(|lifetime| !range.contains(&lifetime)) {
        return Err(Failure::wrong("--lifetime: a ticket lives from 1s to 10m"));
    }
    let settings = settings(&args.config)?;
    let tickets = Tickets::new(&settings).map_err(Failure::failed)?;
    // Made of nothing, which a ticket can say of itself alone.
    let identity =
        Identity { subject, claims, issued: None, expires: None, way: Way::Ticket, ticket: None, keys: Vec::new() };
    let minting = Minting {
        identity: &identity,
        route: &args.route,
        origin: origin.as_deref(),
        net: None,
        lifetime: args.lifetime.unwrap_or(settings.lifetime),
    };
    let minted = tickets.mint(&minting).map_err(Failure::failed)?;
    println!("{}", minted.token.expose_secret());
    let left = minted.expires.duration_since(SystemTime::now()).unwrap_or_default();
    eprintln!("ticket {} for {} as {:?}, for {} s", minted.id, args.route, args.subject, left.as_secs());
    Ok(())
}

fn claims(given: &[String]) -> Result<Claims, Failure> {
    let mut claims = Claims::new();
    for claim in given {
        let (name, value) = claim
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::wrong("--claim: write NAME=VALUE"))?;
        if claims.insert(name.to_owned(), value.into()).is_some() {
            return Err(Failure::wrong(format!("--claim: {name:?} is given twice")));
        }
    }
    Ok(claims)
}
