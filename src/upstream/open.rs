//! A new event stream: the endpoints are asked in turn.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use tracing::{info, warn};
use uuid::Uuid;

use super::body::Body;
use super::endpoint::{Pool, StreamCount};
use super::error::SendError;
use super::guard::Traffic;
use super::request::OutgoingRequest;
use super::{Upstream, balance};
use crate::protocol::problem::Problem;
use crate::telemetry::chain;

/// An answer to the request for an event stream, whatever it says.
#[derive(Debug)]
pub struct OpenAnswer {
    /// The endpoint that gave it.
    pub pool: Arc<Pool>,
    /// The answer.
    pub response: Response<Body>,
    /// Counts the stream at its endpoint until it is dropped.
    pub count: StreamCount,
}

/// Why no endpoint answered.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// None did in time.
    #[error("upstream {upstream} gave no answer in time: {failures}")]
    TimedOut {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// What was tried and what came of it, for the log.
        failures: String,
    },
    /// None was asked: all of them have failed too often of late.
    #[error("upstream {upstream} is left alone for a while: {failures}")]
    Unavailable {
        /// Name of the upstream.
        upstream: Arc<str>,
        /// How long until one of them may be asked, as far as that is known; zero while one is being asked.
        wait: Duration,
        /// What was found, for the log.
        failures: String,
    },
    /// Those that were asked could not be reached, or broke the connection.
    #[error("{failures}")]
    Unreachable {
        /// What was tried and what came of it, for the log.
        failures: String,
    },
}

impl Upstream {
    /// The endpoints in the order in which a new event stream of `connection` tries them; never empty.
    #[must_use]
    pub fn candidates(&self, connection: &Uuid) -> Vec<Arc<Pool>> {
        self.candidates_for(Traffic::Streams, connection)
    }

    /// The same for another kind of traffic, which is spread by its own load.
    pub(super) fn candidates_for(&self, traffic: Traffic, connection: &Uuid) -> Vec<Arc<Pool>> {
        let now = Instant::now();
        let views: Vec<_> = self.pools.iter().map(|pool| pool.view(traffic, now)).collect();
        let order = balance::order(self.balance, &views, connection, self.turn.fetch_add(1, Relaxed));
        if self.desperate.swap(order.desperate, Relaxed) != order.desperate {
            let upstream = &*self.name;
            if order.desperate {
                warn!(upstream, "no endpoint is healthy; all are used");
            } else {
                info!(upstream, "an endpoint is healthy; unhealthy ones are left out again");
            }
        }
        order.indices.iter().filter_map(|index| self.pools.get(*index)).cloned().collect()
    }

    /// Whether there is an endpoint to which an event stream would go out now: one that its health checks do not call
    /// unhealthy, and whose breaker lets it out, be it as a trial.
    #[must_use]
    pub fn takes_streams(&self) -> bool {
        let now = Instant::now();
        self.pools.iter().map(|pool| pool.view(Traffic::Streams, now)).any(|view| view.healthy && view.admits)
    }

    /// Asks for the event stream of `connection`, and asks the next endpoint for as long as one has provably not seen the
    /// request. `avoid` is asked last: the endpoint on which the stream has just stalled.
    ///
    /// # Errors
    ///
    /// [`OpenError`], when none answers by `deadline`.
    pub async fn open(
        &self,
        connection: &Uuid,
        request: &OutgoingRequest,
        deadline: Instant,
        avoid: Option<&Arc<Pool>>,
    ) -> Result<OpenAnswer, OpenError> {
        let mut candidates = self.candidates(connection);
        if let Some(avoid) = avoid {
            candidates.sort_by_key(|pool| Arc::ptr_eq(pool, avoid));
        }
        let mut failures = Failures::default();
        for pool in candidates {
            match pool.open_events(request.clone(), deadline).await {
                Ok((response, count)) => return Ok(OpenAnswer { pool, response, count }),
                Err(error) => {
                    if failures.add(&error) {
                        break;
                    }
                }
            }
        }
        Err(failures.into_error(&self.name))
    }
}

/// What came of the endpoints that were asked in turn.
#[derive(Debug, Default)]
pub(super) struct Failures {
    told: Vec<String>,
    asked: bool,
    timed_out: bool,
    /// The shortest time until an endpoint that is left alone may be asked.
    soonest: Option<Duration>,
}

impl Failures {
    /// Takes one in, and says whether it is the last: the next endpoint must not be asked, or there is no time to.
    pub(super) fn add(&mut self, error: &SendError) -> bool {
        self.told.push(chain(error));
        match error {
            SendError::Ejected { wait, .. } => {
                self.soonest = Some(self.soonest.map_or(*wait, |soonest| soonest.min(*wait)));
                false
            }
            SendError::TimedOut { .. } => {
                self.timed_out = true;
                true
            }
            error => {
                self.asked = true;
                !error.is_unsent()
            }
        }
    }

    /// Why no endpoint of `upstream` answered.
    pub(super) fn into_error(self, upstream: &Arc<str>) -> OpenError {
        let (upstream, failures) = (upstream.clone(), self.told.join("; "));
        match self.soonest {
            _ if self.timed_out => OpenError::TimedOut { upstream, failures },
            Some(wait) if !self.asked => OpenError::Unavailable { upstream, wait, failures },
            _ => OpenError::Unreachable { failures },
        }
    }
}

/// What a client is told when no endpoint answered. Nothing of upstream's inner life, which the log has.
impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        let log = error.to_string();
        match error {
            OpenError::TimedOut { .. } => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream-timeout", "upstream gave no answer in time")
            }
            OpenError::Unavailable { wait, .. } => {
                let detail = "upstream cannot be reached at the moment";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "upstream-unavailable", detail).with_retry_after(wait)
            }
            OpenError::Unreachable { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "upstream-unreachable", "upstream cannot be reached")
            }
        }
        .with_log(log)
    }
}
