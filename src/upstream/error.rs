//! Why a request has no answer, and what that says of its endpoint.

use std::error::Error as _;
use std::time::Duration;

use super::connect::ConnectError;
use super::guard::Verdict;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It was not sent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It was not sent: the endpoint has failed too often of late.
    #[error("{endpoint} has failed too often and is left alone")]
    Ejected {
        /// Host and port.
        endpoint: String,
        /// How long until it is tried again; zero while it is being tried.
        wait: Duration,
    },
    /// It was sent, and the endpoint says that it has not looked at it (RFC 9113 sections 6.8 and 8.7).
    #[error("{endpoint} has given the request back")]
    Unprocessed {
        /// Host and port.
        endpoint: String,
        /// What the HTTP library said.
        source: hyper::Error,
    },
    /// It may have been sent, but the connection broke before an answer came.
    #[error("the connection to {endpoint} broke before an answer came")]
    Broken {
        /// Host and port.
        endpoint: String,
        /// What the HTTP library said.
        source: hyper::Error,
    },
    /// It may have been sent, but no answer came in time.
    #[error("{endpoint} gave no answer in time")]
    TimedOut {
        /// Host and port.
        endpoint: String,
    },
}

impl SendError {
    /// Whether upstream cannot have acted on the request, so that it may be sent again.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Ejected { .. } | Self::Unprocessed { .. } => true,
            Self::Broken { .. } | Self::TimedOut { .. } => false,
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self {
            // One attempt that many waited for is one failure.
            Self::Connect(ConnectError::Shared { .. }) => Verdict::Neither,
            Self::Connect(_) | Self::Broken { .. } | Self::TimedOut { .. } => Verdict::Bad,
            // An endpoint that shuts down in order, or has enough to do, is not one that fails.
            Self::Unprocessed { .. } | Self::Ejected { .. } => Verdict::Neither,
        }
    }
}

/// Whether the peer has said that it did nothing with a request.
///
/// The library fails a stream with the peer's GOAWAY only if the stream's number is above the last one that the GOAWAY
/// names; the others go on, and fail with another error if the connection breaks later.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            return h2.is_remote() && (refused || h2.is_go_away());
        }
        source = inner.source();
    }
    false
}
