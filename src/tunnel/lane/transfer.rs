//! How bytes get into a lane and out of it.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Event, Lane, Phase, READ, READS_PER_POLL, Source};
use crate::tunnel::frames::{Breach, Frames};
use crate::tunnel::rules::Last;

impl Lane {
    /// Reads something; the end of the source is an error here.
    pub(super) fn poll_read(
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
        self.source = Source::Ended;
        Poll::Ready(Err(event))
    }

    /// Drops what still comes.
    pub(super) fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        source: Option<&mut (impl AsyncRead + Unpin)>,
    ) -> Poll<Event> {
        self.held = VecDeque::new();
        let Some(source) = source.filter(|_| self.source != Source::Ended) else { return Poll::Pending };
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
    pub(super) fn write_held(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Event> {
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
    pub(super) fn write(
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
            self.source = Source::Broken;
            return Err(breach);
        }
        let mut after = self.frames;
        // Those before it are frames.
        let _ = after.follow(bytes.get(..breach.whole).unwrap_or_default());
        Ok((breach.whole, after))
    }

    /// Has the sink send what it was given: never ready but with the loss of it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, sink: &mut (impl AsyncWrite + Unpin)) -> Poll<Event> {
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
