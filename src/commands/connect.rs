//! `tidegate connect`: a WebSocket client for the terminal and for scripts.

mod conversation;
mod ending;
mod handshake;
mod input;
mod screen;
mod target;
#[cfg(test)]
mod tests;
pub(super) mod transport;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, timeout_at};

use conversation::{Outgoing, Tally};
use handshake::HandshakeError;
use input::Lines;
use screen::{Screen, Style, note, note_error};
use target::Target;
use transport::Trust;

use crate::config::parse_duration;

/// Largest message in either direction, in bytes.
const MAX_MESSAGE: usize = 64 << 20;
/// Base64 of the largest message fits into a line.
const MAX_LINE: usize = MAX_MESSAGE / 3 * 4 + 4;
/// How long connecting may take: TCP, TLS and the WebSocket handshake together.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

const AFTER_HELP: &str = "\
Each line of stdin is sent as one text message, without its line end; an empty line is an empty message. A received
text message is printed as its text and a line end, a received binary message as `base64:`, its base64 and a line end.
Everything else, such as the close code, goes to stderr. At the end of stdin the connection stays open until no
message has arrived for the time of --linger, and is then closed with code 1000. Ctrl-C closes it at once.

Exit codes:
  0  closed by us, or by the server with code 1000 or 1001
  1  could not connect, an option has a bad value, or a line that could not be sent
  3  the server refused the handshake with an HTTP status
  4  closed by the server with another code, or the connection was lost

Examples:
  tidegate connect wss://localhost:8443/chat --ca certs/dev.pem
  printf 'hello\\n' | tidegate connect 'wss://localhost:8443/chat?name=ada' --insecure --linger 200ms";

/// What `tidegate connect` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Where to connect to.
    #[arg(value_name = "URL", help = "Where to connect to, as ws://host[:port]/path or wss://host[:port]/path")]
    pub url: String,
    /// Accept any certificate: the server may be anyone
    #[arg(long, conflicts_with = "ca")]
    pub insecure: bool,
    /// PEM file with the certificates to trust, instead of those the system trusts
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// One more header of the handshake request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Subprotocol to offer; may be repeated, the first is the one we like best
    #[arg(long = "subprotocol", value_name = "NAME")]
    pub subprotocols: Vec<String>,
    /// Origin to name, as a browser would.
    #[arg(long, value_name = "ORIGIN", help = "Origin to name, as a browser would, such as https://app.example")]
    pub origin: Option<String>,
    /// Lines of stdin are base64, each is sent as one binary message
    #[arg(long)]
    pub binary: bool,
    /// How long no message must have arrived after the end of stdin before we close: 500ms, 1s, 2m
    #[arg(long, value_name = "TIME", default_value = "1s", overrides_with = "linger", value_parser = parse_duration)]
    pub linger: Duration,
}

/// How a run ended, in the terms of the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Fine = 0,
    Failed = 1,
    Refused = 3,
    Closed = 4,
}

/// Connects, passes lines and messages on until one side ends it, and says how it ended.
///
/// The thread that reads stdin cannot be interrupted. It is left behind when the conversation is over, so the caller
/// must leave the process and not wait for threads.
pub async fn run(args: Args) -> ExitCode {
    let stdin = std::io::stdin();
    let hints = std::io::stdout().is_terminal();
    let interactive = stdin.is_terminal();
    let screen = Screen::new(tokio::io::stdout(), Style { hints, echo: hints && !interactive });
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let lines = || Lines::read(stdin, MAX_LINE);
    let exit = connect(&args, lines, &screen, interactive, interrupt).await;
    ExitCode::from(exit as u8)
}

/// All of the command, with stdin, stdout and Ctrl-C as arguments.
async fn connect<O: AsyncWrite + Unpin>(
    args: &Args,
    lines: impl FnOnce() -> std::io::Result<Lines>,
    screen: &Screen<O>,
    interactive: bool,
    interrupt: impl Future<Output = ()>,
) -> Exit {
    let mut interrupt = std::pin::pin!(interrupt);
    let target = match Target::new(args) {
        Ok(target) => target,
        Err(error) => return failed(&error),
    };
    let trust = match (args.insecure, &args.ca) {
        (true, _) => Trust::Anyone,
        (false, Some(file)) => Trust::File(file),
        (false, None) => Trust::System,
    };
    if args.insecure && target.tls {
        note("warning: --insecure: the certificate is not verified, the server may be anyone");
    }
    let deadline = Instant::now() + CONNECT_LIMIT;
    let opened = tokio::select! {
        opened = timeout_at(deadline, transport::open(&target, &trust)) => opened,
        () = &mut interrupt => return Exit::Fine,
    };
    let mut stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed(&error),
        Err(_) => return late(&target.host),
    };
    let shaken = tokio::select! {
        shaken = timeout_at(deadline, handshake::shake(&mut stream, target.request)) => shaken,
        () = &mut interrupt => return Exit::Fine,
    };
    let response = match shaken {
        Ok(Ok((socket, response))) => {
            note(&handshake::connected(response.headers()));
            let tally = Tally::default();
            // Read only now: what is typed at a server that refuses us stays with the shell.
            let mut lines = match lines() {
                Ok(lines) => lines,
                Err(error) => return failed(&error),
            };
            let outgoing = Outgoing { lines: &mut lines, binary: args.binary, tally: &tally };
            let ending = conversation::run(socket, outgoing, screen, args.linger, interrupt).await;
            note(&ending.to_string());
            return match ending.exit() {
                Exit::Fine if tally.unsent() > 0 && !interactive => Exit::Failed,
                exit => exit,
            };
        }
        Ok(Err(HandshakeError::Refused(response))) => response,
        Ok(Err(error)) => return failed(&error),
        Err(_) => return late(&target.host),
    };
    note(&handshake::refusal(&mut stream, *response).await.to_string());
    Exit::Refused
}

fn late(host: &str) -> Exit {
    note(&format!("error: {host} did not complete the handshake within {CONNECT_LIMIT:?}"));
    Exit::Failed
}

fn failed(error: &dyn std::error::Error) -> Exit {
    note_error(error);
    Exit::Failed
}
