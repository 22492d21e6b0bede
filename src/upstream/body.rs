//! The body of an answer, and the connection that it comes on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;

use super::connections::{Origin, StreamSlot};
use super::endpoint::Pool;

/// A body as it comes in. Dropping it before its end cancels it: HTTP/2 resets the stream, HTTP/1.1 closes the
/// connection.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    lease: Option<Lease>,
    keep: Option<Duration>,
}

/// What an answer holds on to.
#[derive(Debug)]
pub(super) enum Lease {
    /// A whole connection, which goes back when the body has ended.
    Http1 {
        /// Its handle.
        sender: http1::SendRequest<Full<Bytes>>,
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
    pub(super) fn new(incoming: Incoming, lease: Lease, keep: Option<Duration>) -> Self {
        let mut body = Self { incoming, lease: Some(lease), keep };
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    /// The next chunk; `None` at the regular end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            return match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => Poll::Ready(Some(Ok(chunk))),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => {
                    self.lease = None;
                    Poll::Ready(Some(Err(error)))
                }
                None => {
                    self.release();
                    Poll::Ready(None)
                }
            };
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

    fn release(&mut self) {
        if let Some(Lease::Http1 { sender, pool, origin }) = self.lease.take() {
            pool.recycle(sender, origin, self.keep);
        }
    }
}
