//! What of a client connection is under way, so that it is ended when nothing is, and not before.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http::Body;
use super::resets::Resets;
use crate::bridge::registry::Http2End;

/// How long a connection may take to end when nothing is under way: what is left is a head that does not come or an answer that is
/// not read.
pub(super) const LAST_ANSWER: Duration = Duration::from_secs(2);

/// Answers up to this size are sent as far as the client reads them, and are no reason to wait for it.
const SMALL: u64 = 64 * 1024;

/// A client connection as a whole.
#[derive(Debug)]
pub(super) struct Work {
    /// Its place on the listener.
    _place: OwnedSemaphorePermit,
    /// The connection itself, its requests under way, their answers, its WebSockets.
    holders: AtomicUsize,
    /// Somebody waits for one holder to be left.
    idle: Notify,
    http2: Option<Box<Http2Work>>,
}

/// What only HTTP/2 has, where requests do not wait for each other.
#[derive(Debug)]
struct Http2Work {
    began: Instant,
    /// When the last request was over, in milliseconds since it began; zero before the first.
    idle_since: AtomicU64,
    /// Whether there was ever a WebSocket.
    websockets: AtomicBool,
    resets: Mutex<Resets>,
    /// Why we end it, if it is the client's fault.
    fault: OnceLock<Http2End>,
    faulty: Notify,
}

impl Work {
    /// A connection that takes this place; `max_resets` is given on HTTP/2.
    pub(super) fn new(place: OwnedSemaphorePermit, max_resets: Option<NonZeroU32>) -> Arc<Self> {
        let http2 = max_resets.map(|most| {
            Box::new(Http2Work {
                began: Instant::now(),
                idle_since: AtomicU64::new(0),
                websockets: AtomicBool::new(false),
                resets: Mutex::new(Resets::new(most)),
                fault: OnceLock::new(),
                faulty: Notify::new(),
            })
        });
        Arc::new(Self { _place: place, holders: AtomicUsize::new(0), idle: Notify::new(), http2 })
    }

    /// Whether nothing is under way.
    fn is_idle(&self) -> bool {
        self.holders.load(Ordering::Acquire) <= 1
    }

    /// Waits until nothing is under way. One task at a time.
    pub(super) async fn none(&self) {
        while !self.is_idle() {
            self.idle.notified().await;
        }
    }

    /// Waits until the client has had its time to take its last answers, or until `cut`.
    pub(super) async fn last_answers(&self, cut: &CancellationToken) {
        let taken = async {
            self.none().await;
            tokio::time::sleep(LAST_ANSWER).await;
        };
        tokio::select! {
            () = taken => {}
            () = cut.cancelled() => {}
        }
    }

    /// Waits until an HTTP/2 connection has had no request for `first`, or nothing under way for `later` after one.
    pub(super) async fn idle_for(&self, first: Duration, later: Duration) {
        let Some(http2) = &self.http2 else { return std::future::pending().await };
        loop {
            self.none().await;
            let since = http2.idle_since.load(Ordering::Acquire);
            let limit = if since == 0 { first } else { later };
            tokio::time::sleep_until(http2.began + Duration::from_millis(since) + limit).await;
            if self.is_idle() && http2.idle_since.load(Ordering::Acquire) == since {
                return;
            }
        }
    }

    /// Notes why the connection is to be ended, and has it ended. The first reason counts.
    pub(super) fn accuse(&self, fault: Http2End) {
        if let Some(http2) = &self.http2
            && http2.fault.set(fault).is_ok()
        {
            http2.faulty.notify_one();
        }
    }

    /// Why it is to be ended, if it is.
    pub(super) fn fault(&self) -> Option<Http2End> {
        self.http2.as_ref()?.fault.get().copied()
    }

    /// Waits for a reason to end it.
    pub(super) async fn faulty(&self) {
        match &self.http2 {
            Some(http2) => http2.faulty.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether it has or had WebSockets among its streams.
    pub(super) fn had_websockets(&self) -> bool {
        self.http2.as_ref().is_some_and(|http2| http2.websockets.load(Ordering::Acquire))
    }

    /// How long it has been there, of an HTTP/2 connection.
    pub(super) fn age(&self) -> Duration {
        self.http2.as_ref().map_or(Duration::ZERO, |http2| http2.began.elapsed())
    }

    fn resets(&self, change: impl FnOnce(&mut Resets, Duration) -> Result<(), super::resets::TooMany>) {
        if let Some(http2) = &self.http2 {
            let changed =
                change(&mut http2.resets.lock().unwrap_or_else(PoisonError::into_inner), http2.began.elapsed());
            if changed.is_err() {
                self.accuse(Http2End::Resets);
            }
        }
    }
}

/// Holds a connection open: whoever has one is under way on it, and its place is taken.
#[derive(Debug)]
pub(super) struct Slot(Arc<Work>);

impl Slot {
    /// Of this connection.
    pub(super) fn of(work: &Arc<Work>) -> Self {
        work.holders.fetch_add(1, Ordering::Relaxed);
        Self(work.clone())
    }

    /// Counts a request from now on.
    pub(super) fn request(&self) -> UnderWay {
        UnderWay { slot: self.clone(), is_answered: false }
    }
}

impl Clone for Slot {
    fn clone(&self) -> Self {
        Self::of(&self.0)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Work { holders, idle, http2, .. } = &*self.0;
        // The connection itself holds the one that is left.
        if holders.fetch_sub(1, Ordering::AcqRel) == 2 {
            if let Some(http2) = http2 {
                let now = u64::try_from(http2.began.elapsed().as_millis()).unwrap_or(u64::MAX);
                http2.idle_since.store(now.max(1), Ordering::Release);
            }
            idle.notify_one();
        }
    }
}

/// A request that is not yet answered. Dropped before it is, it was taken back.
#[derive(Debug)]
pub(super) struct UnderWay {
    slot: Slot,
    is_answered: bool,
}

impl UnderWay {
    /// The request has its answer; `is_websocket` if that is a WebSocket. A long answer is under way until it is sent.
    pub(super) fn answered(mut self, response: Response<Body>, is_websocket: bool) -> Response<HeldBody> {
        self.is_answered = true;
        self.slot.0.resets(|resets, _| {
            resets.answered();
            Ok(())
        });
        if let Some(http2) = self.slot.0.http2.as_ref().filter(|_| is_websocket) {
            http2.websockets.store(true, Ordering::Release);
        }
        let is_long = response.body().size_hint().upper().is_none_or(|most| most > SMALL);
        let slot = is_long.then(|| self.slot.clone());
        response.map(|body| HeldBody { body, failure: None, _slot: slot })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_answered {
            self.slot.0.resets(Resets::taken_back);
        }
    }
}

/// The body of an answer, which holds its connection open if it is long.
///
/// One that fails says so a turn later. The HTTP library drops all that it has not yet sent when it hears of it, be it the
/// head: a client that gets nothing at all on a connection which it has used before would send its request again.
pub(super) struct HeldBody {
    body: Body,
    failure: Option<tower::BoxError>,
    _slot: Option<Slot>,
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(failure))) => {
                self.failure = Some(failure);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http::Request;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_came_of_an_answer_before_it_failed_is_sent() {
        let (mut client, gateway) = tokio::io::duplex(4096);
        let serve = service_fn(|_: Request<Incoming>| async {
            let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err("it broke off".into())];
            let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
            Ok::<_, Infallible>(Response::new(HeldBody { body, failure: None, _slot: None }))
        });
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let done = async { http1::Builder::new().serve_connection(TokioIo::new(gateway), serve).await };
        let mut seen = String::new();
        let (done, read) = tokio::join!(done, client.read_to_string(&mut seen));
        assert!(done.is_err() && read.is_ok());
        assert!(seen.starts_with("HTTP/1.1 200 OK\r\n") && seen.ends_with("\r\n\r\n4\r\nhalf\r\n"), "{seen:?}");
    }
}
