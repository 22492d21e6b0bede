//! The live connections, and the sums of those before them: what `/connections` and `/metrics` are made of.
//!
//! A connection stands in one shard from its opening to its end. It writes its own numbers without a lock; its shard is
//! locked when it opens, when it ends and while somebody counts. At its end its numbers move to the sums of its route under
//! that lock, so that a sum never counts it twice and never misses it.

mod entry;
mod http2;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

pub use entry::{Entry, Snapshot};
pub use http2::Http2End;

use super::sides::Sides;
use crate::identity::Revocation;
use crate::session::{Cause, Counts, StreamState};
use crate::telemetry::Opening;
use crate::telemetry::metrics::{COUNTED, values};

/// Locks that the connections share, so that those which open and end at once seldom meet; a power of two.
const SHARDS: usize = 16;

/// All live connections of a gateway, and what it has counted since it started.
#[derive(Debug, Default)]
pub struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    /// Requests refused, by the kind of their problem.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    handshakes: [AtomicU64; Handshake::ALL.len()],
    sides: Sides,
    http2: [AtomicU64; Http2End::ALL.len()],
    write_timeouts: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    live: Vec<Arc<Entry>>,
    routes: HashMap<Arc<str>, Totals>,
}

/// What the connections of one route add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections that were ever let in.
    pub opened: u64,
    /// Connections that are open.
    pub open: u64,
    /// Those that are open, by the state of their event stream.
    pub streams: [u64; StreamState::ALL.len()],
    /// Connections that ended, by the label of their cause.
    pub closed: BTreeMap<&'static str, u64>,
    /// What all of them have counted, as [`values`] orders it.
    pub counts: [u64; COUNTED],
    /// Bytes of client messages that wait for upstream.
    pub queued_up: u64,
    /// Bytes that wait for clients.
    pub queued_down: u64,
}

/// Why a client was closed before it could send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Its listener has `max_connections` already.
    Full,
    /// The TLS handshake failed or took too long.
    Tls,
    /// There was no PROXY protocol header, a bad one, or one from somebody who may not send it.
    ProxyHeader,
}

impl Handshake {
    /// Every one, in the order of the counters.
    pub const ALL: [Self; 3] = [Self::Full, Self::Tls, Self::ProxyHeader];

    /// The word for it in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Tls => "tls",
            Self::ProxyHeader => "proxy-header",
        }
    }
}

impl Registry {
    /// A registry that shows these routes from the beginning, with nothing in them.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Arc<str>>) -> Self {
        let registry = Self::default();
        if let Some(shard) = registry.shards.first() {
            lock(shard).routes.extend(routes.into_iter().map(|route| (route, Totals::default())));
        }
        registry
    }

    /// Shows these routes from now on, with what was counted of them, and no others but those that still have connections.
    pub fn show(&self, routes: &[Arc<str>]) {
        self.sides.keep(routes);
        for (at, shard) in self.shards.iter().enumerate() {
            let mut shard = lock(shard);
            let Shard { live, routes: shown } = &mut *shard;
            shown.retain(|route, _| routes.contains(route) || live.iter().any(|entry| entry.route() == route));
            if at == 0 {
                for route in routes {
                    shown.entry(route.clone()).or_default();
                }
            }
        }
    }

    /// Takes a connection in, whose client has just been let in.
    #[must_use]
    pub fn open(self: &Arc<Self>, opening: &Opening, now: Instant) -> Live {
        let entry = Arc::new(Entry::new(opening, now));
        let mut shard = self.shard(&entry);
        shard.totals(entry.route()).opened += 1;
        entry.set_place(shard.live.len());
        shard.live.push(entry.clone());
        drop(shard);
        Live { entry: Some(entry), registry: self.clone() }
    }

    /// Counts a request that was answered by a refusal of this kind.
    pub fn refused(&self, kind: &'static str) {
        *lock(&self.refused).entry(kind).or_default() += 1;
    }

    /// Counts a client that was closed before it could send a request.
    pub fn handshake_refused(&self, why: Handshake) {
        if let Some(count) = self.handshakes.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Handshakes on split routes.
    #[must_use]
    pub fn sides(&self) -> &Sides {
        &self.sides
    }

    /// Counts an HTTP/2 connection that was ended for what its client did.
    pub fn http2_ended(&self, why: Http2End) {
        if let Some(count) = self.http2.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// HTTP/2 connections that were ended for what their clients did, in the order of [`Http2End::ALL`].
    #[must_use]
    pub fn http2_ends(&self) -> [u64; Http2End::ALL.len()] {
        self.http2.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Counts a client connection that was cut because nothing of what it was sent was taken.
    pub fn write_timed_out(&self) {
        self.write_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Client connections that were cut because nothing of what they were sent was taken.
    #[must_use]
    pub fn write_timeouts(&self) -> u64 {
        self.write_timeouts.load(Ordering::Relaxed)
    }

    /// Requests refused so far, by the kind of their problem.
    #[must_use]
    pub fn requests_refused(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.refused).clone()
    }

    /// Clients that were closed before they could send a request, in the order of [`Handshake::ALL`].
    #[must_use]
    pub fn handshakes_refused(&self) -> [u64; Handshake::ALL.len()] {
        std::array::from_fn(|at| self.handshakes.get(at).map_or(0, |count| count.load(Ordering::Relaxed)))
    }

    /// What was counted so far, by route. Locks one shard at a time, for as long as it takes to add it up.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        let mut sums: BTreeMap<Arc<str>, Totals> = BTreeMap::new();
        for shard in &self.shards {
            let shard = lock(shard);
            for (route, totals) in &shard.routes {
                sums.entry(route.clone()).or_default().add(totals);
            }
            for entry in &shard.live {
                if let Some(sum) = sums.get_mut(entry.route()) {
                    sum.add_live(&entry.snapshot());
                }
            }
        }
        sums
    }

    /// The live connections, of one route if one is named, in no order. Locks as [`totals`](Self::totals) does.
    #[must_use]
    pub fn connections(&self, route: Option<&str>) -> Vec<Arc<Entry>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            found
                .extend(shard.live.iter().filter(|entry| route.is_none_or(|route| &**entry.route() == route)).cloned());
        }
        found
    }

    /// Ends the live connections that a revocation is about; gives their number. Whoever opens at the same time has to look
    /// for itself, after it stands here.
    pub fn revoke(&self, revocation: &Revocation) -> usize {
        let mut ended = 0;
        for shard in &self.shards {
            let shard = lock(shard);
            for entry in shard.live.iter().filter(|entry| revocation.ends(entry.id(), entry.holder())) {
                entry.revoke();
                ended += 1;
            }
        }
        ended
    }

    fn shard(&self, entry: &Entry) -> MutexGuard<'_, Shard> {
        // The last byte of a version 7 UUID is random. There is a shard at every index below their number.
        let at = usize::from(entry.id().as_bytes().last().copied().unwrap_or_default()) % SHARDS;
        let [first, ..] = &self.shards;
        lock(self.shards.get(at).unwrap_or(first))
    }

    fn close(&self, entry: &Entry, cause: &'static str, counts: [u64; COUNTED]) {
        let mut shard = self.shard(entry);
        shard.remove(entry);
        let totals = shard.totals(entry.route());
        *totals.closed.entry(cause).or_default() += 1;
        totals.count(&counts);
    }
}

impl Shard {
    fn totals(&mut self, route: &Arc<str>) -> &mut Totals {
        self.routes.entry(route.clone()).or_default()
    }

    fn remove(&mut self, entry: &Entry) {
        let at = entry.place();
        if self.live.get(at).is_some_and(|there| std::ptr::eq(Arc::as_ptr(there), entry)) {
            drop(self.live.swap_remove(at));
            if let Some(moved) = self.live.get(at) {
                moved.set_place(at);
            }
            // Half of what is held is given back at a time, so that a burst does not cost memory for ever.
            if self.live.len() < self.live.capacity() / 4 {
                self.live.shrink_to(self.live.len() * 2);
            }
        }
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        for (cause, count) in &other.closed {
            *self.closed.entry(cause).or_default() += count;
        }
        self.count(&other.counts);
    }

    fn add_live(&mut self, snapshot: &Snapshot) {
        self.open += 1;
        self.queued_up += snapshot.queued_up as u64;
        self.queued_down += snapshot.queued_down as u64;
        if let Some(streams) = self.streams.get_mut(snapshot.stream as usize) {
            *streams += 1;
        }
        self.count(&values(&snapshot.counts));
    }

    fn count(&mut self, counts: &[u64; COUNTED]) {
        for (sum, count) in self.counts.iter_mut().zip(counts) {
            *sum += count;
        }
    }
}

/// A connection's own place in the registry. It ends with [`close`](Self::close); one that is dropped before is counted as
/// a defect, with the numbers that it had last.
#[derive(Debug)]
pub struct Live {
    /// Taken at the end.
    entry: Option<Arc<Entry>>,
    registry: Arc<Registry>,
}

impl Live {
    /// Shows how things stand. Costs a store for each number and nothing else, so that it can be called after every turn.
    pub fn store(&self, snapshot: &Snapshot) {
        if let Some(entry) = &self.entry {
            entry.store(snapshot);
        }
    }

    /// Asks it to end: what its client had proven was taken back while it was being opened.
    pub fn revoke(&self) {
        if let Some(entry) = &self.entry {
            entry.revoke();
        }
    }

    /// Ready once, when what its client had proven was taken back.
    pub fn poll_revoked(&self, cx: &Context<'_>) -> Poll<()> {
        self.entry.as_ref().map_or(Poll::Pending, |entry| entry.poll_revoked(cx))
    }

    /// Says that the event stream is now at another endpoint.
    pub fn set_endpoint(&self, endpoint: impl Into<Arc<str>>) {
        if let Some(entry) = &self.entry {
            entry.set_endpoint(endpoint.into());
        }
    }

    /// Ends it: why, and what was carried in the end.
    pub fn close(mut self, cause: &Cause, counts: &Counts) {
        if let Some(entry) = self.entry.take() {
            self.registry.close(&entry, cause.label(), values(counts));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.registry.close(&entry, Cause::Defect.label(), values(&entry.snapshot().counts));
        }
    }
}

/// A panic while one of these is held leaves numbers behind that are whole all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
