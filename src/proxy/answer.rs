//! The body of an answer on its way from upstream to a client.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;

use super::registry::UnderWay;
use super::stream::{self, Cause, Closing};
use super::{Context, Held};
use crate::telemetry::{self, chain};
use crate::upstream::{self, Pool, Watch};

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is whole.
    Complete,
    /// The client was gone before its end.
    ClientGone,
    /// Upstream's connection broke within it.
    UpstreamBroken,
    /// Upstream was silent within it for too long.
    UpstreamStalled,
    /// The gateway ended it in order: it stops, or what the client had proven is over.
    Ended,
}

impl Ending {
    /// Every one, in the order of the counters.
    pub const ALL: [Self; 5] =
        [Self::Complete, Self::ClientGone, Self::UpstreamBroken, Self::UpstreamStalled, Self::Ended];

    /// The word for it in the log and in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client-gone",
            Self::UpstreamBroken => "upstream-broken",
            Self::UpstreamStalled => "upstream-stalled",
            Self::Ended => "ended",
        }
    }
}

/// Why an answer broke off, for whoever writes it to the client.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Upstream's connection broke.
    #[error("upstream's answer broke off")]
    Broken(#[source] hyper::Error),
    /// Upstream was silent for too long.
    #[error("upstream's answer has stalled")]
    Stalled,
}

/// The body of an answer. It is read as fast as the client takes it. Dropped before its end, it cancels the request upstream.
/// At its end it is counted, and gets its line in the log.
pub struct Answer {
    body: upstream::Body,
    read_timeout: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    timing: bool,
    bytes: u64,
    ending: Option<Ending>,
    failure: Option<String>,
    /// Boxed: it is there only at the very end.
    stream: Option<Box<Closing>>,
    record: Record,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} from {})", self.record.status, self.record.pool.name())
    }
}

/// What an answer's line in the log says, and what is held until then.
pub(super) struct Record {
    pub(super) context: Arc<Context>,
    pub(super) method: Method,
    pub(super) status: StatusCode,
    pub(super) pool: Arc<Pool>,
    pub(super) upload: Option<Watch>,
    pub(super) began: Instant,
    /// How long the head of the answer took.
    pub(super) took: Duration,
    pub(super) _under_way: (UnderWay, upstream::UnderWay),
    pub(super) _held: Held,
}

/// A request that upstream has not answered yet. Dropped before [`over`](Self::over), it was given up by its client.
pub(super) struct Waiting<'a> {
    pub(super) context: &'a Context,
    pub(super) method: Method,
    pub(super) began: Instant,
    over: bool,
}

impl<'a> Waiting<'a> {
    pub(super) const fn new(context: &'a Context, method: Method, began: Instant) -> Self {
        Self { context, method, began, over: false }
    }

    /// There is an answer, or a reason for having none.
    pub(super) const fn over(&mut self) {
        self.over = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let Self { context, method, began, .. } = self;
        context.proxy.counters.ended(None, Ending::ClientGone, 0, 0);
        telemetry::request_passed(&telemetry::Passed {
            connection: context.id,
            route: &context.route,
            peer: context.peer,
            subject: context.holder.as_ref().map(|holder| holder.subject.as_str()),
            method,
            status: None,
            upstream: context.proxy.upstream.name(),
            endpoint: None,
            ending: Ending::ClientGone.label(),
            heartbeats: None,
            failure: None,
            bytes_up: 0,
            bytes_down: 0,
            took: None,
            duration: began.elapsed(),
        });
    }
}

impl Answer {
    pub(super) fn new(body: upstream::Body, read_timeout: Option<Duration>, record: Record) -> Self {
        let (timer, ending, failure, stream) = (None, None, None, None);
        Self { body, read_timeout, timer, timing: false, bytes: 0, ending, failure, stream, record }
    }

    /// The endpoint that it comes from.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.record.pool
    }

    /// Says how it ended, where that is not seen from upstream's side. The first word counts.
    pub fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }
}

/// The end of an event stream is seen from the client's side: what is read of upstream does not say why, nor what was sent.
impl stream::Source for Answer {
    fn closing(&mut self, closing: Closing) {
        match closing.cause {
            Cause::Ended | Cause::Left => {}
            Cause::Broken => self.end(Ending::UpstreamBroken),
            Cause::Stalled => self.end(Ending::UpstreamStalled),
            Cause::Idle | Cause::Expired | Cause::Revoked | Cause::Shutdown => self.end(Ending::Ended),
        }
        self.stream = Some(Box::new(closing));
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.timing = false;
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.failure = Some(chain(&error));
                this.end(Ending::UpstreamBroken);
                Poll::Ready(Some(Err(AnswerError::Broken(error))))
            }
            Poll::Ready(None) => {
                this.end(Ending::Complete);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(limit) = this.read_timeout else { return Poll::Pending };
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                if !std::mem::replace(&mut this.timing, true) {
                    timer.as_mut().reset(tokio::time::Instant::now() + limit);
                }
                ready!(timer.as_mut().poll(cx));
                this.end(Ending::UpstreamStalled);
                Poll::Ready(Some(Err(AnswerError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Whoever knows the length does not ask for the end.
        let ending =
            self.ending.unwrap_or(if self.body.is_end_stream() { Ending::Complete } else { Ending::ClientGone });
        let Record { context, method, status, pool, upload, began, took, .. } = &self.record;
        let bytes_up = upload.as_ref().map_or(0, Watch::bytes);
        let (label, bytes_down, heartbeats) = match self.stream.as_deref() {
            Some(Closing { cause, bytes, heartbeats }) => (cause.label(), *bytes, Some(*heartbeats)),
            None => (ending.label(), self.bytes, None),
        };
        context.proxy.counters.ended(Some(*status), ending, bytes_up, bytes_down);
        telemetry::request_passed(&telemetry::Passed {
            connection: context.id,
            route: &context.route,
            peer: context.peer,
            subject: context.holder.as_ref().map(|holder| holder.subject.as_str()),
            method,
            status: Some(*status),
            upstream: context.proxy.upstream.name(),
            endpoint: Some(&pool.name()),
            ending: label,
            heartbeats,
            failure: self.failure.as_deref(),
            bytes_up,
            bytes_down,
            took: Some(*took),
            duration: began.elapsed(),
        });
    }
}
