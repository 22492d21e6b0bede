//! Bearer tokens, with the keys as they are now.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::HeaderMap;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::jwks::{self, Remote};
use crate::identity::Identity;
use crate::identity::bearer::{BearerRefusal, Rules, judge, token_in};
use crate::identity::key::VerifyKey;
use crate::protocol::problem::Problem;

/// Which bearer tokens are believed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The keys that are known from the beginning.
    pub keys: Vec<VerifyKey>,
    /// Where others come from.
    pub jwks: Option<jwks::Settings>,
    /// What tokens must say.
    pub rules: Rules,
}

/// How the keys stand, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// How many there are.
    pub keys: usize,
    /// How old the fetched set is; `None` if there is none, be it that none is to be fetched.
    pub age: Option<Duration>,
    /// Fetches that gave a set.
    pub fetched: u64,
    /// Fetches that did not.
    pub failed: u64,
    /// Tokens that were refused because they name a key that is not known.
    pub unknown_keys: u64,
}

/// Believes bearer tokens.
#[derive(Debug)]
pub struct Bearer {
    keys: Keys,
    rules: Rules,
    unknown_keys: AtomicU64,
}

#[derive(Debug)]
enum Keys {
    Fixed(Vec<VerifyKey>),
    Remote {
        remote: Arc<Remote>,
        /// Ends their fetching together with who needs it.
        _life: DropGuard,
    },
}

impl Bearer {
    /// If keys are to be fetched, that begins now, on `tasks`, and ends with `stop`. Nobody waits for the first set: until it
    /// is there, tokens that need it are refused with 503.
    ///
    /// # Errors
    ///
    /// Fails when the TLS library refuses the settings.
    pub fn new(settings: Settings, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Self, rustls::Error> {
        Self::succeeding(None, settings, tasks, stop)
    }

    /// The same, with the keys that the one before has fetched from the same place.
    ///
    /// # Errors
    ///
    /// Fails when the TLS library refuses the settings.
    pub fn succeeding(
        before: Option<&Self>,
        settings: Settings,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, rustls::Error> {
        let Settings { keys, jwks, rules } = settings;
        let keys = match jwks {
            None => Keys::Fixed(keys),
            Some(jwks) => {
                let earlier = before.and_then(|before| match &before.keys {
                    Keys::Fixed(_) => None,
                    Keys::Remote { remote, .. } => Some(&**remote),
                });
                let stop = stop.child_token();
                let remote = Remote::start(earlier, jwks, keys, tasks, &stop)?;
                Keys::Remote { remote, _life: stop.drop_guard() }
            }
        };
        let unknown_keys = before.map_or(0, |before| before.unknown_keys.load(Ordering::Relaxed));
        Ok(Self { keys, rules, unknown_keys: AtomicU64::new(unknown_keys) })
    }

    /// Whom the token of a request speaks for; `None`, if it brings none. A token that names an unknown key waits until the
    /// keys have been fetched again, unless that was done a short time ago.
    ///
    /// # Errors
    ///
    /// What the client is to be told, if it brings a token that is not believed.
    pub async fn prove(&self, headers: &HeaderMap) -> Result<Option<Identity>, Problem> {
        let Some(token) = token_in(headers).map_err(BearerRefusal::problem)? else { return Ok(None) };
        let judged = match &self.keys {
            Keys::Fixed(keys) => judge(token, keys, &self.rules, SystemTime::now()),
            Keys::Remote { remote, .. } => self.judge_by(remote, token).await?,
        };
        if judged == Err(BearerRefusal::UnknownKey) {
            self.unknown_keys.fetch_add(1, Ordering::Relaxed);
        }
        judged.map(Some).map_err(BearerRefusal::problem)
    }

    /// The outer error: nobody can say yet.
    async fn judge_by(&self, remote: &Remote, token: &str) -> Result<Result<Identity, BearerRefusal>, Problem> {
        let mut fetches = 0;
        loop {
            let known = remote.current();
            let judged = judge(token, &known.keys, &self.rules, SystemTime::now());
            let is_there = known.fetched.is_some();
            let may_change = match judged {
                Err(BearerRefusal::UnknownKey) => true,
                // Of a set that is not there, any key might be the one.
                Err(BearerRefusal::Untrusted) => !is_there,
                _ => false,
            };
            if !may_change {
                return Ok(judged);
            }
            // A fetch that was under way may have begun before there was such a key; the second one has not.
            if fetches == 2 || !remote.renewed().await {
                return if is_there { Ok(judged) } else { Err(unavailable(remote.wait())) };
            }
            fetches += 1;
        }
    }

    /// How the keys stand.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let unknown_keys = self.unknown_keys.load(Ordering::Relaxed);
        match &self.keys {
            Keys::Fixed(keys) => Snapshot { keys: keys.len(), age: None, fetched: 0, failed: 0, unknown_keys },
            Keys::Remote { remote, .. } => {
                let (known, (fetched, failed)) = (remote.current(), remote.fetches());
                let age = known.fetched.map(|at| at.elapsed());
                Snapshot { keys: known.keys.len(), age, fetched, failed, unknown_keys }
            }
        }
    }
}

/// The keys have not come yet; they are next asked for in `wait`.
fn unavailable(wait: Duration) -> Problem {
    let detail = "the keys that bearer tokens are checked with are not there yet";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "keys-unavailable", detail).with_retry_after(wait)
}
