//! The sunset ledger: who still comes by WebSocket, with which client, and how far its end has come.
//!
//! `phase` says whom a route still lets in; `client` names a client, `count` counts different ones, `book` is what is known of one
//! route, and `report` how that is shown: all of them pure. `store` is the file in which it outlives the process, and `keeper`
//! the task that writes it, never in a handshake's way.

pub mod book;
pub mod client;
pub mod count;
pub mod keeper;
pub mod phase;
pub mod report;
pub mod store;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, header};

use self::book::{Book, Outcome, day_of};
use self::client::Client;
use self::phase::{Phase, unix};
use self::report::{Frame, Plans, Report};
use self::store::{Kept, Store, StoreError};

/// How often, and how long after each other, a store is tried at start that is in use: the process before may still be ending,
/// and `tidegate ledger` takes some milliseconds to read it.
const ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

/// What the ledger is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its file; `None`: what it knows ends with the process.
    pub path: Option<PathBuf>,
    /// How long what it learns may wait to be written.
    pub flush: Duration,
    /// The field that says which client it is, before `User-Agent`.
    pub client_header: Option<HeaderName>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { path: None, flush: Duration::from_secs(10), client_header: None }
    }
}

/// Why there can be no ledger.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no random bytes, without which people cannot be counted without being named.
    #[error("the system gives no random bytes for the ledger")]
    Random,
}

/// Who was let in.
#[derive(Clone, Copy, Debug)]
pub enum Visitor<'a> {
    /// An identity that was proven, by its subject.
    Identity(&'a str),
    /// Nobody that is known; the address, as far as addresses are told apart.
    Address(IpAddr),
}

/// The ledger of a process. It stays when the configuration is read again.
#[derive(Debug)]
pub struct Ledger {
    /// What people are hashed with.
    key: hmac::Key,
    key_bytes: [u8; 32],
    since: u64,
    client_header: Option<HeaderName>,
    books: RwLock<BTreeMap<Arc<str>, Arc<Mutex<Book>>>>,
    plans: RwLock<Arc<Plans>>,
    kept: bool,
    writes_failed: AtomicU64,
}

impl Ledger {
    /// The ledger with what its file has kept, if it has one; that goes to the [keeper](keeper::Keeper).
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(settings: &Settings, now: SystemTime) -> Result<(Arc<Self>, Option<Store>), OpenError> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|_| OpenError::Random)?;
        let Some(path) = &settings.path else {
            let kept = Kept { key, since: unix(now), routes: BTreeMap::new() };
            return Ok((Arc::new(Self::of(kept, settings, false)), None));
        };
        let (store, kept) = open_patiently(path, key, unix(now))?;
        Ok((Arc::new(Self::of(kept, settings, true)), Some(store)))
    }

    fn of(Kept { key, since, routes }: Kept, settings: &Settings, kept: bool) -> Self {
        let books = routes.into_iter().map(|(route, book)| (Arc::from(route), Arc::new(Mutex::new(book))));
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            key_bytes: key,
            since,
            client_header: settings.client_header.clone(),
            books: RwLock::new(books.collect()),
            plans: RwLock::default(),
            kept,
            writes_failed: AtomicU64::new(0),
        }
    }

    /// What a file has kept, as it is shown; `plans` is what a configuration says of its routes.
    ///
    /// # Errors
    ///
    /// [`StoreError`], [in use](StoreError::InUse) above all while a gateway runs.
    pub fn read(path: &Path, plans: Plans, now: SystemTime) -> Result<Report, StoreError> {
        let kept = Store::open_existing(path)?.1;
        let ledger = Self::of(kept, &Settings::default(), true);
        ledger.plan(plans);
        Ok(ledger.report(now))
    }

    /// Says which routes take WebSockets and how far their end has come: at start, and whenever the configuration is read again.
    pub fn plan(&self, plans: Plans) {
        for route in plans.keys() {
            self.book(route);
        }
        *self.plans.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plans);
    }

    /// Notes what became of a handshake on a route. `who` is known of those who were let in.
    pub fn record(
        &self,
        route: &Arc<str>,
        outcome: Outcome,
        fields: &HeaderMap,
        who: Option<Visitor<'_>>,
        now: SystemTime,
    ) {
        let client = self.client(fields);
        let who = who.map(|who| self.hash(who));
        lock(&self.book(route)).note(client, outcome, who, unix(now));
    }

    /// All that is known, as it is shown.
    #[must_use]
    pub fn report(&self, now: SystemTime) -> Report {
        let mut report = Report::new(&Frame { now, since: self.since, kept: self.kept });
        let plans = self.plans();
        for (route, book) in self.books() {
            report.add(&route, &lock(&book), plans.get(&route), now);
        }
        report
    }

    /// The numbers of each route that the configuration has.
    #[must_use]
    pub fn sums(&self, now: SystemTime) -> Vec<Sums> {
        let (plans, today) = (self.plans(), day_of(unix(now)));
        let sums = |(route, book): (Arc<str>, Arc<Mutex<Book>>)| {
            let phase = plans.get(&route)?.as_ref().map_or(Phase::Observe, |sunset| sunset.phase);
            let book = lock(&book);
            let people = book.days().get(&today);
            let identities = people.map_or(0, |people| people.identities.count());
            let addresses = people.map_or(0, |people| people.addresses.count());
            let handshakes = Outcome::ALL.map(|outcome| book.sum(outcome));
            drop(book);
            Some(Sums { route, phase, handshakes, identities, addresses })
        };
        self.books().into_iter().filter_map(sums).collect()
    }

    /// How often it could not be written.
    #[must_use]
    pub fn writes_failed(&self) -> u64 {
        self.writes_failed.load(Relaxed)
    }

    fn client(&self, fields: &HeaderMap) -> Client {
        let named = self.client_header.as_ref().and_then(|name| fields.get(name));
        named.and_then(|value| Client::of_header(value.as_bytes())).unwrap_or_else(|| {
            let agent = fields.get(header::USER_AGENT);
            agent.map_or_else(Client::unknown, |value| Client::of_user_agent(value.as_bytes()))
        })
    }

    /// What stands for somebody: nobody can tell from it who that is without the key, and not which routes it was, with it.
    fn hash(&self, who: Visitor<'_>) -> book::Who {
        let hash = |kind: &[u8], name: &[u8]| {
            let mut context = hmac::Context::with_key(&self.key);
            context.update(kind);
            context.update(name);
            context.sign().as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes)
        };
        match who {
            Visitor::Identity(subject) => book::Who::Identity(hash(b"identity:", subject.as_bytes())),
            Visitor::Address(address) => book::Who::Address(hash(b"address:", address.to_string().as_bytes())),
        }
    }

    fn book(&self, route: &Arc<str>) -> Arc<Mutex<Book>> {
        if let Some(book) = self.books.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return book.clone();
        }
        self.books.write().unwrap_or_else(PoisonError::into_inner).entry(route.clone()).or_default().clone()
    }

    fn books(&self) -> Vec<(Arc<str>, Arc<Mutex<Book>>)> {
        let books = self.books.read().unwrap_or_else(PoisonError::into_inner);
        books.iter().map(|(route, book)| (route.clone(), book.clone())).collect()
    }

    fn plans(&self) -> Arc<Plans> {
        self.plans.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The numbers of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Its name.
    pub route: Arc<str>,
    /// How far its end has come.
    pub phase: Phase,
    /// Handshakes since the ledger was begun, in the order of [`Outcome::ALL`].
    pub handshakes: [u64; Outcome::ALL.len()],
    /// Different identities that were let in today (UTC).
    pub identities: u64,
    /// Different addresses of those who were let in today without one.
    pub addresses: u64,
}

/// Opens a store that another process may be about to leave.
#[expect(
    clippy::disallowed_methods,
    reason = "at start nothing is served yet, and the other process tells nobody when it ends"
)]
fn open_patiently(path: &Path, key: [u8; 32], now: u64) -> Result<(Store, Kept), StoreError> {
    for _ in 1..ATTEMPTS {
        match Store::open(path, key, now) {
            Err(StoreError::InUse { .. }) => thread::sleep(BETWEEN_ATTEMPTS),
            opened => return opened,
        }
    }
    Store::open(path, key, now)
}

/// A panic while it was held has left a count one too low at worst.
fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn the_named_header_goes_before_the_user_agent_and_nobody_is_kept_in_clear() {
        let header = Some(HeaderName::from_static("x-app-version"));
        let settings = Settings { client_header: header, ..Settings::default() };
        let now = SystemTime::now();
        let (ledger, store) = Ledger::open(&settings, now).unwrap();
        assert!(store.is_none());
        let route: Arc<str> = Arc::from("chat");
        for (fields, who) in [
            (fields("x-app-version", "ios 3.2.1"), Visitor::Identity("ada@example.com")),
            (fields("user-agent", "okhttp/4.9.3"), Visitor::Identity("ada@example.com")),
            (HeaderMap::new(), Visitor::Address("192.0.2.7".parse().unwrap())),
        ] {
            ledger.record(&route, Outcome::Bridged, &fields, Some(who), now);
        }
        let report = ledger.report(now);
        let names: Vec<_> = report.routes[0].clients.iter().map(|client| client.client.as_str()).collect();
        assert_eq!(names, ["ios 3.2.1", "okhttp 4.9", "unknown"]);
        assert_eq!((report.routes[0].total.identities, report.routes[0].total.addresses), (1, 1));
        assert!(!report.kept && ledger.sums(now).is_empty(), "the configuration has no such route");
        let shown = format!("{ledger:?}");
        assert!(!shown.contains("ada") && !shown.contains("192.0.2.7"));
    }

    #[test]
    fn a_route_of_the_configuration_is_there_before_anybody_came() {
        let (ledger, _) = Ledger::open(&Settings::default(), SystemTime::now()).unwrap();
        ledger.plan([(Arc::from("chat"), None)].into());
        let sums = ledger.sums(SystemTime::now());
        assert_eq!((sums.len(), sums[0].handshakes, sums[0].phase), (1, [0; 4], Phase::Observe));
        assert_eq!(ledger.report(SystemTime::now()).routes[0].phase.as_deref(), Some("observe"));
    }
}
