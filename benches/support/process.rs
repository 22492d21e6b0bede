//! Other processes: started, watched through /proc, and gone when their handle is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// A started process; dropping it ends it.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    /// This binary again, in another part.
    pub(crate) fn again(part: &str, args: &[String]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self::start(command.arg(part).args(args).stdout(Stdio::piped()))
    }

    pub(crate) fn first_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it reads and what it writes; once.
    pub(crate) fn pipes(&mut self) -> (OwnedFd, OwnedFd) {
        (self.0.stdin.take().unwrap().into(), self.0.stdout.take().unwrap().into())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    /// Ends it without a word, as a crash does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// The processes that this one has started.
    pub(crate) fn children(&self) -> Vec<u32> {
        let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        ids.filter(|id| stat(*id).is_some_and(|fields| fields[1] == self.id().to_string())).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGTERM first: nginx ends its workers on it.
        let id = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(id, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(3);
        while self.0.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

/// An address that nobody listens on, below the ports that the kernel gives to clients: one of those could end up
/// connected to itself.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], first + NEXT.fetch_add(1, Ordering::Relaxed)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until somebody accepts there.
pub(crate) fn wait_for(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {address}");
        sleep(Duration::from_millis(20));
    }
}

/// User and system time of a process so far. The kernel counts it in ticks of 10 ms.
pub(crate) fn cpu(id: u32) -> Duration {
    let fields = stat(id).unwrap_or_else(|| panic!("process {id} is gone"));
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The fields of /proc/ID/stat that come after the name, which may hold spaces.
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What belongs to it alone and was written to, swapped out or not.
    pub(crate) private: f64,
    /// What of it is resident.
    pub(crate) resident: f64,
}

impl Memory {
    pub(crate) fn of(ids: &[u32]) -> Self {
        ids.iter().fold(Self::default(), |sum, id| {
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
            let field = |name: &str| -> f64 {
                let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().parse().unwrap()
            };
            Self {
                private: sum.private + field("Private_Dirty:") + field("Swap:"),
                resident: sum.resident + field("Rss:"),
            }
        })
    }
}
