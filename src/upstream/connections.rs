//! The open connections to one endpoint: idle HTTP/1.1 ones, and HTTP/2 ones with room for streams.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};

use super::lock;
use super::request::RequestBody;

/// What a request is for; event streams must not take the last places from POSTs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Opens an event stream, which stays for as long as the client does.
    Events,
    /// Carries one message.
    Message,
    /// Is passed on for a client, and takes whatever time its answer takes.
    Request,
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// The address at its other end.
    pub address: IpAddr,
    /// How many times the endpoint had lost addresses when this was known to be one of its own.
    pub epoch: u32,
}

/// One place on an HTTP/2 connection.
#[derive(Debug)]
pub(super) struct StreamSlot(Arc<AtomicUsize>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections, and the limits for them.
#[derive(Debug)]
pub(super) struct Connections {
    max_idle: usize,
    idle_timeout: Duration,
    max_streams: usize,
    http1: Mutex<Vec<IdleHttp1>>,
    http2: Mutex<Vec<Http2>>,
    /// The addresses that the endpoint's name was last known to have.
    known: Mutex<Vec<IpAddr>>,
    /// Counts how often one of them was gone.
    epoch: AtomicU32,
}

#[derive(Debug)]
struct IdleHttp1 {
    sender: http1::SendRequest<RequestBody>,
    origin: Origin,
    until: Instant,
}

#[derive(Debug)]
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    address: IpAddr,
    /// Streams that the peer allows.
    allowed: Arc<AtomicUsize>,
    /// Streams that we have open.
    open: Arc<AtomicUsize>,
    /// Since when a sweep has found none.
    idle_since: Option<Instant>,
}

impl Http2 {
    fn take_place(&self) -> (http2::SendRequest<RequestBody>, StreamSlot) {
        self.open.fetch_add(1, Ordering::Relaxed);
        (self.sender.clone(), StreamSlot(self.open.clone()))
    }
}

impl Connections {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration, max_streams: usize) -> Self {
        Self {
            max_idle,
            idle_timeout,
            max_streams,
            http1: Mutex::default(),
            http2: Mutex::default(),
            known: Mutex::default(),
            epoch: AtomicU32::new(0),
        }
    }

    /// To be asked before the addresses of a new connection are looked up.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The idle HTTP/1.1 connection that was used last.
    pub(super) fn take_idle(&self) -> Option<(http1::SendRequest<RequestBody>, Origin)> {
        loop {
            let idle = lock(&self.http1).pop()?;
            if idle.until > Instant::now() {
                return Some((idle.sender, idle.origin));
            }
        }
    }

    /// Takes back an HTTP/1.1 connection whose answer was read to its end. One from before an address was lost is
    /// closed: whether it led to that address is no longer known here, and a new connection is cheap.
    pub(super) fn recycle(&self, sender: http1::SendRequest<RequestBody>, origin: Origin, hint: Option<Duration>) {
        let keep = hint.map_or(self.idle_timeout, |hint| hint.min(self.idle_timeout));
        if sender.is_closed() || keep.is_zero() || origin.epoch != self.epoch() {
            return;
        }
        let mut idle = lock(&self.http1);
        if idle.len() < self.max_idle {
            idle.push(IdleHttp1 { sender, origin, until: Instant::now() + keep });
        }
    }

    /// A place on an HTTP/2 connection that is there already.
    pub(super) fn place(&self, purpose: Use) -> Option<(http2::SendRequest<RequestBody>, StreamSlot)> {
        let mut connections = lock(&self.http2);
        connections.retain(|connection| !connection.sender.is_closed());
        connections.iter().find_map(|connection| {
            let allowed = connection.allowed.load(Ordering::Relaxed).min(self.max_streams);
            let limit = match purpose {
                // A stream above the peer's limit would wait without an error, and a POST behind streams for ever.
                Use::Events => allowed.saturating_sub((allowed / 8).max(1)),
                Use::Request => allowed.saturating_sub((allowed / 16).max(1)),
                Use::Message => allowed,
            };
            (connection.open.load(Ordering::Relaxed) < limit.max(1)).then(|| connection.take_place())
        })
    }

    /// Takes in a new HTTP/2 connection and gives its first place.
    pub(super) fn add_http2(
        &self,
        sender: http2::SendRequest<RequestBody>,
        allowed: Arc<AtomicUsize>,
        address: IpAddr,
    ) -> (http2::SendRequest<RequestBody>, StreamSlot) {
        let connection = Http2 { sender, address, allowed, open: Arc::default(), idle_since: None };
        let place = connection.take_place();
        lock(&self.http2).push(connection);
        place
    }

    /// Gives no further request to the HTTP/2 connection that this place is on. It ends when its streams have.
    pub(super) fn retire(&self, place: &StreamSlot) {
        lock(&self.http2).retain(|connection| !Arc::ptr_eq(&connection.open, &place.0));
    }

    /// Closes what is idle for too long, and forgets what is closed.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        lock(&self.http1).retain(|idle| idle.until > now && !idle.sender.is_closed());
        let mut http2 = lock(&self.http2);
        http2.retain(|connection| !connection.sender.is_closed());
        // One is kept however idle, so that the next client need not wait for a handshake.
        let mut spare = http2.len().saturating_sub(1);
        http2.retain_mut(|connection| {
            if connection.open.load(Ordering::Relaxed) > 0 {
                connection.idle_since = None;
                return true;
            }
            let since = *connection.idle_since.get_or_insert(now);
            let over = spare > 0 && now.saturating_duration_since(since) >= self.idle_timeout;
            spare -= usize::from(over);
            !over
        });
    }

    /// The endpoint's name has these addresses now: no further request goes to others. Gives those that are gone.
    pub(super) fn keep_only(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let known = std::mem::replace(&mut *lock(&self.known), addresses.to_vec());
        let gone = gone(&known, addresses);
        if !gone.is_empty() {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        let epoch = self.epoch();
        lock(&self.http1).retain_mut(|idle| {
            idle.origin.epoch = epoch;
            addresses.contains(&idle.origin.address)
        });
        lock(&self.http2).retain(|connection| addresses.contains(&connection.address));
        gone
    }

    /// Open HTTP/2 connections and idle HTTP/1.1 ones.
    pub(super) fn counts(&self) -> (usize, usize) {
        let http2 = lock(&self.http2).iter().filter(|connection| !connection.sender.is_closed()).count();
        (http2, lock(&self.http1).len())
    }
}

fn gone(before: &[IpAddr], now: &[IpAddr]) -> Vec<IpAddr> {
    before.iter().filter(|address| !now.contains(address)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lost_address_begins_a_new_epoch() {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let connections = Connections::new(1, Duration::from_secs(1), 10);
        assert_eq!((connections.keep_only(&[address(1)]), connections.epoch()), (vec![], 0));
        assert_eq!((connections.keep_only(&[address(2), address(1)]), connections.epoch()), (vec![], 0));
        assert_eq!((connections.keep_only(&[address(2)]), connections.epoch()), (vec![address(1)], 1));
        assert_eq!((connections.keep_only(&[address(2)]), connections.epoch()), (vec![], 1));
    }
}
