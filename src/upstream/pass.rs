//! A client's own request, passed on: which endpoint has it, for how long an answer is awaited, and when it may be sent again.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HeaderMap;
use http::uri::PathAndQuery;
use http::{Method, Response};
use uuid::Uuid;

use super::Upstream;
use super::body::Body;
use super::connections::Use;
use super::endpoint::{Pool, RequestCount, StreamCount, verdict};
use super::error::SendError;
use super::guard::{Traffic, Verdict};
use super::open::OpenError;
use super::request::{OutgoingRequest, RequestBody};
use super::upload::{Sent, Upload, UploadError, UploadRules, Watch};
use crate::telemetry::chain;

/// A client's request in the form in which upstream is to have it. It has no `Debug`: tokens and cookies stand in its fields.
pub struct Passing {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: PathAndQuery,
    /// Its fields but the framing; `Host` only where it is to be another than the endpoint's own.
    pub headers: HeaderMap,
    /// What the client sends; `None`: nothing.
    pub body: Option<Sent>,
}

/// What holds for a request that is passed on.
#[derive(Clone, Copy, Debug)]
pub struct PassRules {
    /// The client asks for an event stream, which may stay for as long as the client does.
    pub events: bool,
    /// How long upstream may take for the head of its answer once it has what there is of the request.
    pub response_timeout: Duration,
    /// How often a request is sent again that may have been acted on; it has to be one that can be repeated.
    pub retries: u32,
    /// What is allowed of the body.
    pub upload: UploadRules,
}

/// What counts a request at its endpoint.
#[derive(Debug)]
pub enum UnderWay {
    /// As an event stream.
    Stream(StreamCount),
    /// As a request.
    Request(RequestCount),
}

/// An answer, whatever it says.
#[derive(Debug)]
pub struct Passed {
    /// The endpoint that gave it.
    pub pool: Arc<Pool>,
    /// The answer.
    pub response: Response<Body>,
    /// Counts the request at its endpoint until it is dropped.
    pub under_way: UnderWay,
    /// How the request's body stands, if it has one.
    pub upload: Option<Watch>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Upstream gave none.
    #[error(transparent)]
    Upstream(#[from] OpenError),
    /// The client did not bring its request to an end.
    #[error(transparent)]
    Upload(UploadError),
}

impl Upstream {
    /// Passes a request on. It goes to one endpoint after another for as long as none can have seen it. Where a connection
    /// breaks before an answer begins, one that can be repeated (RFC 9110 section 9.2.2), and of whose body nothing was read,
    /// is sent again, within the limit and in its turn among all that is sent again. One that was not answered in time is not:
    /// an upstream that is too slow is not helped by more of the same.
    ///
    /// # Errors
    ///
    /// [`PassError`].
    pub async fn pass(&self, id: &Uuid, passing: Passing, rules: PassRules) -> Result<Passed, PassError> {
        let traffic = if rules.events { Traffic::Streams } else { Traffic::Requests };
        let candidates = self.candidates_for(traffic, id);
        let Passing { method, target, headers, mut body } = passing;
        let repeatable = method.is_idempotent();
        let has_body = body.is_some();
        let (mut unseen, mut retries) = (candidates.len(), rules.retries);
        let mut failures = Vec::new();
        let (mut asked, mut soonest) = (false, None);
        for pool in candidates.iter().cycle() {
            let (sent, watch) = match body.take() {
                Some(body) => {
                    let (upload, watch) = Upload::new(body, rules.upload);
                    (RequestBody::Streamed(upload), Some(watch))
                }
                None => (RequestBody::Whole(Bytes::new()), None),
            };
            let (method, target, headers) = (method.clone(), target.clone(), headers.clone());
            let request = OutgoingRequest { method, target, headers, body: sent };
            let error = match pool.pass(request, rules, watch.as_ref()).await {
                Ok((response, under_way)) => {
                    return Ok(Passed { pool: pool.clone(), response, under_way, upload: watch });
                }
                Err(error) => error,
            };
            if let Some(failure) = watch.as_ref().and_then(Watch::failure) {
                return Err(PassError::Upload(failure));
            }
            body = watch.as_ref().and_then(Watch::take_back);
            failures.push(chain(&error));
            match &error {
                SendError::Ejected { wait, .. } => {
                    soonest = Some(soonest.map_or(*wait, |soonest: Duration| soonest.min(*wait)));
                }
                SendError::TimedOut { .. } => {
                    let (upstream, failures) = (self.name.clone(), failures.join("; "));
                    return Err(OpenError::TimedOut { upstream, failures }.into());
                }
                _ => asked = true,
            }
            // A body that was begun comes only once.
            let again = (!has_body || body.is_some())
                && if error.is_unsent() {
                    unseen = unseen.saturating_sub(1);
                    unseen > 0
                } else {
                    let again = repeatable && retries > 0;
                    retries = retries.saturating_sub(1);
                    again && tokio::time::timeout(rules.response_timeout, self.retries.turn()).await.is_ok()
                };
            if !again {
                break;
            }
        }
        let failures = failures.join("; ");
        Err(PassError::Upstream(match soonest {
            Some(wait) if !asked => OpenError::Unavailable { upstream: self.name.clone(), wait, failures },
            _ => OpenError::Unreachable { failures },
        }))
    }
}

impl Pool {
    async fn pass(
        self: &Arc<Self>,
        request: OutgoingRequest<RequestBody>,
        rules: PassRules,
        upload: Option<&Watch>,
    ) -> Result<(Response<Body>, UnderWay), SendError> {
        let (permit, under_way, purpose) = if rules.events {
            (self.admit_stream()?, UnderWay::Stream(self.count_stream()), Use::Events)
        } else {
            (self.admit_request()?, UnderWay::Request(self.count_request()), Use::Request)
        };
        let handed_over = AtomicBool::new(false);
        let answered = {
            let sending = self.send(request, purpose, &handed_over);
            patient(sending, &handed_over, rules.response_timeout, upload)
                .await
                .unwrap_or_else(|| Err(SendError::TimedOut { endpoint: self.name() }))
        };
        permit.settle(match &answered {
            Ok(answer) => verdict(answer.status(), answer.headers()),
            // What the client does to its own request says nothing of the endpoint.
            Err(_) if upload.is_some_and(|upload| upload.failure().is_some()) => Verdict::Neither,
            Err(error) => error.verdict(),
        });
        Ok((answered?, under_way))
    }
}

/// What `sending` gives; `None` if upstream has had all there is of the request for `limit` and has not answered. The time until
/// a connection has the request is not counted, which has limits of its own; nor is the time that the client takes.
async fn patient<F: Future>(
    sending: F,
    handed_over: &AtomicBool,
    limit: Duration,
    upload: Option<&Watch>,
) -> Option<F::Output> {
    let mut sending = pin!(sending);
    let mut timer = pin!(tokio::time::sleep(limit));
    let mut since: Option<Instant> = None;
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(Some(sent));
        }
        if !handed_over.load(Ordering::Relaxed) {
            since = None;
        } else if since.is_none() {
            let now = Instant::now();
            since = Some(now);
            timer.as_mut().reset((now + limit).into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = match (since, upload.map(Watch::waits_for_upstream_since)) {
                (Some(since), None) => since + limit,
                (Some(since), Some(Some(turn))) => since.max(turn) + limit,
                // It is for the connecting, or for the client, to go on, and that has its own limit.
                (None, _) | (_, Some(None)) => now + limit,
            };
            if due <= now {
                return Poll::Ready(None);
            }
            timer.as_mut().reset(due.into());
        }
        Poll::Pending
    })
    .await
}
