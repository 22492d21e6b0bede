//! The body of an event stream on its way to a client.

use std::error::Error;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::debug;

use super::decode::{Coding, Decoder};
use super::live::Live;
use super::pace::{Pace, Turn};
use super::{Cause, retry};
use crate::protocol::sse::{Boundary, Mark};

/// A comment without a word, and a blank line: it dispatches nothing, and clients that cut streams at blank lines instead
/// of reading them by the standard see a block of its own.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// How many chunks pass without a look at whether the stream has to end, while upstream has always more.
const UNSEEN: u32 = 32;

/// Where a stream comes from.
pub(in crate::proxy) trait Source:
    http_body::Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin
{
    /// Its stream is over: it is dropped next.
    fn closing(&mut self, closing: Closing);
}

/// What there is to say of a stream at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Closing {
    /// Why it ended.
    pub(in crate::proxy) cause: Cause,
    /// Bytes of upstream's that went to the client.
    pub(in crate::proxy) bytes: u64,
    /// Heartbeats that were put in.
    pub(in crate::proxy) heartbeats: u64,
}

/// An event stream was not all, and its client would not find out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event stream was broken off: {}", .0.label())]
pub(super) struct BrokenOff(Cause);

/// Passes each chunk on at once and puts heartbeats in between events.
///
/// For a client that comes back, the end is always a clean one: half an event at the end is dropped by the client (WHATWG
/// HTML, "Interpreting an event stream").
pub(super) struct Delivered<B: Source> {
    /// Upstream's body; `None` once it is over.
    body: Option<B>,
    decoder: Option<Box<Decoder>>,
    /// `None` in a stream that cannot be read here.
    place: Option<(Mark, Boundary)>,
    /// Goes out before anything else.
    first: Option<Bytes>,
    /// Whether its client comes back by itself, as an `EventSource` does.
    comes_back: bool,
    /// How long the client is told to wait when the gateway stops, in milliseconds.
    reconnect: u64,
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
    shutdown: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    live: Live,
    heartbeats: u64,
    bytes: u64,
    chunks: u32,
}

impl<B: Source> fmt::Debug for Delivered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivered").field("id", &self.live.entry.id).finish_non_exhaustive()
    }
}

/// What a stream begins with.
pub(super) struct Beginning {
    pub(super) coding: Coding,
    pub(super) comes_back: bool,
    pub(super) reconnect: u64,
    pub(super) pace: Pace,
    pub(super) shutdown: WaitForCancellationFutureOwned,
    pub(super) live: Live,
}

impl<B: Source> Delivered<B> {
    pub(super) fn new(body: B, beginning: Beginning) -> Self {
        let Beginning { coding, reconnect, pace, shutdown, live, comes_back } = beginning;
        let readable = !matches!(coding, Coding::Unknown);
        Self {
            body: Some(body),
            decoder: if let Coding::Known(decoder) = coding { Some(decoder) } else { None },
            place: readable.then(Default::default),
            first: (readable && comes_back).then(|| retry(reconnect)),
            comes_back,
            reconnect,
            pace,
            timer: None,
            shutdown: Some(Box::pin(shutdown)),
            live,
            heartbeats: 0,
            bytes: 0,
            chunks: 0,
        }
    }

    fn is_between(&self) -> bool {
        self.place.as_ref().is_some_and(|(_, boundary)| boundary.is_between())
    }

    /// A chunk goes to the client as it came, but for a byte order mark.
    fn pass(&mut self, chunk: Bytes) -> Bytes {
        let mut event = true;
        let mut out = chunk;
        if let Some((mark, boundary)) = &mut self.place {
            let (before, rest) = mark.take_off(out);
            out = if before.is_empty() { rest } else { Bytes::from([before, &rest].concat()) };
            event = boundary.pass(&out);
        }
        self.bytes += out.len() as u64;
        self.pace.passed(Instant::now(), event);
        out
    }

    /// Whether it has to end although upstream may have more, and wakes the task when it has to. The times are looked at
    /// elsewhere.
    fn look(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        self.live.entry.watch(cx.waker());
        // Looked at after the waker stands there: a word that comes in between finds it.
        if self.live.entry.is_revoked() {
            return Some(Cause::Revoked);
        }
        if let Some(shutdown) = &mut self.shutdown
            && shutdown.as_mut().poll(cx).is_ready()
        {
            self.shutdown = None;
            // What does not come back may take until it is cut.
            if self.comes_back {
                self.pace.leave(Cause::Shutdown, Instant::now());
            }
        }
        self.pace.over(Instant::now(), self.is_between() || self.place.is_none())
    }

    /// Waits until then; ready if that has come.
    fn poll_timer(&mut self, cx: &mut Context<'_>, until: Option<Instant>) -> Poll<()> {
        let Some(until) = until.map(tokio::time::Instant::from_std) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        // One that is earlier stays: it costs a turn when it comes, where a new time would cost one with every chunk.
        if timer.is_elapsed() || timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx)
    }

    /// Nothing more is read from upstream. The first cause counts.
    fn close(&mut self, cause: Cause) {
        if let Some(mut body) = self.body.take() {
            body.closing(Closing { cause, bytes: self.bytes, heartbeats: self.heartbeats });
            self.live.close(cause, self.heartbeats);
        }
    }

    /// The end: nothing more is read from upstream, and this is the last that the client gets.
    fn end(&mut self, cause: Cause) -> Option<Result<Bytes, BrokenOff>> {
        self.close(cause);
        if cause != Cause::Ended && !self.comes_back {
            return Some(Err(BrokenOff(cause)));
        }
        if cause == Cause::Shutdown && self.is_between() {
            // Over whatever upstream had said, so that not all come back at once.
            return Some(Ok(retry(self.reconnect)));
        }
        let rest = self.place.as_mut().map_or(&[][..], |(mark, _)| mark.rest());
        (!rest.is_empty()).then(|| Ok(Bytes::from_static(rest)))
    }
}

impl<B: Source> Delivered<B> {
    /// What comes next from upstream, decoded.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ()>> {
        loop {
            if let Some(decoder) = &mut self.decoder {
                match decoder.next() {
                    Ok(Some(chunk)) => return Poll::Ready(Ok(Some(chunk))),
                    Ok(None) => {}
                    Err(error) => {
                        debug!(connection = %self.live.entry.id, %error, "an event stream cannot be decoded");
                        return Poll::Ready(Err(()));
                    }
                }
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match (frame.into_data(), &mut self.decoder) {
                    // Trailers say nothing to clients of event streams.
                    (Err(_), _) => {}
                    (Ok(chunk), _) if chunk.is_empty() => {}
                    (Ok(chunk), Some(decoder)) => decoder.push(chunk),
                    (Ok(chunk), None) => return Poll::Ready(Ok(Some(chunk))),
                },
                Poll::Ready(Some(Err(error))) => {
                    let error = &error as &dyn Error;
                    debug!(connection = %self.live.entry.id, error, "upstream broke an event stream off");
                    return Poll::Ready(Err(()));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What goes to the client next; `None` is the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if self.body.is_none() {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.chunks = self.chunks.wrapping_add(1);
        if self.chunks.is_multiple_of(UNSEEN)
            && let Some(cause) = self.look(cx)
        {
            return Poll::Ready(self.end(cause));
        }
        loop {
            match self.poll_chunk(cx) {
                Poll::Ready(Ok(Some(chunk))) => {
                    let chunk = self.pass(chunk);
                    // Nothing but a byte order mark was in it.
                    if chunk.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(self.end(Cause::Ended)),
                Poll::Ready(Err(())) => return Poll::Ready(self.end(Cause::Broken)),
                Poll::Pending => {}
            }
            if let Some(cause) = self.look(cx) {
                return Poll::Ready(self.end(cause));
            }
            let now = Instant::now();
            match self.pace.turn(now, self.is_between()) {
                Turn::Beat => {
                    self.heartbeats += 1;
                    self.pace.sent(now);
                    return Poll::Ready(Some(Ok(HEARTBEAT)));
                }
                Turn::End(cause) => return Poll::Ready(self.end(cause)),
                Turn::Wait(until) => std::task::ready!(self.poll_timer(cx, until)),
            }
        }
    }
}

impl<B: Source> http_body::Body for Delivered<B> {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.get_mut().poll_next(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }
}

impl<B: Source> Drop for Delivered<B> {
    fn drop(&mut self) {
        self.close(Cause::Left);
    }
}
