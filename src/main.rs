//! The `tidegate` binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidegate::commands::{check, connect, demo, dev_cert, doctor, exit, ledger, run, runtime, ticket};
use tidegate::process;
use tidegate::telemetry::chain;

/// A TLS gateway that lets WebSocket clients live on top of a Server-Sent Events and POST backend.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve by a configuration file, until SIGINT or SIGTERM
    Run(run::Args),
    /// Report every problem of a configuration file, and start nothing
    Check(check::Args),
    /// Make a self-signed certificate for localhost
    DevCert(dev_cert::Args),
    /// Start a chat backend, the gateway in front of it, and a page that shows both at work
    Demo(demo::Args),
    /// A WebSocket client on the terminal
    Connect(connect::Args),
    /// Probe the way to a gateway, and say what on it buffers, compresses, cuts or strips, and what usually cures that
    Doctor(doctor::Args),
    /// Make a ticket, or show what one says, to find out why a client is not let in
    Ticket(ticket::Args),
    /// Show who still comes by WebSocket, and whom it would hit to switch it off
    Ledger(ledger::Args),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for run: stopped on a signal, every client was told
  1  failed: an address is taken, a file cannot be written, nothing answers, a ticket is not accepted
     doctor: there are errors or warnings
  2  the command line or the configuration is wrong; nothing was started
     doctor: nothing could be probed
  3  run: stopped, but connections were still open at drain_timeout and were cut
     connect: the handshake was refused
  4  connect: the server closed with another code than 1000 or 1001, or the connection broke";

fn main() -> ExitCode {
    process::tame_allocator();
    // Before anything can need it, so that two crypto providers in one process are never a question.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::DevCert(args) => dev_cert(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Connect(args) => connect(args),
        Command::Doctor(args) => doctor(&args),
        Command::Ticket(args) => ticket::run(&args),
        Command::Ledger(args) => ledger::run(&args),
    }
}

fn dev_cert(args: &dev_cert::Args) -> ExitCode {
    match dev_cert::run(args) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => fail(&chain(&error)),
    }
}

fn connect(args: connect::Args) -> ExitCode {
    match runtime(None) {
        Ok(runtime) => {
            let code = runtime.block_on(connect::run(args));
            // The thread that reads standard input cannot be interrupted.
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(&error.to_string()),
    }
}

fn doctor(args: &doctor::Args) -> ExitCode {
    match runtime(None) {
        Ok(runtime) => runtime.block_on(doctor::run(args)),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(exit::FAILED)
}
