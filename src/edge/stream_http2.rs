//! One stream of an HTTP/2 connection as bytes (RFC 8441 section 5): an end of stream is the end of one direction, a reset the
//! end of both.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are handed over at once. The HTTP library copies whatever it is given into a box of its own and takes the next
/// one before the first is sent; a largest frame (RFC 9113 section 4.2) at a time keeps what one slow client holds small.
const WRITE: usize = 16 * 1024;

/// The bytes of one stream, as the HTTP library hands it over.
#[derive(Debug)]
pub(super) struct Http2Stream(TokioIo<Upgraded>);

impl From<Upgraded> for Http2Stream {
    fn from(upgraded: Upgraded) -> Self {
        Self(TokioIo::new(upgraded))
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = bytes.get(..WRITE).unwrap_or(bytes);
        Pin::new(&mut self.0).poll_write(cx, now)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    /// Every write is a frame, a box and a wake-up of its own, so that small pieces are put together first.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let (Some(first), second) = (filled.next(), filled.next()) else { return Poll::Ready(Ok(0)) };
        if second.is_none() || first.len() >= WRITE {
            return self.poll_write(cx, first);
        }
        let mut block = Vec::with_capacity(slices.iter().map(|slice| slice.len()).sum::<usize>().min(WRITE));
        for slice in slices {
            let room = WRITE - block.len();
            block.extend_from_slice(slice.get(..room).unwrap_or(slice));
        }
        self.poll_write(cx, &block)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
