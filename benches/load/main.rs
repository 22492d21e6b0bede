//! The load benchmark: what one connection and one message cost, next to nginx and to a bare TLS copier in the same run.
//!
//! `benches/README.md` says how to run it and what the figures mean.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unchecked_time_subtraction,
    clippy::unwrap_used,
    reason = "a benchmark that meets anything unexpected must stop, and its figures are rounded anyway"
)]
#![allow(clippy::disallowed_methods, reason = "tasks end with their process, and processes are waited for in drops")]

mod clients;
mod floor;
mod measure;
mod nginx;
mod peers;
#[path = "../support/process.rs"]
#[allow(dead_code, reason = "shared with the soak tool, which uses other parts of it")]
mod process;
mod report;
mod scenarios;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use report::Report;
use scenarios::{Effort, Scenario};

#[derive(Parser)]
#[command(about = "Measures tidegate; see benches/README.md")]
struct Args {
    /// Run these scenarios alone; may be repeated
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Scenario>,
    /// Fewer and shorter rounds: for a look, not for figures
    #[arg(long)]
    quick: bool,
    /// Connections of `idle`
    #[arg(long, default_value_t = 5000, value_name = "N")]
    connections: usize,
    /// Leave nginx and the bare TLS copier out
    #[arg(long)]
    alone: bool,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`; without it, as under `cargo test`, nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The other processes of the benchmark are this binary again.
#[derive(Clone, Copy, Subcommand)]
enum Part {
    /// The backend
    #[command(hide = true)]
    Upstream,
    /// The bare TLS copier
    #[command(hide = true)]
    Floor { listen: SocketAddr, forward: SocketAddr },
}

fn main() {
    let args = Args::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tidegate::process::raise_file_limit();
    // One thread for each process of the benchmark: on a small machine more would only take turns.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match args.part {
        Some(Part::Upstream) => return runtime.block_on(upstream::run()),
        Some(Part::Floor { listen, forward }) => return runtime.block_on(floor::run(listen, forward)),
        None if !args.bench => return println!("nothing measured: run it with `cargo bench --bench load`"),
        None => {}
    }
    let effort = Effort {
        rounds: if args.quick { 1 } else { 5 },
        window: if args.quick { Duration::from_secs(1) } else { Duration::from_secs(2) },
        connections: if args.quick { args.connections.min(500) } else { args.connections },
        nginx: !args.alone && nginx::is_installed(),
        floor: !args.alone,
    };
    let wanted = if args.only.is_empty() { Scenario::ALL.to_vec() } else { args.only };
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
}
