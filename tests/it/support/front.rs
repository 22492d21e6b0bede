//! Real proxies in front of a gateway: nginx, HAProxy and Caddy as Debian has them, each with a configuration of the scene's.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::gateway::certificates;
use super::process::{Process, tidegate};
use super::redis::free_port;

/// A proxy that serves HTTPS for localhost. It is killed when this is dropped.
pub(crate) struct Front {
    _process: Process,
    pub(crate) port: u16,
    files: TempDir,
}

impl Front {
    /// nginx, with these lines in its only location and with HTTP/2 for clients.
    pub(crate) async fn nginx(location: &str) -> Self {
        let (files, port) = (certificates(), free_port());
        let dir = files.path().display();
        let config = format!(
            "daemon off; worker_processes 1; pid {dir}/pid; error_log stderr notice;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n\
             access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
             fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
             server {{\n\
             listen 127.0.0.1:{port} ssl http2;\n\
             ssl_certificate {dir}/certs/dev.pem; ssl_certificate_key {dir}/certs/dev.key;\n\
             location / {{ {location} }}\n\
             }}\n\
             }}\n"
        );
        let file = write(&files, "nginx.conf", &config);
        let mut command = program("nginx");
        command.arg("-p").arg(files.path()).arg("-c").arg(file);
        Self::start(files, port, command, "start worker processes").await
    }

    /// HAProxy, with these lines in its only `listen` section, behind the defaults that Debian ships.
    pub(crate) async fn haproxy(lines: &str) -> Self {
        let (files, port) = (certificates(), free_port());
        let read = |name: &str| std::fs::read_to_string(files.path().join(name)).unwrap();
        let pair = write(&files, "both.pem", &(read("certs/dev.pem") + &read("certs/dev.key")));
        let config = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 50s\n timeout server 50s\n\
             listen way\n bind 127.0.0.1:{port} ssl crt {pair} alpn h2,http/1.1\n{lines}\n"
        );
        let file = write(&files, "haproxy.cfg", &config);
        let mut command = program("haproxy");
        // With a master it says when it has begun; without `-db` it would go into the background.
        command.args(["-W", "-db", "-f"]).arg(file);
        Self::start(files, port, command, "Loading success").await
    }

    /// Caddy, with these lines for its only site.
    pub(crate) async fn caddy(lines: &str) -> Self {
        let (files, port) = (certificates(), free_port());
        let dir = files.path().display();
        let config = format!(
            "{{\n admin off\n auto_https off\n storage file_system {dir}/store\n}}\n\
             https://localhost:{port} {{\n bind 127.0.0.1\n tls {dir}/certs/dev.pem {dir}/certs/dev.key\n{lines}\n}}\n"
        );
        let file = write(&files, "Caddyfile", &config);
        let mut command = program("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        Self::start(files, port, command, "serving initial configuration").await
    }

    async fn start(files: TempDir, port: u16, mut command: Command, ready: &str) -> Self {
        command.env("HOME", files.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        let mut process = Process::start(&mut command);
        process.stderr.next("the line that says that it serves", |line| line.contains(ready).then_some(())).await;
        Self { _process: process, port, files }
    }

    /// A URL of this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// What its clients have to trust.
    pub(crate) fn certificate(&self) -> std::path::PathBuf {
        self.files.path().join("certs/dev.pem")
    }

    /// What a doctor finds through it, and its exit code.
    pub(crate) async fn diagnosis(&self, idle: &str) -> Diagnosis {
        Diagnosis::of(&self.url("/"), &self.certificate(), &["--idle", idle]).await
    }
}

/// What `tidegate doctor --json` says.
#[derive(Debug)]
pub(crate) struct Diagnosis {
    pub(crate) exit: i32,
    pub(crate) report: Value,
}

impl Diagnosis {
    /// Runs it against a URL.
    pub(crate) async fn of(url: &str, certificate: &Path, more: &[&str]) -> Self {
        let certificate = certificate.to_str().unwrap();
        let mut doctor =
            Process::start(&mut tidegate(&[&["doctor", url, "--json", "--ca", certificate], more].concat()));
        let exit = doctor.exit().await;
        let (stdout, stderr) = (doctor.stdout.all().join("\n"), doctor.stderr.all().join("\n"));
        let report = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
        Self { exit, report }
    }

    /// The names of all that was found.
    pub(crate) fn found(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["id"].as_str().unwrap()).collect()
    }

    /// How bad a finding is, what was seen, and the first cure with the program that it is for.
    pub(crate) fn finding(&self, id: &str) -> (&str, &str, (&str, &str)) {
        let findings = self.report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["id"] == id);
        let found = found.unwrap_or_else(|| panic!("{id} is not among {:?}", self.found()));
        let text = |value: &'static str| found[value].as_str().unwrap();
        let cure = &found["cures"][0];
        (text("severity"), text("seen"), (cure[0].as_str().unwrap(), cure[1].as_str().unwrap()))
    }

    /// Milliseconds that the slowest event took from the gateway to us; the way of the request counts as well.
    pub(crate) fn slowest_event(&self) -> u64 {
        let events = self.report["measured"]["events"]["done"]["events"].as_array().unwrap();
        assert_eq!(events.len(), 10, "{}", self.report);
        let took = |event: &Value| event["arrived_us"].as_u64().unwrap() - event["sent_us"].as_u64().unwrap();
        events.iter().map(took).max().unwrap() / 1000
    }
}

/// A program, also where only root looks for it.
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap()));
    command
}

fn write(files: &TempDir, name: &str, text: &str) -> String {
    let path = files.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
