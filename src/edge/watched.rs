//! The bytes of an HTTP/2 connection on their way to the HTTP library, with an eye on its frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::FrameWatch;
use super::work::Work;
use super::write_limit::WriteLimited;
use crate::bridge::registry::Http2End;

/// A client's byte stream that fails once the client floods it.
#[derive(Debug)]
pub(super) struct Watched {
    stream: WriteLimited,
    watch: FrameWatch,
    work: Arc<Work>,
}

impl Watched {
    /// Watches the bytes of this connection.
    pub(super) fn new(stream: WriteLimited, work: Arc<Work>) -> Self {
        Self { stream, watch: FrameWatch::new(), work }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.watch.sent(bytes);
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let age = self.work.age();
        let read = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.watch.received(read, age).map_err(|flood| {
            // The library keeps of an error no more than its text.
            self.work.accuse(Http2End::Frames);
            io::Error::new(io::ErrorKind::InvalidData, flood)
        }))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
