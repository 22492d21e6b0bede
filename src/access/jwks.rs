//! A key set that is fetched from a URL, again and again, and served from memory.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use rustls::RootCertStore;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use uuid::Uuid;

use super::lock;
use crate::identity::Algorithm;
use crate::identity::jwks::{BadKeySet, KeySet, MAX_SIZE};
use crate::identity::key::VerifyKey;
use crate::identity::refresh::{Refresh, RefreshRule, Unknown};
use crate::telemetry::chain;
use crate::upstream::{self, AskError, Balance, BreakerRule, Endpoint, OutgoingRequest, Protocol, Upstream};

/// Names of keys that one line of the log may list.
const NAMES_IN_LOG: usize = 16;

/// Where a key set is, and how it is fetched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The place, as one endpoint.
    pub place: upstream::Settings,
    /// Path and query of the set there.
    pub target: PathAndQuery,
    /// What its keys may be used for.
    pub algorithms: Vec<Algorithm>,
    /// How often.
    pub rule: RefreshRule,
    /// How long a fetch may take, connecting included.
    pub timeout: Duration,
}

/// The place of a key set as an upstream of its own. A connection is not kept: the next request is minutes away. Its breaker
/// never opens, because [`Refresh`] knows when to ask again.
#[must_use]
pub fn place(endpoint: Endpoint, roots: Option<Arc<RootCertStore>>, timeout: Duration) -> upstream::Settings {
    upstream::Settings {
        name: Arc::from(endpoint.authority.as_str()),
        endpoints: vec![endpoint],
        balance: Balance::default(),
        slow_start: Duration::ZERO,
        breaker: BreakerRule { failures: u32::MAX, open_for: timeout, max_open_for: timeout },
        health: None,
        resolve_interval: timeout,
        reopen_rate: NonZeroU32::MIN,
        reopen_concurrency: 1,
        retry_rate: NonZeroU32::MIN,
        protocol: Protocol::Http1,
        roots,
        connect_timeout: timeout,
        max_streams_per_connection: 1,
        max_idle_connections: 0,
        idle_timeout: timeout,
    }
}

/// The keys at some time.
#[derive(Debug)]
pub(super) struct Known {
    /// Those that were always there, then those of the set.
    pub(super) keys: Vec<VerifyKey>,
    /// When the set was fetched; `None`: it never was.
    pub(super) fetched: Option<Instant>,
}

/// The keys now, and how many fetches have come to an end.
#[derive(Clone, Debug)]
struct State {
    known: Arc<Known>,
    rounds: u64,
}

/// A key set that lives elsewhere. One task fetches it; tokens only ask for that.
#[derive(Debug)]
pub(super) struct Remote {
    place: upstream::Settings,
    upstream: Upstream,
    target: PathAndQuery,
    algorithms: Vec<Algorithm>,
    timeout: Duration,
    fixed: Vec<VerifyKey>,
    refresh: Mutex<Refresh>,
    /// Changes under the lock of `refresh`, so that whoever asks for a fetch knows which one to wait for.
    state: watch::Sender<State>,
    /// A token has asked.
    asked: Notify,
    fetched: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("answered {0}, and only 200 brings a key set")]
    Status(u16),
    #[error(transparent)]
    Set(#[from] BadKeySet),
}

impl Remote {
    /// Begins to fetch, on `tasks` and until `stop`. What the one before has fetched from the same place holds on.
    pub(super) fn start(
        before: Option<&Self>,
        settings: Settings,
        fixed: Vec<VerifyKey>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, rustls::Error> {
        let now = Instant::now();
        let before = before.filter(|before| {
            let is_there = before.place == settings.place && before.target == settings.target;
            is_there && before.algorithms == settings.algorithms
        });
        let earlier = before.map(|before| (before.current(), before.fixed.len(), before.fetches()));
        let (mut known, mut fetches) = (Known { keys: fixed.clone(), fetched: None }, (0, 0));
        if let Some((earlier, fixed, counted)) = earlier {
            known.keys.extend(earlier.keys.iter().skip(fixed).cloned());
            known.fetched = earlier.fetched;
            fetches = counted;
        }
        let refresh = before.map(|before| before.rule().taken_over(settings.rule, now));
        let known = Arc::new(known);
        let remote = Arc::new(Self {
            upstream: Upstream::new(&settings.place, tasks, stop)?,
            place: settings.place,
            target: settings.target,
            algorithms: settings.algorithms,
            timeout: settings.timeout,
            fixed,
            refresh: Mutex::new(refresh.unwrap_or_else(|| Refresh::new(settings.rule, now))),
            state: watch::Sender::new(State { known, rounds: 0 }),
            asked: Notify::new(),
            fetched: AtomicU64::new(fetches.0),
            failed: AtomicU64::new(fetches.1),
        });
        let (fetching, stop) = (remote.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = fetching.keep_fetching() => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(remote)
    }

    /// The keys as they are known now.
    pub(super) fn current(&self) -> Arc<Known> {
        self.state.borrow().known.clone()
    }

    /// Fetches that have succeeded, and that have failed.
    pub(super) fn fetches(&self) -> (u64, u64) {
        (self.fetched.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// How long until the next fetch.
    pub(super) fn wait(&self) -> Duration {
        self.rule().due().saturating_duration_since(Instant::now())
    }

    /// A token needs a key that is not known. Waits for a fetch if there is to be one or one is under way; gives whether one
    /// has ended meanwhile.
    pub(super) async fn renewed(&self) -> bool {
        let mut ends = self.state.subscribe();
        let ended = {
            let mut refresh = self.rule();
            match refresh.unknown_key(Instant::now()) {
                Unknown::Refuse => return false,
                Unknown::Ask => self.asked.notify_one(),
                Unknown::Wait => {}
            }
            self.state.borrow().rounds
        };
        let end = ends.wait_for(|state| state.rounds > ended);
        // A fetch has its own time limit; this one is for a gateway that stops, where none ends any more.
        tokio::time::timeout(self.timeout + Duration::from_secs(1), end).await.is_ok_and(|end| end.is_ok())
    }

    async fn keep_fetching(&self) {
        loop {
            let due = self.rule().due();
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = self.asked.notified() => {}
            }
            let begins = self.rule().begin(Instant::now());
            if begins {
                let outcome = self.fetch().await;
                self.take_in(outcome);
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("tidegate"));
        let request = OutgoingRequest { method: Method::GET, target: self.target.clone(), headers, body: Bytes::new() };
        let answer = self.upstream.ask(&request, Instant::now() + self.timeout, MAX_SIZE).await?;
        // Redirects are not followed: whose keys are trusted is for the configuration to say.
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status.as_u16()));
        }
        Ok(KeySet::parse(&answer.body, &self.algorithms)?)
    }

    fn take_in(&self, outcome: Result<KeySet, FetchError>) {
        // The low half of a version 7 UUID is random.
        let (_, chance) = Uuid::now_v7().as_u64_pair();
        let now = Instant::now();
        let mut refresh = self.rule();
        match outcome {
            Ok(set) => {
                let failed = refresh.is_failing();
                refresh.succeeded(now, chance);
                self.fetched.fetch_add(1, Ordering::Relaxed);
                let known = Known { keys: self.fixed.iter().cloned().chain(set.keys).collect(), fetched: Some(now) };
                self.tell_change(&known, set.left_out, failed);
                self.state.send_modify(|state| *state = State { known: Arc::new(known), rounds: state.rounds + 1 });
            }
            Err(error) => {
                let is_news = refresh.failed(now, chance);
                self.failed.fetch_add(1, Ordering::Relaxed);
                if is_news {
                    let has_keys = self.state.borrow().known.fetched.is_some();
                    let until = if has_keys { "the last set serves on" } else { "tokens wait for the first set" };
                    warn!(place = %self.upstream.name(), reason = chain(&error), until, "key set not fetched");
                }
                self.state.send_modify(|state| state.rounds += 1);
            }
        }
    }

    /// Says what is new, if anything is.
    fn tell_change(&self, known: &Known, left_out: usize, recovered: bool) {
        let before = self.current();
        let place = self.upstream.name();
        let is_same = before.keys.len() == known.keys.len()
            && before.keys.iter().zip(&known.keys).all(|(a, b)| a.id == b.id && a.algorithms == b.algorithms);
        if before.fetched.is_none() || !is_same {
            let names: Vec<_> = known.keys.iter().filter_map(|key| key.id.as_deref()).take(NAMES_IN_LOG).collect();
            info!(%place, keys = known.keys.len(), left_out, names = names.join(" "), "key set fetched");
        }
        if recovered {
            info!(%place, "key set fetched again after failures");
        }
    }

    /// A panic while it is held leaves nothing half done: every change is a single call.
    fn rule(&self) -> MutexGuard<'_, Refresh> {
        lock(&self.refresh)
    }
}
