//! The bytes of one direction: read, watched, written, and held only while the other side does not take them.

mod transfer;

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Breach, Frames, close_frame};
use super::rules::Last;

/// How much is read at once: what one TLS record holds.
const READ: usize = 16 * 1024;

/// How often is read before other tasks get their turn: half a megabyte, well under a millisecond.
const READS_PER_POLL: usize = 32;

/// What came of a direction that its rules have to know.
#[derive(Debug)]
pub(super) enum Event {
    /// A close frame was passed on whole.
    Closed(Option<u16>),
    /// The source has ended.
    Ended,
    /// The connection to the source broke.
    SourceLost(io::Error),
    /// The connection to the sink broke, or its last frame cannot be ended.
    SinkLost(io::Error),
    /// The source sent what is no frame. Nothing of it is passed on, and nothing behind it.
    Broke(Breach),
    /// The sink was told its last, and its stream is ended.
    Shut,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    /// As far as the sink has taken bytes.
    frames: Frames,
    /// What the sink has not taken.
    held: VecDeque<u8>,
    /// Most bytes held before the source is read no further.
    limit: usize,
    /// Masks close frames of ours, for a backend; `None` for a client.
    key: Option<[u8; 4]>,
    phase: Phase,
    source: Source,
    /// A close frame was told of.
    is_closed: bool,
    is_unflushed: bool,
    /// Whether bytes have moved since this was last asked.
    has_moved: bool,
}

/// What is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// More that is passed on.
    Open,
    /// More, but it has sent what is no frame.
    Broken,
    /// Nothing.
    Ended,
}

#[derive(Debug)]
enum Phase {
    Passing,
    /// Told what comes last, which is not yet said.
    Ending(Last),
    /// What is held is no frame of the source's any more, but our last word.
    Saying,
    /// Nothing more is written; what comes is read and dropped, so that the source can end in order.
    Shut,
}

impl Lane {
    /// A direction that begins with bytes which were read too much. `key` masks a close frame of ours.
    pub(super) fn new(frames: Frames, already_read: &[u8], limit: usize, key: Option<[u8; 4]>) -> Self {
        Self {
            frames,
            held: already_read.iter().copied().collect(),
            limit,
            key,
            phase: Phase::Passing,
            source: Source::Open,
            is_closed: false,
            is_unflushed: false,
            has_moved: false,
        }
    }

    /// What has gone by.
    pub(super) const fn frames(&self) -> &Frames {
        &self.frames
    }

    /// How many bytes wait for the sink.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether bytes have moved since this was last asked.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Says what the sink is told last. What was said first holds.
    pub(super) fn end(&mut self, last: Last) {
        if matches!(self.phase, Phase::Passing) {
            self.phase = Phase::Ending(last);
        }
    }

    /// Moves what can be moved; ready with what the rules have to know of, and then to be called again. Either end is `None`
    /// once there is no connection to it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut source: Option<&mut (impl AsyncRead + Unpin)>,
        mut sink: Option<&mut (impl AsyncWrite + Unpin)>,
    ) -> Poll<Event> {
        // Nothing more will come of who is gone.
        if source.is_none() {
            self.source = Source::Ended;
        }
        for _ in 0..READS_PER_POLL {
            let Some(sink) = sink.as_deref_mut().filter(|_| !matches!(self.phase, Phase::Shut)) else {
                return self.poll_discard(cx, source);
            };
            if let Err(event) = self.write_held(cx, sink) {
                return Poll::Ready(event);
            }
            match self.poll_last(cx, sink) {
                Poll::Ready(Some(event)) => return Poll::Ready(event),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
            match self.poll_pass(cx, source.as_deref_mut(), sink) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(event)) => return Poll::Ready(event),
                Poll::Pending => return self.poll_flush(cx, sink),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, and writes what was read as far as the sink takes it.
    fn poll_pass(
        &mut self,
        cx: &mut Context<'_>,
        source: Option<&mut (impl AsyncRead + Unpin)>,
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Event>> {
        let is_wanted = match &self.phase {
            Phase::Passing => true,
            // The rest of the frame that has begun.
            Phase::Ending(Last::Close(..)) => !self.frames.is_between(),
            Phase::Ending(_) | Phase::Saying | Phase::Shut => false,
        };
        let room = self.limit.saturating_sub(self.held.len()).min(READ);
        let Some(source) = source.filter(|_| is_wanted && self.source == Source::Open && room > 0) else {
            return Poll::Pending;
        };
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(buffer.get_mut(..room).unwrap_or_default());
        if let Err(event) = ready!(self.poll_read(cx, source, &mut buffer)) {
            return Poll::Ready(Err(event));
        }
        self.has_moved = true;
        let bytes = buffer.filled();
        let done = if self.held.is_empty() { self.write(cx, sink, bytes) } else { Ok(0) };
        let (taken, event) = match done {
            Ok(taken) => (taken, None),
            Err((taken, event)) => (taken, Some(event)),
        };
        if self.source != Source::Broken {
            self.held.extend(bytes.get(taken..).unwrap_or_default());
        }
        Poll::Ready(event.map_or(Ok(()), Err))
    }

    /// Says what comes last, once that is due; pending while it is being said.
    fn poll_last(&mut self, cx: &mut Context<'_>, sink: &mut (impl AsyncWrite + Unpin)) -> Poll<Option<Event>> {
        let cut_off = || Poll::Ready(Some(Event::SinkLost(io::ErrorKind::UnexpectedEof.into())));
        let is_between = self.frames.is_between();
        match std::mem::replace(&mut self.phase, Phase::Saying) {
            Phase::Ending(Last::Close(code, reason)) if is_between => {
                self.held = close_frame(code, &reason, self.key).into();
            }
            // Nothing more will come of the frame that has begun.
            Phase::Ending(Last::Close(..)) if self.held.is_empty() && self.source != Source::Open => return cut_off(),
            Phase::Ending(Last::RestAndClose(code, reason)) if self.held.is_empty() => {
                if !is_between {
                    return cut_off();
                }
                self.held = close_frame(code, &reason, self.key).into();
            }
            Phase::Ending(Last::Rest) if self.held.is_empty() => {}
            Phase::Saying => {}
            phase => {
                self.phase = phase;
                return Poll::Ready(None);
            }
        }
        if let Err(event) = self.write_held(cx, sink) {
            return Poll::Ready(Some(event));
        }
        if !self.held.is_empty() {
            return self.poll_flush(cx, sink).map(Some);
        }
        // Flushes by itself.
        let event = match ready!(Pin::new(sink).poll_shutdown(cx)) {
            Ok(()) => Event::Shut,
            Err(error) => Event::SinkLost(error),
        };
        self.phase = Phase::Shut;
        Poll::Ready(Some(event))
    }
}

#[cfg(test)]
mod tests;
