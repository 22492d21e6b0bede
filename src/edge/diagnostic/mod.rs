//! The diagnostic endpoint: what `tidegate doctor` asks through everything that stands in front of the gateway.
//!
//! Anybody who reaches the listener can ask, unless there is a token. So every answer has an end, only a few are given at
//! once, an address gets few a minute, and no answer says what whoever asks does not know: see
//! [`Seen`].

mod echo;
mod events;
mod slots;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use self::slots::{Slot, Slots};
use super::handshake;
use super::http::{Body, Connection, add_id, host, whole};
use super::upgrade::{stopping, switched};
use crate::access::rates::Rates;
use crate::protocol::diagnostic::{
    Arrived, DOCTOR_VERSION, Events, LARGEST_UPLOAD, LONGEST_MS, Probe, Seen, TIDEGATE_DOCTOR, Upload, Wanted,
};
use crate::protocol::headers::{self, EVENT_STREAM};
use crate::protocol::problem::Problem;

/// Answers that may be under way at once on one listener; a doctor needs four.
const MOST_AT_ONCE: usize = 32;

/// Requests of one address in a minute: a doctor makes about twenty, and behind a proxy all have one address.
const PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);

/// Addresses that are remembered for it: few have business here.
const MOST_ADDRESSES: usize = 10_000;

/// How long an upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How much longer than it lasts an answer may take to be read, before its place is given to another.
const GRACE: Duration = Duration::from_secs(10);

/// What the endpoint is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it is.
    pub path: Arc<str>,
    /// What must be shown as `Authorization: Bearer ...`; `None`: nothing.
    pub token: Option<SecretString>,
}

/// The endpoint of one listener.
#[derive(Debug)]
pub(super) struct Diagnostics {
    settings: Settings,
    rates: Rates,
    slots: Arc<Slots>,
}

impl Diagnostics {
    pub(super) fn new(settings: Settings) -> Self {
        let rates = Rates::new(PER_MINUTE, MOST_ADDRESSES, Instant::now());
        Self { settings, rates, slots: Slots::new(MOST_AT_ONCE) }
    }

    /// Whether whoever asks shows the token, if one is needed.
    fn check_token(&self, fields: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.settings.token else { return Ok(()) };
        let mut given = fields.get_all(header::AUTHORIZATION).iter();
        let shown = match (given.next().map(HeaderValue::as_bytes), given.next()) {
            (Some(given), None) => given.split_at_checked("Bearer ".len()),
            _ => None,
        };
        let good = shown.is_some_and(|(scheme, shown)| {
            scheme.eq_ignore_ascii_case(b"Bearer ")
                && verify_slices_are_equal(shown, token.expose_secret().as_bytes()).is_ok()
        });
        if good {
            return Ok(());
        }
        let detail = "the diagnostic endpoint needs its token";
        Err(Problem::new(StatusCode::UNAUTHORIZED, "bad-diagnostics-token", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }

    fn slot(&self, duration: Duration) -> Result<Slot, Problem> {
        self.slots.take(Instant::now(), duration + GRACE).ok_or_else(|| {
            let detail = "too many probes are under way here";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-probes", detail).with_retry_after(GRACE)
        })
    }
}

impl Connection {
    /// The diagnostic endpoint of the listener, if a request is for it.
    pub(super) fn diagnostics_for(&self, head: &request::Parts) -> Option<Arc<Diagnostics>> {
        self.diagnostics.as_ref().filter(|endpoint| *endpoint.settings.path == *head.uri.path()).cloned()
    }

    /// Answers a doctor.
    pub(super) async fn diagnose(
        &self,
        endpoint: &Diagnostics,
        id: Uuid,
        head: &request::Parts,
        body: Incoming,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Response<Body> {
        let answered = self.examined(endpoint, id, head, body, upgrade).await;
        let mut response = answered.unwrap_or_else(|problem| self.refuse(problem, head, id));
        let fields = response.headers_mut();
        fields.insert(TIDEGATE_DOCTOR, DOCTOR_VERSION);
        add_id(fields, id);
        response
    }

    async fn examined(
        &self,
        endpoint: &Diagnostics,
        id: Uuid,
        head: &request::Parts,
        body: Incoming,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        endpoint.rates.take(&self.network(), Instant::now()).map_err(|wait| {
            let detail = "this address has asked the diagnostic endpoint too often";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-diagnoses", detail).with_retry_after(wait)
        })?;
        endpoint.check_token(&head.headers)?;
        let Wanted { probe, nonce } = Wanted::parse(head.uri.query().unwrap_or_default())
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-probe", error.to_string()))?;
        if let Probe::Echo = probe {
            return self.echo(endpoint, id, head, upgrade);
        }
        let method = if probe == Probe::Upload { Method::POST } else { Method::GET };
        if head.method != method {
            let detail = "an upload is asked for by POST, all else by GET";
            let allowed = HeaderValue::from_static(if probe == Probe::Upload { "POST" } else { "GET" });
            return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
                .with_header(header::ALLOW, allowed));
        }
        match probe {
            Probe::Events(events) => {
                let slot = endpoint.slot(events.duration())?;
                Ok(self.timed(events, nonce, slot))
            }
            Probe::Upload => {
                let slot = endpoint.slot(UPLOAD_TIMEOUT)?;
                let upload = tokio::select! {
                    upload = receive(body, &nonce) => upload?,
                    () = self.edge.stop.shutdown.cancelled() => return Err(stopping()),
                };
                drop(slot);
                Ok(json(&upload))
            }
            Probe::Seen | Probe::Echo => {
                let (_, host) = host(head)?;
                let arrived = head.extensions.get::<Arrived>();
                Ok(json(&arrived.map(|arrived| Seen::of(arrived, host, head.version, &nonce)).unwrap_or_default()))
            }
        }
    }

    fn timed(&self, events: Events, nonce: String, slot: Slot) -> Response<Body> {
        let bare = events.bare;
        let body = events::Timed::new(events, nonce, &self.edge.stop, slot);
        let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, EVENT_STREAM);
        if !bare {
            headers::set_unbuffered(fields);
        }
        response
    }

    /// A WebSocket over either version of HTTP.
    fn echo(
        &self,
        endpoint: &Diagnostics,
        id: Uuid,
        head: &request::Parts,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let response = switched(handshake::check(head)?.accept, None, id);
        let longest = Duration::from_millis(LONGEST_MS);
        let slot = endpoint.slot(longest)?;
        let upgrade = upgrade.take().ok_or_else(stopping)?;
        let (stop, place) = (self.edge.stop.clone(), self.slot.clone());
        self.edge.connections.spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                echo::run(upgraded, longest, &stop).await;
            }
            drop((slot, place));
        });
        Ok(response)
    }
}

/// Reads a body and notes when its pieces came.
async fn receive(mut body: Incoming, nonce: &str) -> Result<Upload, Problem> {
    let began = Instant::now();
    let mut upload = Upload::begin(nonce);
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "the body did not come in time");
    loop {
        let left = UPLOAD_TIMEOUT.saturating_sub(began.elapsed());
        let frame = tokio::time::timeout(left, body.frame()).await.map_err(|_| late())?;
        let Some(frame) = frame else { return Ok(upload) };
        let frame = frame.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "bad-body", "the body broke off"))?;
        let Ok(piece) = frame.into_data() else { continue };
        let at = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        upload.arrived(at, piece.len() as u64);
        if upload.bytes > LARGEST_UPLOAD as u64 {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the body may have 1 MiB"));
        }
    }
}

fn json(answer: &impl serde::Serialize) -> Response<Body> {
    let mut response = Response::new(whole(serde_json::to_vec(answer).unwrap_or_default()));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
