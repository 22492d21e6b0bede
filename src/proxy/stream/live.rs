//! The event streams that are open, so that they can be counted and sent away, and the sums of those that were.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use uuid::Uuid;

use super::Cause;
use crate::identity::{Holder, Revocation};

/// All open streams of a gateway, and what it has counted of those since it started.
#[derive(Default)]
pub struct Streams {
    /// Whether what a client had proven was taken back.
    sent_away: OnceLock<SentAway>,
    /// Locked when a stream opens, when it ends, and while somebody counts; never for what passes through.
    state: Mutex<State>,
}

type SentAway = Box<dyn Fn(&Holder) -> bool + Send + Sync>;

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Streams({} open)", self.lock().live.len())
    }
}

#[derive(Debug, Default)]
struct State {
    live: HashMap<Uuid, Arc<Entry>>,
    routes: BTreeMap<Arc<str>, Totals>,
}

/// What the streams of one route add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Streams that are open.
    pub open: u64,
    /// Streams that were ever opened.
    pub opened: u64,
    /// Those that ended, in the order of [`Cause::ALL`].
    pub closed: [u64; Cause::ALL.len()],
    /// Heartbeats that were put in, of the streams that ended.
    pub heartbeats: u64,
    /// Clients that were told to come back because upstream was away.
    pub away: u64,
}

/// One open stream.
#[derive(Debug)]
pub struct Entry {
    /// By which the log knows it.
    pub id: Uuid,
    /// Path pattern of its route.
    pub route: Arc<str>,
    /// Where its client connects from.
    pub peer: SocketAddr,
    /// Whom it belongs to, if its client had to prove that.
    pub holder: Option<Arc<Holder>>,
    /// Host and port of the endpoint that it comes from.
    pub endpoint: Box<str>,
    /// When it was opened.
    pub opened: Instant,
    revoked: AtomicBool,
    waker: AtomicWaker,
}

impl Entry {
    /// A stream that opens now.
    #[must_use]
    pub fn new(
        id: Uuid,
        route: Arc<str>,
        peer: SocketAddr,
        holder: Option<Arc<Holder>>,
        endpoint: impl Into<Box<str>>,
    ) -> Self {
        let (revoked, waker) = (AtomicBool::new(false), AtomicWaker::new());
        Self { id, route, peer, holder, endpoint: endpoint.into(), opened: Instant::now(), revoked, waker }
    }

    fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it has to end because what its client had proven was taken back.
    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Wakes this when it has to.
    pub(super) fn watch(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

impl Streams {
    /// Shows these routes even while nothing was counted of them.
    pub fn show(&self, routes: impl IntoIterator<Item = Arc<str>>) {
        let mut state = self.lock();
        for route in routes {
            state.totals(&route);
        }
    }

    /// Asks this from now on whether what a client had proven was taken back; the first to be given counts.
    pub fn ask(&self, sent_away: impl Fn(&Holder) -> bool + Send + Sync + 'static) {
        let _ = self.sent_away.set(Box::new(sent_away));
    }

    /// Takes a stream in. What its client had proven may have been taken back while it was being opened.
    pub(super) fn open(self: &Arc<Self>, entry: Entry) -> Live {
        let entry = Arc::new(entry);
        let mut state = self.lock();
        let totals = state.totals(&entry.route);
        totals.opened += 1;
        totals.open += 1;
        state.live.insert(entry.id, entry.clone());
        drop(state);
        // After it stands here: whoever takes something back now, finds it.
        if let (Some(holder), Some(sent_away)) = (&entry.holder, self.sent_away.get())
            && sent_away(holder)
        {
            entry.revoke();
        }
        Live { entry, streams: self.clone() }
    }

    /// Counts a client of this route that was told to come back.
    pub fn away(&self, route: &Arc<str>) {
        self.lock().totals(route).away += 1;
    }

    /// Ends the open streams that a revocation is about; gives their number.
    pub fn revoke(&self, revocation: &Revocation) -> usize {
        let state = self.lock();
        let concerned = state.live.values().filter(|entry| revocation.ends(entry.id, entry.holder.as_deref()));
        concerned.map(|entry| entry.revoke()).count()
    }

    /// What was counted so far, by route.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<Arc<str>, Totals> {
        self.lock().routes.clone()
    }

    /// Those that are open, or those of one route, in no order.
    #[must_use]
    pub fn list(&self, route: Option<&str>) -> Vec<Arc<Entry>> {
        let state = self.lock();
        state.live.values().filter(|entry| route.is_none_or(|route| *entry.route == *route)).cloned().collect()
    }

    /// A panic while this is held leaves numbers behind that are whole all the same.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn totals(&mut self, route: &Arc<str>) -> &mut Totals {
        self.routes.entry(route.clone()).or_default()
    }
}

/// An open stream's own place among them.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) entry: Arc<Entry>,
    streams: Arc<Streams>,
}

impl Live {
    /// Ends it.
    pub(super) fn close(&self, cause: Cause, heartbeats: u64) {
        let mut state = self.streams.lock();
        if state.live.remove(&self.entry.id).is_none() {
            return;
        }
        // Half of what is held is given back at a time, so that a burst does not cost memory for ever.
        if state.live.len() < state.live.capacity() / 4 {
            let length = state.live.len();
            state.live.shrink_to(length * 2);
        }
        let totals = state.totals(&self.entry.route);
        totals.open = totals.open.saturating_sub(1);
        totals.heartbeats += heartbeats;
        if let Some(closed) = totals.closed.get_mut(cause as usize) {
            *closed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::identity::{Subject, What};

    fn entry(number: u128, subject: &str) -> Entry {
        let holder = Holder {
            subject: Subject::new(subject).unwrap(),
            ticket: None,
            keys: Vec::new(),
            issued: SystemTime::UNIX_EPOCH,
        };
        Entry::new(Uuid::from_u128(number), "/r".into(), ([127, 0, 0, 1], 1).into(), Some(Arc::new(holder)), "a:1")
    }

    #[test]
    fn streams_are_counted_while_they_are_open_and_afterwards() {
        let streams = Arc::new(Streams::default());
        let (one, two) = (streams.open(entry(1, "a")), streams.open(entry(2, "b")));
        assert_eq!(streams.totals()["/r"].open, 2);
        one.close(Cause::Left, 3);
        one.close(Cause::Left, 3);
        streams.away(&"/r".into());
        let totals = &streams.totals()["/r"];
        assert_eq!((totals.open, totals.opened, totals.heartbeats, totals.away), (1, 2, 3, 1));
        assert_eq!(totals.closed[Cause::Left as usize], 1);
        assert_eq!(
            (streams.list(None).len(), streams.list(Some("/r")).len(), streams.list(Some("/")).len()),
            (1, 1, 0)
        );
        two.close(Cause::Ended, 0);
    }

    #[test]
    fn a_revocation_reaches_those_that_it_is_about_and_those_who_are_just_coming_in() {
        let streams = Arc::new(Streams::default());
        let (ada, eve) = (streams.open(entry(1, "ada")), streams.open(entry(2, "eve")));
        let what = What::read("subject", "ada").unwrap();
        let revocation = Revocation { what, at: SystemTime::UNIX_EPOCH, id: Uuid::nil() };
        assert_eq!(streams.revoke(&revocation), 1);
        assert!(ada.entry.is_revoked() && !eve.entry.is_revoked());
        streams.ask(|holder| holder.subject.as_str() == "ada");
        let late = streams.open(entry(3, "ada"));
        assert!(late.entry.is_revoked());
    }
}
