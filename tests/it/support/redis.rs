//! A real Redis of the scene's own, on a free port.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::Process;

/// A running server that keeps nothing on the disk. It is killed when this is dropped.
pub(crate) struct RedisServer {
    process: Process,
    pub(crate) port: u16,
    folder: TempDir,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// With further lines of its configuration.
    pub(crate) async fn with(lines: &str) -> Self {
        let port = free_port();
        Self::at(port, &format!("port {port}\n{lines}")).await
    }

    /// One that speaks TLS alone and knows one user, `gate`, with this password and no more rights than it needs.
    pub(crate) async fn locked(certs: &Path, password: &str) -> Self {
        let port = free_port();
        let (certificate, key) = (certs.join("dev.pem"), certs.join("dev.key"));
        let lines = format!(
            "port 0\ntls-port {port}\ntls-auth-clients no\ntls-cert-file {c}\ntls-key-file {k}\ntls-ca-cert-file {c}\n\
             user default off\nuser gate on >{password} ~tidegate:* +set +xadd +xrange +pexpire +ping\n",
            c = certificate.display(),
            k = key.display(),
        );
        Self::at(port, &lines).await
    }

    /// At the port where another one was.
    pub(crate) async fn again(port: u16) -> Self {
        Self::at(port, &format!("port {port}")).await
    }

    async fn at(port: u16, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("redis.conf");
        let always = format!("bind 127.0.0.1\nsave \"\"\nappendonly no\ndir {}\n", folder.path().display());
        std::fs::write(&file, format!("{always}{lines}\n")).unwrap();
        let mut process = Process::start(Command::new("redis-server").arg(&file));
        let ready = |line: &str| line.contains("Ready to accept connections").then_some(());
        process.stdout.next("the line that says that it is ready", ready).await;
        Self { process, port, folder }
    }

    /// Three masters that are one cluster.
    pub(crate) async fn cluster() -> [Self; 3] {
        let node = || async {
            Self::with(&format!("cluster-enabled yes\ncluster-port {}\ncluster-node-timeout 5000", free_port())).await
        };
        let nodes = [node().await, node().await, node().await];
        let mut command = Command::new("redis-cli");
        command.args(["--cluster", "create"]);
        command.args(nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port)));
        let mut create = Process::start(command.arg("--cluster-yes"));
        assert_eq!(create.exit().await, 0, "{:?}", create.stdout.all());
        nodes
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops it, and waits until it is gone.
    pub(crate) async fn stop(mut self) -> u16 {
        self.process.signal(Signal::TERM);
        self.process.exit().await;
        assert!(self.folder.path().exists());
        self.port
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
