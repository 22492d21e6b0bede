//! What is shown of one connection: written by its task alone, read by whoever looks.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use uuid::Uuid;

use crate::identity::Holder;
use crate::session::{Counts, StreamState};
use crate::telemetry::Opening;
use crate::telemetry::metrics::{COUNTED, counts_of, values};

/// One live connection.
///
/// 288 bytes. Its place in the registry and the connection's own handle add 40
/// to that; 330 in all is the most that being looked at may cost a connection.
#[derive(Debug)]
pub struct Entry {
    id: Uuid,
    route: Arc<str>,
    peer: SocketAddr,
    upstream: Arc<str>,
    /// The only thing here that is locked: it changes when the event stream is opened again, and never per message.
    endpoint: Mutex<Arc<str>>,
    opened: Instant,
    counts: [AtomicU64; COUNTED],
    /// In 32 bits: what the configuration lets wait on one side is hardly more than 1 GiB.
    queued_up: AtomicU32,
    queued_down: AtomicU32,
    stream: AtomicU8,
    /// Whom it belongs to; shared with the connection's lines in the log.
    holder: Option<Arc<Holder>>,
    /// Whether it has to end, until its task has seen that; and how that task is woken.
    revoked: AtomicBool,
    waker: AtomicWaker,
    /// Where it stands in its shard; read and written under the shard's lock.
    place: AtomicU32,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What it has carried so far.
    pub counts: Counts,
    /// Bytes of client messages that wait for upstream.
    pub queued_up: usize,
    /// Bytes that wait for the client to read them.
    pub queued_down: usize,
    /// How its event stream stands.
    pub stream: StreamState,
}

impl Entry {
    pub(super) fn new(opening: &Opening, now: Instant) -> Self {
        Self {
            id: opening.connection,
            route: opening.route.clone(),
            peer: opening.peer,
            upstream: opening.upstream.clone(),
            endpoint: Mutex::new(opening.endpoint.clone()),
            opened: now,
            counts: Default::default(),
            queued_up: AtomicU32::new(0),
            queued_down: AtomicU32::new(0),
            stream: AtomicU8::new(StreamState::Open as u8),
            holder: opening.holder.clone(),
            revoked: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            place: AtomicU32::new(0),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Path pattern of its route.
    #[must_use]
    pub fn route(&self) -> &Arc<str> {
        &self.route
    }

    /// Where the client connects from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Name of its upstream.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Host and port of the endpoint that holds its event stream, or held it last.
    #[must_use]
    pub fn endpoint(&self) -> Arc<str> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom it belongs to, if its client had to prove that.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_deref()
    }

    /// Asks its task to end it, because what its client had proven was taken back.
    pub fn revoke(&self) {
        self.revoked.store(true, Release);
        self.waker.wake();
    }

    /// Ready once, when the task has to end it. Costs two atomic operations while it is not.
    pub(super) fn poll_revoked(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        // Looked at after the waker stands there: a word that comes in between finds it.
        if self.revoked.load(Acquire) && self.revoked.swap(false, AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// How long it is open at `now`.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.opened)
    }

    /// How it stood when it last said so. The numbers are read one by one: a message can be in one of them and not yet in
    /// another.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let stream = usize::from(self.stream.load(Relaxed));
        Snapshot {
            counts: counts_of(self.counts.each_ref().map(|count| count.load(Relaxed))),
            queued_up: self.queued_up.load(Relaxed) as usize,
            queued_down: self.queued_down.load(Relaxed) as usize,
            stream: StreamState::ALL.get(stream).copied().unwrap_or_default(),
        }
    }

    pub(super) fn store(&self, snapshot: &Snapshot) {
        for (shown, count) in self.counts.iter().zip(values(&snapshot.counts)) {
            shown.store(count, Relaxed);
        }
        self.queued_up.store(u32::try_from(snapshot.queued_up).unwrap_or(u32::MAX), Relaxed);
        self.queued_down.store(u32::try_from(snapshot.queued_down).unwrap_or(u32::MAX), Relaxed);
        self.stream.store(snapshot.stream as u8, Relaxed);
    }

    pub(super) fn set_endpoint(&self, endpoint: Arc<str>) {
        *self.endpoint.lock().unwrap_or_else(PoisonError::into_inner) = endpoint;
    }

    pub(super) fn place(&self) -> usize {
        self.place.load(Relaxed) as usize
    }

    pub(super) fn set_place(&self, place: usize) {
        self.place.store(u32::try_from(place).unwrap_or(u32::MAX), Relaxed);
    }
}
