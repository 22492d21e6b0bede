//! The gateway: the release binary with a configuration made for the scenario, watched through /proc.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate::commands::dev_cert;
use tokio::task::JoinHandle;

use crate::process::{self, Process};

/// What differs from one scenario to the next; the texts are lines of TOML.
pub(crate) struct Setup {
    pub(crate) listen: IpAddr,
    pub(crate) protocol: &'static str,
    pub(crate) upstream: String,
    pub(crate) bridge: String,
    pub(crate) reconnect: String,
}

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: PathBuf,
    process: Process,
    samples: Arc<Mutex<Vec<Sample>>>,
    sampling: JoinHandle<()>,
    dir: Option<TempDir>,
}

/// The process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Since the start.
    pub(crate) at: Duration,
    /// `VmRSS`.
    pub(crate) kib: f64,
    /// Open file descriptors.
    pub(crate) files: usize,
}

impl Gateway {
    pub(crate) fn start(setup: &Setup, endpoints: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pair = dev_cert::generate(&[]).unwrap();
        fs::write(dir.path().join("dev.pem"), &pair.certificate_pem).unwrap();
        fs::write(dir.path().join("dev.key"), &pair.key_pem).unwrap();
        let address = SocketAddr::new(setup.listen, process::free_address().port());
        let config = dir.path().join("tidegate.toml");
        fs::write(&config, toml(setup, address, endpoints)).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("run").arg(config).stdout(Stdio::null()).stderr(log);
        let process = Process::start(&mut command);
        process::wait_for(address);
        let samples = Arc::default();
        let sampling = tokio::spawn(sample(process.id(), Arc::clone(&samples)));
        Self { address, certificate: dir.path().join("dev.pem"), process, samples, sampling, dir: Some(dir) }
    }

    /// The samples of every second so far.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap().clone()
    }

    /// One more, now.
    pub(crate) fn now(&self) -> Sample {
        look(self.process.id(), Duration::ZERO).expect("a gateway that runs")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.certificate.with_file_name("log")).unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Leaves the configuration and the log where they are, and says where.
    pub(crate) fn keep(&mut self) -> Option<PathBuf> {
        self.dir.take().map(TempDir::keep)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

async fn sample(id: u32, samples: Arc<Mutex<Vec<Sample>>>) {
    let began = Instant::now();
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        let Some(sample) = look(id, began.elapsed()) else { return };
        samples.lock().unwrap().push(sample);
    }
}

fn look(id: u32, at: Duration) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib = line.split_whitespace().nth(1)?.parse().ok()?;
    let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
    Some(Sample { at, kib, files })
}

/// KiB per minute, by least squares.
pub(crate) fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let minutes = |sample: &Sample| sample.at.as_secs_f64() / 60.0;
    let mean_x = samples.iter().map(minutes).sum::<f64>() / count;
    let mean_y = samples.iter().map(|sample| sample.kib).sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for sample in samples {
        let x = minutes(sample) - mean_x;
        above += x * (sample.kib - mean_y);
        below += x * x;
    }
    if below == 0.0 { 0.0 } else { above / below }
}

/// The middle one of their sizes.
pub(crate) fn median(samples: &[Sample]) -> f64 {
    let mut sizes: Vec<_> = samples.iter().map(|sample| sample.kib).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied().unwrap_or(0.0)
}

fn toml(setup: &Setup, listen: SocketAddr, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"http://{address}\"")).collect();
    let Setup { protocol, upstream, bridge, reconnect, .. } = setup;
    format!(
        r#"
[server]
drain_timeout = "1s"

[log]
format = "json"
filter = "info,tidegate::bridge=debug"

[[listener]]
address = "{listen}"
tls = {{ certificate = "dev.pem", key = "dev.key" }}
max_connections = 100000

[upstream.app]
endpoints = [{}]
protocol = "{protocol}"
max_streams_per_connection = 1000
{upstream}

[[route]]
path = "/chat"
auth = "none"

[route.bridge]
upstream = "app"
events = "/events"
messages = "/messages"
{bridge}

{}
"#,
        endpoints.join(", "),
        if reconnect.is_empty() { String::new() } else { format!("[route.bridge.reconnect]\n{reconnect}") },
    )
}
