//! The bytes of one direction: read, watched, written, and held only while the other side does not take them.

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
    /// The source may send more that is passed on.
    is_open: bool,
    /// The source has not ended.
    is_live: bool,
    /// The source has sent what is no frame.
    is_broken: bool,
    /// A close frame was told of.
    is_closed: bool,
    is_unflushed: bool,
    /// Whether bytes have moved since this was last asked.
    has_moved: bool,
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
            is_open: true,
            is_live: true,
            is_broken: false,
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
        let Some(source) = source.filter(|_| is_wanted && self.is_open && room > 0) else { return Poll::Pending };
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
        if !self.is_broken {
            self.held.extend(bytes.get(taken..).unwrap_or_default());
        }
        Poll::Ready(event.map_or(Ok(()), Err))
    }

    /// Reads something; the end of the source is an error here.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<(), Event>> {
        let event = match ready!(Pin::new(source).poll_read(cx, buffer)) {
            Ok(()) if !buffer.filled().is_empty() => return Poll::Ready(Ok(())),
            // A peer that ends TCP and leaves TLS as it is has ended all the same.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Event::SourceLost(error),
            Ok(()) | Err(_) => Event::Ended,
        };
        (self.is_open, self.is_live) = (false, false);
        Poll::Ready(Err(event))
    }

    /// Drops what still comes.
    fn poll_discard(&mut self, cx: &mut Context<'_>, source: Option<&mut (impl AsyncRead + Unpin)>) -> Poll<Event> {
        self.held = VecDeque::new();
        let Some(source) = source.filter(|_| self.is_live) else { return Poll::Pending };
        let mut buffer = [MaybeUninit::uninit(); READ];
        for _ in 0..READS_PER_POLL {
            let mut buffer = ReadBuf::uninit(&mut buffer);
            if let Err(event) = ready!(self.poll_read(cx, source, &mut buffer)) {
                return Poll::Ready(event);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what is held, as far as the sink takes it and may have it.
    fn write_held(&mut self, cx: &mut Context<'_>, sink: &mut (impl AsyncWrite + Unpin)) -> Result<(), Event> {
        while !self.held.is_empty() {
            let mut held = std::mem::take(&mut self.held);
            let (front, _) = held.as_slices();
            let (length, written) = (front.len(), self.write(cx, sink, front));
            let (taken, event) = match written {
                Ok(taken) => (taken, None),
                Err((taken, event)) => (taken, Some(event)),
            };
            held.drain(..taken);
            // Empty, or not to be passed on, it costs nothing; an idle tunnel holds no buffer.
            if !held.is_empty() && !matches!(event, Some(Event::Broke(_))) {
                self.held = held;
            }
            if let Some(event) = event {
                return Err(event);
            }
            if taken < length {
                break;
            }
        }
        Ok(())
    }

    /// Writes what the sink takes and may have of `bytes`; gives how much that was, also where something came of it.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
    ) -> Result<usize, (usize, Event)> {
        let mut done = 0;
        loop {
            let rest = bytes.get(done..).unwrap_or_default();
            let (allowed, after) = match self.allowed(rest) {
                Ok(allowed) => allowed,
                Err(breach) => return Err((bytes.len(), Event::Broke(breach))),
            };
            let allowed = rest.get(..allowed).unwrap_or_default();
            if allowed.is_empty() {
                return Ok(done);
            }
            let taken = match Pin::new(&mut *sink).poll_write(cx, allowed) {
                Poll::Ready(Ok(0)) => return Err((done, Event::SinkLost(io::ErrorKind::WriteZero.into()))),
                Poll::Ready(Ok(taken)) => taken,
                Poll::Ready(Err(error)) => return Err((done, Event::SinkLost(error))),
                Poll::Pending => return Ok(done),
            };
            done += taken;
            (self.is_unflushed, self.has_moved) = (true, true);
            if matches!(self.phase, Phase::Saying) {
                continue;
            }
            if taken == allowed.len() {
                self.frames = after;
            } else {
                // All of them are frames.
                let _ = self.frames.follow(allowed.get(..taken).unwrap_or_default());
            }
            if let Some(closed) = self.frames.closed().filter(|_| !self.is_closed) {
                self.is_closed = true;
                return Err((done, Event::Closed(closed.code)));
            }
        }
    }

    /// How many of the next bytes the sink may have, and how its frames stand behind them.
    fn allowed(&mut self, bytes: &[u8]) -> Result<(usize, Frames), Breach> {
        let mut after = self.frames;
        let length = match &self.phase {
            Phase::Saying => return Ok((bytes.len(), after)),
            Phase::Ending(Last::Close(..)) => self.frames.rest_of_frame(bytes),
            _ => bytes.len(),
        };
        let Err(breach) = after.follow(bytes.get(..length).unwrap_or_default()) else { return Ok((length, after)) };
        if breach.whole == 0 {
            (self.is_open, self.is_broken) = (false, true);
            return Err(breach);
        }
        let mut after = self.frames;
        // Those before it are frames.
        let _ = after.follow(bytes.get(..breach.whole).unwrap_or_default());
        Ok((breach.whole, after))
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
            Phase::Ending(Last::Close(..)) if self.held.is_empty() && !self.is_open => return cut_off(),
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

    /// Has the sink send what it was given: never ready but with the loss of it.
    fn poll_flush(&mut self, cx: &mut Context<'_>, sink: &mut (impl AsyncWrite + Unpin)) -> Poll<Event> {
        if !self.is_unflushed {
            return Poll::Pending;
        }
        match ready!(Pin::new(sink).poll_flush(cx)) {
            Ok(()) => {
                self.is_unflushed = false;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Event::SinkLost(error)),
        }
    }
}

#[cfg(test)]
mod tests;
