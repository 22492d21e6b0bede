//! A request body that comes from a client while it goes to upstream.
//!
//! It is read as fast as upstream takes it and no faster. What happens to it is seen from outside by its [`Watch`]: how far it
//! is, whether the client stalls, and whether it can still be sent to somebody else.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Sleep;

use super::lock;

/// What a client sends.
pub type Sent = UnsyncBoxBody<Bytes, tower::BoxError>;

/// How long a body is held back for a 100 that does not come: as long as clients wait for one (RFC 9110 section 10.1.1 has
/// them not wait for ever).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// What is allowed of a body.
#[derive(Clone, Copy, Debug)]
pub struct UploadRules {
    /// Most bytes; `None`: any number.
    pub max_size: Option<u64>,
    /// How long the client may send nothing while upstream waits for it.
    pub send_timeout: Duration,
    /// Whether the client waits for a 100 before it sends: then it is not read before upstream has said so.
    pub expects_continue: bool,
}

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// It is larger than it may be.
    #[error("the request's body is larger than it may be")]
    TooLarge,
    /// The client has sent nothing for too long.
    #[error("the client has stalled in the middle of its request")]
    Stalled,
    /// The client is gone, or what it sent is no body.
    #[error("the client has broken its request off")]
    Gone,
    /// Nobody needs the rest: the answer is over.
    #[error("the answer was over before the request")]
    Unwanted,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Upstream has to take what there is, or to answer.
    Upstream,
    /// The client has to send.
    Client,
}

/// A body under way.
#[derive(Debug)]
pub struct Upload {
    /// `None` only while it is dropped.
    body: Option<Sent>,
    shared: Arc<Shared>,
    rules: UploadRules,
    /// Runs while the client has to send, or a 100 is awaited.
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer stands for the wait that is going on.
    timing: bool,
    /// Something of it was read.
    touched: bool,
}

/// What is seen of a body from outside.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Shared>);

/// Lets a body go that waits for a 100.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Bytes that went to upstream.
    bytes: AtomicU64,
    /// Not to be read yet.
    held: AtomicBool,
    /// Read to its end.
    over: AtomicBool,
    /// Not to be read any more.
    unwanted: AtomicBool,
    waker: AtomicWaker,
    began: Instant,
    /// Microseconds from `began` to the last turn, times two, and one more while it is the client's.
    turn: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failure: Option<UploadError>,
    /// The body, when it was given up without a piece of it being read.
    back: Option<Sent>,
}

impl Upload {
    /// A body of which nothing was read, with what is seen of it.
    #[must_use]
    pub fn new(body: Sent, rules: UploadRules) -> (Self, Watch) {
        let shared = Arc::new(Shared {
            bytes: AtomicU64::new(0),
            held: AtomicBool::new(rules.expects_continue),
            over: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            began: Instant::now(),
            turn: AtomicU64::new(0),
            state: Mutex::default(),
        });
        let watch = Watch(shared.clone());
        (Self { body: Some(body), shared, rules, timer: None, timing: false, touched: false }, watch)
    }

    /// What is seen of it.
    pub(super) fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }

    /// What opens it, if it waits to be opened.
    pub(super) fn gate(&self) -> Option<Gate> {
        self.shared.held.load(Ordering::Acquire).then(|| Gate(self.shared.clone()))
    }

    fn fail(&mut self, failure: UploadError) -> Poll<Option<Result<Frame<Bytes>, tower::BoxError>>> {
        lock(&self.shared.state).failure.get_or_insert(failure);
        // The client's connection hears at once that nobody reads it any more.
        self.body = None;
        Poll::Ready(Some(Err(failure.into())))
    }

    /// Ready when this wait has lasted for `limit`.
    fn poll_waited(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut self.timing, true) {
            timer.as_mut().reset(tokio::time::Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        this.shared.waker.register(cx.waker());
        if this.shared.unwanted.load(Ordering::Acquire) {
            return this.fail(UploadError::Unwanted);
        }
        if this.shared.held.load(Ordering::Acquire) {
            ready!(this.poll_waited(CONTINUE_WAIT, cx));
            this.timing = false;
            this.shared.held.store(false, Ordering::Release);
        }
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                (this.timing, this.touched) = (false, true);
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                let bytes = this.shared.bytes.fetch_add(size, Ordering::Relaxed) + size;
                if this.rules.max_size.is_some_and(|most| bytes > most) {
                    return this.fail(UploadError::TooLarge);
                }
                this.shared.turn(Turn::Upstream);
                // Whoever knows the length does not ask for the end.
                if this.is_end_stream() {
                    this.shared.over.store(true, Ordering::Release);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => this.fail(UploadError::Gone),
            Poll::Ready(None) => {
                this.shared.turn(Turn::Upstream);
                this.shared.over.store(true, Ordering::Release);
                Poll::Ready(None)
            }
            Poll::Pending => {
                if !this.timing {
                    this.shared.turn(Turn::Client);
                }
                ready!(this.poll_waited(this.rules.send_timeout, cx));
                this.fail(UploadError::Stalled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

/// One of which nothing was read can go to somebody else.
impl Drop for Upload {
    fn drop(&mut self) {
        if !self.touched
            && let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
        {
            lock(&self.shared.state).back = Some(body);
        }
    }
}

impl Shared {
    fn turn(&self, turn: Turn) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX / 2);
        self.turn.store(micros * 2 + u64::from(turn == Turn::Client), Ordering::Relaxed);
    }
}

impl Watch {
    /// Bytes that went to upstream.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Whether it was read to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Why it ended before its end, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<UploadError> {
        lock(&self.0.state).failure
    }

    /// Since when upstream has had all there is and could answer; `None` while the client has to send.
    pub(super) fn waits_for_upstream_since(&self) -> Option<Instant> {
        let turn = self.0.turn.load(Ordering::Relaxed);
        turn.is_multiple_of(2).then(|| self.0.began + Duration::from_micros(turn / 2))
    }

    /// The body, if it was given up before anything of it was read.
    pub(super) fn take_back(&self) -> Option<Sent> {
        lock(&self.0.state).back.take()
    }

    /// Ends it: whatever the client still sends, nobody needs it.
    pub fn unwanted(&self) {
        self.0.unwanted.store(true, Ordering::Release);
        self.0.waker.wake();
        // One that was given back is not to be held either.
        drop(self.take_back());
    }
}

impl Gate {
    /// Upstream takes the body.
    pub(super) fn open(&self) {
        self.0.held.store(false, Ordering::Release);
        self.0.waker.wake();
    }

    /// Upstream has said something before its answer.
    pub(super) fn informed(&self, status: StatusCode) {
        if status == StatusCode::CONTINUE {
            self.open();
        }
    }
}

#[cfg(test)]
mod tests;
