//! Programs that are run as their users run them: the real binary, and the tools that it is tried with.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::gateway::{certificates, trusting};
use super::{Client, must};

/// A running program. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// What a program prints, line by line; it never waits for the scene to read.
pub(crate) struct Lines {
    name: String,
    printed: watch::Receiver<Printed>,
    /// Lines that [`next`](Self::next) has gone past.
    passed: usize,
}

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts it with nothing to read.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// Starts it with `input` to read, and then the end of it.
    pub(crate) fn start_with_input(command: &mut Command, input: Vec<u8>) -> Self {
        let mut process = Self::spawn(command.stdin(Stdio::piped()));
        let mut stdin = process.child.stdin.take().unwrap();
        // A program that leaves without having read all is judged by what it printed.
        thread::spawn(move || drop(stdin.write_all(&input)));
        process
    }

    /// Starts it with something to read that never comes.
    pub(crate) fn start_with_silent_input(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("cannot run {program}: {error}; tests/run installs it"));
        let stdout = Lines::of(child.stdout.take().unwrap(), format!("stdout of {program}"));
        let stderr = Lines::of(child.stderr.take().unwrap(), format!("stderr of {program}"));
        Self { child, stdout, stderr }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Bytes of memory that it holds now.
    pub(crate) fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most bytes of memory that it has held so far.
    pub(crate) fn peak_resident(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits for its end and gives the exit code, -1 for one that was killed.
    pub(crate) async fn exit(&mut self) -> i32 {
        self.stdout.ended().await;
        self.stderr.ended().await;
        // Both outputs are closed: it has ended, or is about to.
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    fn of(output: impl Read + Send + 'static, name: String) -> Self {
        let (sender, printed) = watch::channel(Printed::default());
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                sender.send_modify(|printed| printed.lines.push(String::from_utf8_lossy(&line).into_owned()));
            }
            sender.send_modify(|printed| printed.ended = true);
        });
        Self { name, printed, passed: 0 }
    }

    /// The next line for which `wanted` gives something; it and those before it are passed.
    pub(crate) async fn next<T>(&mut self, what: &str, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let (mut found, mut passed) = (None, self.passed);
        let what = format!("{what} on the {}", self.name);
        let looked = self.printed.wait_for(|printed| {
            while found.is_none()
                && let Some(line) = printed.lines.get(passed)
            {
                passed += 1;
                found = wanted(line);
            }
            found.is_some() || printed.ended
        });
        let all = must(&what, looked).await.map_or_else(|_| String::new(), |printed| printed.lines.join("\n"));
        self.passed = passed;
        found.unwrap_or_else(|| panic!("it ended without {what}:\n{all}"))
    }

    /// Waits until the program has closed this output.
    pub(crate) async fn ended(&mut self) {
        let what = format!("the end of the {}", self.name);
        assert!(must(&what, self.printed.wait_for(|printed| printed.ended)).await.is_ok());
    }

    /// All lines so far, passed or not.
    pub(crate) fn all(&self) -> Vec<String> {
        self.printed.borrow().lines.clone()
    }

    /// All lines so far as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        self.all().iter().map(parse).collect()
    }
}

/// `tidegate` with these arguments.
pub(crate) fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments);
    command
}

/// `tidegate run` on a configuration of the scene's.
pub(crate) struct GatewayProcess {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// What clients trust.
    pub(crate) tls: Arc<ClientConfig>,
    files: TempDir,
}

impl GatewayProcess {
    /// Starts it and waits until it listens; `certs/dev.pem` and `certs/dev.key` are there. Logs must be JSON.
    pub(crate) async fn start(toml: &str) -> Self {
        Self::start_in(certificates(), toml).await
    }

    /// The same in a folder that holds further files.
    pub(crate) async fn start_in(files: TempDir, toml: &str) -> Self {
        let mut process = Self::run(&files, toml, &[]);
        let listens = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "listening").then(|| line["address"].as_str()?.parse().ok())?
        };
        let address = process.stderr.next("the line that says where it listens", listens).await;
        let tls = trusting(&files.path().join("certs/dev.pem"));
        Self { process, address, tls, files }
    }

    /// Runs it with further arguments and waits for nothing.
    pub(crate) fn run(files: &TempDir, toml: &str, arguments: &[&str]) -> Process {
        let file = files.path().join("tidegate.toml");
        std::fs::write(&file, toml).unwrap();
        Process::start(tidegate(&["run"]).arg(file).args(arguments))
    }

    /// The address of its admin listener, from the next line that says so.
    pub(crate) async fn admin(&mut self) -> SocketAddr {
        let listens = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "admin listening").then(|| line["address"].as_str()?.parse().ok())?
        };
        self.process.stderr.next("the line that says where the admin listener is", listens).await
    }

    /// The certificate that clients have to trust.
    pub(crate) fn certificate(&self) -> std::path::PathBuf {
        self.files.path().join("certs/dev.pem")
    }

    /// A client of it at `/chat`.
    pub(crate) async fn client(&self) -> Client {
        Client::ask_at(self.address, &self.tls, "/chat", &[]).await.unwrap()
    }

    /// A WebSocket URL of this gateway.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("wss://localhost:{}{target}", self.address.port())
    }

    /// The log line of a connection's end; the next one that was not yet asked for.
    pub(crate) async fn closed_line(&mut self) -> Value {
        let closed = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "connection closed").then_some(line)
        };
        self.process.stderr.next("the line about a connection's end", closed).await
    }
}

/// The first fenced block of this language in the README.
pub(crate) fn readme_block(language: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("\n```{language}\n")).expect("the README has such a block");
    rest.split_once("\n```\n").expect("the block has an end").0.to_owned() + "\n"
}

/// `text` with `from`, which must be there once, replaced.
pub(crate) fn adapted(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} should stand once in:\n{text}");
    text.replace(from, to)
}
