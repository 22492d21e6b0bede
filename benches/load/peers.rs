//! What is measured: tidegate, nginx, and the floor, each as its own process in front of the same backend.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::commands::dev_cert;

use crate::clients::Target;
use crate::nginx;
use crate::process::{self, Memory, Process};
use crate::upstream::Upstream;

/// What tidegate signs its tickets with; the benchmark makes them itself.
pub(crate) const TICKET_KEY: &str = "a secret of 32 bytes, of the benchmark alone";

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// tidegate's bridge, with this HTTP version to the backend.
    Tidegate(Http),
    /// tidegate as a proxy: WebSockets are passed through, everything else is passed on, over HTTP/1.1.
    Passing,
    /// nginx.
    Nginx,
    /// A bare TLS copier, to the backend's WebSocket or to its HTTP.
    Floor(To),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    WebSocket,
    Http,
}

impl Peer {
    /// What clients of this peer send and get: the bridge's messages, or what only passes through.
    pub(crate) fn is_bridge(self) -> bool {
        matches!(self, Self::Tidegate(_))
    }

    pub(crate) fn start(self) -> Stand {
        let dir = tempfile::tempdir().unwrap();
        let certificate = dev_cert::generate(&[]).unwrap();
        std::fs::write(dir.path().join("dev.pem"), &certificate.certificate_pem).unwrap();
        std::fs::write(dir.path().join("dev.key"), &certificate.key_pem).unwrap();
        std::fs::write(dir.path().join("ticket.key"), TICKET_KEY).unwrap();
        let upstream = Upstream::start();
        let address = process::free_address();
        let process = match self {
            Self::Tidegate(http) => Process::start(&mut tidegate(dir.path(), address, http, &upstream)),
            Self::Passing => Process::start(&mut passing(dir.path(), address, &upstream)),
            Self::Nginx => Process::start(&mut nginx::command(dir.path(), address, &upstream)),
            Self::Floor(to) => {
                let forward = if to == To::Http { upstream.http } else { upstream.websocket };
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.current_dir(dir.path()).arg("floor").args([address.to_string(), forward.to_string()]);
                Process::start(&mut command)
            }
        };
        process::wait_for(address);
        // The connection that found it ready has to be gone again.
        sleep(Duration::from_millis(200));
        let ids = if self == Self::Nginx { process.children() } else { vec![process.id()] };
        assert_eq!(ids.len(), 1, "one worker");
        Stand { target: Target::new(address, &dir.path().join("dev.pem")), ids, _process: process, upstream, _dir: dir }
    }
}

/// A peer that serves, and its backend.
pub(crate) struct Stand {
    pub(crate) target: Target,
    pub(crate) upstream: Upstream,
    ids: Vec<u32>,
    _process: Process,
    _dir: TempDir,
}

impl Stand {
    pub(crate) fn cpu(&self) -> Duration {
        self.ids.iter().map(|id| process::cpu(*id)).sum()
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::of(&self.ids)
    }
}

fn tidegate(dir: &Path, listen: SocketAddr, http: Http, upstream: &Upstream) -> Command {
    let protocol = if http == Http::Two { "http2" } else { "http1" };
    let endpoint = upstream.http;
    // No pings, because clients that only count bytes do not answer them.
    let routes = format!(
        r#"
[ticket]
lifetime = "10m"
keys = [{{ id = "bench", algorithm = "HS256", file = "ticket.key" }}]

[upstream.app]
endpoints = ["http://{endpoint}"]
protocol = "{protocol}"

[[route]]
path = "/chat"
auth = "none"

[route.bridge]
upstream = "app"
events = "/events"
messages = "/messages"
ping_interval = "1h"

[[route]]
path = "/ticket"
auth = "ticket"
bridge = {{ upstream = "app", events = "/events", messages = "/messages", ping_interval = "1h" }}
"#
    );
    run(dir, listen, &routes)
}

fn passing(dir: &Path, listen: SocketAddr, upstream: &Upstream) -> Command {
    let (http, websocket) = (upstream.http, upstream.websocket);
    let routes = format!(
        r#"
[upstream.app]
endpoints = ["http://{http}"]

[upstream.old]
endpoints = ["http://{websocket}"]

[[route]]
path = "/chat"
auth = "none"
legacy = {{ upstream = "old" }}

[[route]]
path = "/{{*rest}}"
auth = "none"
proxy = {{ upstream = "app" }}
"#
    );
    run(dir, listen, &routes)
}

/// tidegate with these routes. No line for each connection, as with nginx; the line about the signal stays.
fn run(dir: &Path, listen: SocketAddr, routes: &str) -> Command {
    let file = dir.join("tidegate.toml");
    std::fs::write(
        &file,
        format!(
            r#"
[server]
threads = 1
drain_timeout = "1s"

[log]
filter = "warn"

[[listener]]
address = "{listen}"
tls = {{ certificate = "dev.pem", key = "dev.key" }}
max_connections = 100000
{routes}
"#
        ),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("run").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
