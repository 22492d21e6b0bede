//! The soak tool: faults on purpose, and a ledger that says what they cost the clients.
//!
//! `benches/README.md` says how to run it, `docs/reliability.md` what it shows.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a tool that meets anything unexpected must stop, and its figures are rounded anyway"
)]
#![allow(clippy::disallowed_methods, reason = "tasks end with their process, and processes are waited for in drops")]

mod backend;
mod clients;
mod dice;
mod faults;
mod gateway;
mod guest;
mod ledger;
mod network;
#[path = "../support/process.rs"]
#[allow(dead_code, reason = "shared with the load benchmark, which uses other parts of it")]
mod process;
mod report;
mod scenarios;
mod stage;
mod store;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand, ValueEnum};

use report::Report;
use scenarios::{Effort, Scenario};

#[derive(Parser)]
#[command(about = "Breaks what is around tidegate and keeps the books; see benches/README.md")]
struct Args {
    /// Run these scenarios alone; may be repeated
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Scenario>,
    /// Fewer clients, fewer and shorter faults: for a look, not for figures
    #[arg(long)]
    quick: bool,
    /// How long `soak` takes
    #[arg(long, default_value_t = 10, value_name = "N")]
    minutes: u64,
    /// Repeats the faults of a run of `soak`
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What is spoken with the backend, where a scenario does not need one of them
    #[arg(long, value_enum, default_value = "http1", value_name = "VERSION")]
    protocol: Protocol,
    /// Also write what was found to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`; without it, as under `cargo test`, nothing is done
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Http1,
    Http2,
}

/// The other processes are this binary again.
#[derive(Clone, Subcommand)]
enum Part {
    /// An endpoint of the upstream
    #[command(hide = true)]
    Backend { listen: SocketAddr },
    /// Clients that are going to vanish
    #[command(hide = true)]
    Crowd { target: SocketAddr, certificate: PathBuf, first: u64, count: u64 },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tidegate::process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match args.part {
        Some(Part::Backend { listen }) => {
            runtime.block_on(backend::run(listen));
            return ExitCode::SUCCESS;
        }
        Some(Part::Crowd { target, certificate, first, count }) => {
            runtime.block_on(guest::crowd(target, &certificate, first, count));
            return ExitCode::SUCCESS;
        }
        None if !args.bench => {
            println!("nothing done: run it with `cargo bench --bench soak`");
            return ExitCode::SUCCESS;
        }
        None => {}
    }
    let effort = Effort {
        quick: args.quick,
        soak: if args.quick { Duration::from_mins(1) } else { Duration::from_mins(args.minutes) },
        seed: args.seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()),
        protocol: match args.protocol {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
        },
    };
    let wanted = if args.only.is_empty() { Scenario::value_variants().to_vec() } else { args.only };
    let mut report = Report::default();
    runtime.block_on(async {
        for scenario in wanted {
            scenario.run(&effort, &mut report).await;
        }
    });
    println!("{}", report.markdown());
    if let Some(path) = args.json {
        std::fs::write(path, report.json()).unwrap();
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
