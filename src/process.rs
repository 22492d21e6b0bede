//! What the process asks of the system, and what it is itself.

pub mod memory;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Raises the soft limit on open files to the hard one: every client takes a descriptor, and so may its event stream.
/// Failing leaves the limit as it was.
pub fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Makes glibc give memory back after a burst: few arenas, and thresholds that stay where they are instead of growing
/// with the largest block ever freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "mallopt has no safe wrapper; it takes two integers and touches no memory of ours")]
pub fn tame_allocator() {
    const RETURN_ABOVE: i32 = 128 * 1024;
    // SAFETY: called before any other thread exists; mallopt accepts any value and reports what it does not like.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, RETURN_ABOVE);
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURN_ABOVE);
    }
}

/// Gives memory that is free back to the system, also where it lies between blocks in use.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "malloc_trim has no safe wrapper; it takes an integer and touches no memory that is in use"
)]
pub fn give_memory_back() {
    // SAFETY: it may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators are left to themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_memory_back() {}

/// Other allocators are left to themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn tame_allocator() {}
