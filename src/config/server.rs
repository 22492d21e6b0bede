//! `[server]`: the process as a whole.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::TableReader;
use super::trust;
use crate::access::caller::PrefixLengths;
use crate::protocol::forwarded::Trust;

/// From what a process with one route needs to start, up to what no machine has.
const MAX_MEMORY: RangeInclusive<usize> = 16 * 1024 * 1024..=16 * 1024 * 1024 * 1024 * 1024;

/// What holds for the process as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// How long open connections may take to end after the signal to stop; 1 s to 1 h.
    pub drain_timeout: Duration,
    /// Worker threads, at most 1024; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
    /// Resident memory in bytes above which no new connection is let in; `None` is four fifths of what the process may
    /// have.
    pub max_memory: Option<u64>,
    /// How much of an address stands for one client.
    pub prefixes: PrefixLengths,
    /// Who may speak for clients.
    pub trust: Trust,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            drain_timeout: Duration::from_secs(10),
            threads: None,
            max_memory: None,
            prefixes: PrefixLengths::default(),
            trust: Trust::default(),
        }
    }
}

pub(super) fn read(mut table: TableReader<'_>) -> Server {
    let defaults = Server::default();
    let range = Duration::from_secs(1)..=Duration::from_hours(1);
    let drain_timeout = table.duration("drain_timeout", defaults.drain_timeout, range);
    let threads = table.field("threads").and_then(|field| field.integer(1..=1024));
    let threads = threads.and_then(|threads| NonZeroUsize::new(usize::try_from(threads).ok()?));
    let max_memory = table.field("max_memory").and_then(|field| field.size(MAX_MEMORY)).map(|bytes| bytes as u64);
    let mut bits = |key, default: u8, range| {
        let bits = table.field(key).and_then(|field| field.integer(range));
        bits.and_then(|bits| u8::try_from(bits).ok()).unwrap_or(default)
    };
    let prefixes = PrefixLengths {
        v4: bits("ipv4_prefix", defaults.prefixes.v4, 8..=32),
        v6: bits("ipv6_prefix", defaults.prefixes.v6, 16..=128),
    };
    let trust = trust::read(&mut table);
    table.finish();
    Server { drain_timeout, threads, max_memory, prefixes, trust }
}
