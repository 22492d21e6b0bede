//! A client's byte stream that ends when the client takes nothing of what is written to it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::stream::ClientStream;
use crate::bridge::registry::Registry;

/// A stream that carries HTTP. The HTTP library asks for no more of an answer while the client takes nothing of it, so that
/// without this nothing would end such an answer, nor what upstream holds for it.
#[derive(Debug)]
pub(super) struct WriteLimited {
    stream: ClientStream,
    limit: Duration,
    /// There is one only while the client is waited for.
    wait: Option<Wait>,
    registry: Arc<Registry>,
    peer: SocketAddr,
}

#[derive(Debug)]
struct Wait {
    timer: Pin<Box<Sleep>>,
    /// How much the client had not acknowledged when it was last looked at.
    unacknowledged: Option<u32>,
}

impl WriteLimited {
    /// Ends the stream of the client at `peer` once it has taken nothing for `limit`, and counts it in `registry`.
    pub(super) fn new(stream: ClientStream, limit: Duration, peer: SocketAddr, registry: Arc<Registry>) -> Self {
        Self { stream, limit, wait: None, registry, peer }
    }

    /// The stream, where something else than HTTP follows.
    pub(super) fn into_inner(self) -> ClientStream {
        self.stream
    }

    /// Hands on what became of a write, as long as the client is not waited for in vain.
    fn limited<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.wait = None;
            return done;
        }
        let Self { stream, limit, wait, .. } = self;
        let wait = wait.get_or_insert_with(|| Wait {
            timer: Box::pin(tokio::time::sleep(*limit)),
            unacknowledged: stream.unacknowledged(),
        });
        while wait.timer.as_mut().poll(cx).is_ready() {
            // The system lets us write again only when much of what it holds is gone; a slow reader takes longer for that.
            let now = stream.unacknowledged();
            if now == wait.unacknowledged {
                return Poll::Ready(Err(self.give_up()));
            }
            wait.unacknowledged = now;
            wait.timer.as_mut().reset(Instant::now() + *limit);
        }
        Poll::Pending
    }

    fn give_up(&mut self) -> io::Error {
        self.registry.write_timed_out();
        debug!(peer = %self.peer, "a client takes nothing of what it is sent; its connection is cut");
        // What it has not taken is not kept for it either.
        self.stream.reset_when_dropped();
        io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for write_timeout")
    }
}

impl AsyncRead for WriteLimited {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for WriteLimited {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.limited(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.limited(cx, ended)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.limited(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
