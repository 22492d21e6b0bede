//! How much memory the process holds, and how much it may hold before the kernel ends it. Linux alone says either.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Resident memory of this process.
#[derive(Debug)]
pub struct Resident {
    statm: File,
    page: u64,
}

impl Resident {
    /// Opens what it is read from.
    ///
    /// # Errors
    ///
    /// Fails where there is no `/proc/self/statm`.
    pub fn open() -> io::Result<Self> {
        Ok(Self { statm: File::open("/proc/self/statm")?, page: rustix::param::page_size() as u64 })
    }

    /// Bytes of it now. Takes a few microseconds and touches no disk.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read or holds something else.
    pub fn read(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let length = self.statm.read_at(&mut text, 0)?;
        let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok());
        let pages = text.and_then(resident_pages).ok_or(io::ErrorKind::InvalidData)?;
        Ok(pages.saturating_mul(self.page))
    }
}

/// When memory that is free, but lies between blocks in use, should be given back to the system.
///
/// Connections that come and go, and buffers that grow for a moment, leave such memory behind; without this the resident size
/// would creep up to what the worst minute needed, and stay there.
#[derive(Debug, Default)]
pub struct Tidying {
    /// The least that was held since it was last done, in bytes.
    floor: Option<u64>,
    done: Option<Instant>,
}

impl Tidying {
    /// It takes a lock of the allocator for about a millisecond per 30 MiB.
    const EVERY: Duration = Duration::from_mins(1);
    /// Less than this is not worth it, in bytes.
    const LEAST: u64 = 1024 * 1024;

    /// Whether it is due, with `resident` bytes held at `now`.
    pub fn is_due(&mut self, resident: u64, now: Instant) -> bool {
        let floor = self.floor.map_or(resident, |floor| floor.min(resident));
        self.floor = Some(floor);
        let rested = self.done.is_none_or(|done| now.saturating_duration_since(done) >= Self::EVERY);
        rested && resident - floor >= Self::LEAST.max(floor / 32)
    }

    /// It was done at `now`, and `resident` bytes are held.
    pub fn done(&mut self, resident: u64, now: Instant) {
        self.floor = Some(resident);
        self.done = Some(now);
    }
}

/// Bytes that this process may hold: the lowest limit of the control groups (version 1 or 2) that it is in, or the machine's
/// memory, whichever is less. `None` where nothing says so.
#[must_use]
pub fn limit() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(machine).min()
}

/// The second number of `/proc/self/statm` (proc(5)).
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files with the limits of the groups in `/proc/self/cgroup` (cgroups(7)) and of all groups above them: each of them
/// holds. A limit that is none is the word `max` in version 2, and more than any machine has in version 1.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|group| Path::new(root).join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_it_has_grown_and_not_too_often() {
        const MIB: u64 = 1024 * 1024;
        let start = Instant::now();
        let mut tidying = Tidying::default();
        assert!(!tidying.is_due(100 * MIB, start));
        assert!(!tidying.is_due(103 * MIB, start));
        assert!(tidying.is_due(104 * MIB, start));
        tidying.done(101 * MIB, start);
        assert!(!tidying.is_due(200 * MIB, start + Duration::from_secs(59)));
        assert!(tidying.is_due(200 * MIB, start + Duration::from_mins(1)));
        // What went by itself is the new beginning.
        tidying.done(200 * MIB, start);
        let later = start + Duration::from_mins(1);
        assert!(!tidying.is_due(10 * MIB, later) && tidying.is_due(11 * MIB, later));
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(resident_pages("51204 3071 2110 1 0 4711 0\n"), Some(3071));
        assert_eq!(resident_pages("51204"), None);
        assert_eq!(mem_total("MemTotal:       24605292 kB\nMemFree: 1 kB\n"), Some(24_605_292 * 1024));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn limits_are_looked_for_in_every_group_up_to_the_root() {
        let names = |groups| limit_files(groups).into_iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
        assert_eq!(
            names("0::/a/b\n"),
            ["/sys/fs/cgroup/a/b/memory.max", "/sys/fs/cgroup/a/memory.max", "/sys/fs/cgroup/memory.max"]
        );
        assert_eq!(
            names("4:memory:/pod\n3:cpu,cpuacct:/pod\n"),
            ["/sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        );
        assert_eq!(names("nonsense\n"), [""; 0]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_holds_some_memory_and_less_than_it_may() {
        let held = Resident::open().and_then(|resident| resident.read()).expect("there is a /proc");
        let limit = limit().expect("there is a limit");
        assert!((1 << 20..limit).contains(&held), "{held} of {limit}");
    }
}
