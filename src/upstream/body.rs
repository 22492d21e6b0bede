//! The body of an answer, and the connection that it comes on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use super::connections::{Origin, StreamSlot};
use super::endpoint::Pool;
use super::request::RequestBody;
use super::upload::Watch;

/// A body as it comes in. Dropping it before its end cancels it: HTTP/2 resets the stream, HTTP/1.1 closes the
/// connection.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    lease: Option<Lease>,
    keep: Option<Duration>,
    /// The request's own body, which may still be on its way.
    upload: Option<Watch>,
}

/// What an answer holds on to.
#[derive(Debug)]
pub(super) enum Lease {
    /// A whole connection, which goes back when the body has ended.
    Http1 {
        /// Its handle.
        sender: http1::SendRequest<RequestBody>,
        /// Where it goes back to.
        pool: Arc<Pool>,
        /// Where it leads.
        origin: Origin,
    },
    /// One place on a shared connection; held for its drop alone.
    Http2(StreamSlot),
}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is above the limit, in bytes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

impl Body {
    pub(super) fn new(incoming: Incoming, lease: Lease, keep: Option<Duration>, upload: Option<Watch>) -> Self {
        let mut body = Self { incoming, lease: Some(lease), keep, upload };
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    /// The next chunk; `None` at the regular end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut *self).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => Some(Ok(chunk)),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => Some(Err(error)),
                None => None,
            });
        }
    }

    /// The whole body, if it is no larger than `limit`.
    ///
    /// # Errors
    ///
    /// [`ReadError`], when it is larger or breaks off.
    pub async fn read(mut self, limit: usize) -> Result<Bytes, ReadError> {
        let mut whole = BytesMut::new();
        let mut first = Bytes::new();
        while let Some(chunk) = std::future::poll_fn(|cx| self.poll_chunk(cx)).await {
            let chunk = chunk.map_err(ReadError::Broken)?;
            if whole.len() + first.len() + chunk.len() > limit {
                return Err(ReadError::TooLarge(limit));
            }
            // A body is most often one chunk, and then need not be copied.
            if first.is_empty() && whole.is_empty() {
                first = chunk;
                continue;
            }
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&chunk);
        }
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    }

    /// Gives the connection back as soon as nothing more can come on it.
    fn release(&mut self) {
        let lease = self.lease.take();
        if let Some(upload) = self.upload.take().filter(|upload| !upload.is_over()) {
            // The answer is whole, so that nobody reads the rest of the request: its connection is of no further use.
            return upload.unwanted();
        }
        if let Some(Lease::Http1 { sender, pool, origin }) = lease {
            pool.recycle(sender, origin, self.keep);
        }
    }
}

/// With what follows the last chunk: trailers.
impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        match &frame {
            // Whoever knows the length does not ask for the end.
            Some(Ok(_)) if this.incoming.is_end_stream() => this.release(),
            Some(Ok(_)) => {}
            Some(Err(_)) => this.lease = None,
            None => this.release(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.unwanted();
        }
    }
}
