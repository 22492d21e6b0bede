//! `tidegate ticket explain`.

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::{Failure, settings};
use crate::access::ticket::Tickets;
use crate::commands::exit;
use crate::identity::ticket::{Distrust, Explanation, Presented, Refusal, explain};
use crate::identity::verify::numeric_date;

/// More than the longest token that is explained.
const MAX_INPUT: u64 = 128 * 1024;

/// The first second of the year 10000.
const END_OF_DATES: u64 = 253_402_300_800;

const AFTER_HELP: &str = "\
The token is read from stdin, unless it is given: arguments end in the history of the shell and in lists of processes.
  wl-paste | tidegate ticket explain --config tidegate.toml

Without --config nobody looks at the signature, and all that is shown may be made up. With it, a ticket is checked as a
gateway with that file would check it, for the route, origin and address that it says itself. Whether it was used before
is known to the gateway alone.

Exit codes:
  0  shown; with --config: it would be accepted
  1  it is no token; with --config: it would be refused
  2  the configuration is wrong";

/// What is to be explained.
#[derive(Clone, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// The token; `-` reads it from stdin
    #[arg(value_name = "TOKEN", default_value = "-", hide_default_value = true)]
    token: String,
    /// The configuration file with the keys that it is checked with
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Args").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Prints what a token says, and, if there are keys, what they say of it.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let text = if args.token == "-" { from_stdin()? } else { args.token.clone() };
    let token = text.trim();
    let explained = explain(token).map_err(Failure::failed)?;
    print!("{}", shown(&explained, SystemTime::now()));
    match &args.config {
        None => {
            println!("signature: not checked, so all of this may be made up; --config FILE checks it");
            Ok(())
        }
        Some(file) => check(file, token, &explained),
    }
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(MAX_INPUT).read_to_string(&mut text);
    read.map_err(|error| Failure::failed(format!("cannot read the token from stdin: {error}")))?;
    Ok(text)
}

/// Says what a gateway with this file would say, if it were presented for what it is bound to.
fn check(file: &Path, token: &str, explained: &Explanation) -> Result<(), Failure> {
    let tickets = Tickets::new(&settings(file)?).map_err(Failure::failed)?;
    let presented = Presented {
        route: explained.text("aud").unwrap_or_default(),
        origin: explained.text("origin"),
        net: explained.text("net").and_then(|net| net.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    };
    match tickets.redeem(token, &presented) {
        Ok(redeemed) => {
            let key = redeemed.identity.keys.first().cloned().unwrap_or_default();
            println!("signature: good, of key {key:?}; accepted, unless it was used before");
            Ok(())
        }
        Err(refusal) => {
            let why = match refusal {
                Refusal::Invalid(Distrust::Algorithm) => "no key of this file has its algorithm",
                Refusal::Invalid(Distrust::Key) => "no key of this file has its name and algorithm",
                Refusal::Invalid(Distrust::Signature) => "the key that it names has not signed it",
                other => other.detail(),
            };
            println!("refused: {}, {why}", refusal.kind());
            Err(Failure::Told(exit::FAILED))
        }
    }
}

/// Header, claims and times, for a terminal.
fn shown(explained: &Explanation, now: SystemTime) -> String {
    let mut text = String::new();
    let kind = if explained.is_ticket() { "a ticket" } else { "not a ticket, but a token of another kind" };
    let _ = writeln!(text, "{kind}");
    for (title, object) in [("header", &explained.header), ("claims", &explained.claims)] {
        let _ = writeln!(text, "{title}: {}", json(object));
    }
    for (claim, word) in [("iat", "issued"), ("nbf", "begins"), ("exp", "expires"), ("until", "identity ends")] {
        if let Some(value) = explained.claims.get(claim) {
            let when = numeric_date(value).map_or_else(|| "at no time".to_owned(), |time| when(time, now));
            let _ = writeln!(text, "{word}: {when}");
        }
    }
    text
}

/// A point in time, and how far away it is.
fn when(time: SystemTime, now: SystemTime) -> String {
    let about = |span: Duration| match span.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    };
    let distance = match (time.duration_since(now), now.duration_since(time)) {
        (Ok(ahead), _) => format!("in {}", about(ahead)),
        (Err(_), Ok(ago)) => format!("{} ago", about(ago)),
        (Err(_), Err(_)) => return "unknown".to_owned(),
    };
    // HTTP dates end with the year 9999, and the library panics beyond it.
    if time.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() < END_OF_DATES) {
        format!("{}, {distance}", httpdate::fmt_http_date(time))
    } else {
        distance
    }
}

/// An object in many lines. What a terminal would obey is escaped: anybody may have written it.
fn json(object: &Map<String, Value>) -> String {
    let text = serde_json::to_string_pretty(object).unwrap_or_default();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown_of(header: Value, claims: Value) -> String {
        let object = |value: Value| value.as_object().expect("an object").clone();
        let explained = Explanation { header: object(header), claims: object(claims) };
        shown(&explained, UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[test]
    fn times_are_told_in_words() {
        let claims = json!({"iat": 999_990, "exp": 1_000_030, "until": 1_007_300, "nbf": "soon"});
        let text = shown_of(json!({"typ": "tidegate-ticket+jwt"}), claims);
        assert!(text.starts_with("a ticket\n"), "{text}");
        assert!(text.contains("issued: Mon, 12 Jan 1970 13:46:30 GMT, 10 s ago\n"), "{text}");
        assert!(text.contains("expires: Mon, 12 Jan 1970 13:47:10 GMT, in 30 s\n"), "{text}");
        assert!(text.contains("identity ends: Mon, 12 Jan 1970 15:48:20 GMT, in 2 h\n"), "{text}");
        assert!(text.contains("begins: at no time\n"), "{text}");
        let last = shown_of(json!({}), json!({"exp": END_OF_DATES}));
        assert!(last.contains("expires: in 2932885 days\n"), "{last}");
    }

    #[test]
    fn nothing_in_a_token_commands_a_terminal() {
        let text = shown_of(json!({"typ": "JWT"}), json!({"sub": "\u{1b}[2J\u{9b}31m\u{7f}"}));
        assert!(text.starts_with("not a ticket"), "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.contains("\\u001b[2J\\u009b31m\\u007f"), "{text}");
    }
}
