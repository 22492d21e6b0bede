//! A question to an application: a small request whose answer is read whole, such as who a cookie belongs to.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::Upstream;
use super::body::ReadError;
use super::connections::Use;
use super::endpoint::{Pool, verdict};
use super::error::SendError;
use super::guard::Verdict;
use super::request::OutgoingRequest;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The last endpoint that was asked gave none.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The body is too large, or broke off.
    #[error("{endpoint}: {source}")]
    Body {
        /// Host and port.
        endpoint: String,
        /// What is wrong with it.
        source: ReadError,
    },
}

impl Upstream {
    /// Asks one endpoint after another for as long as one has provably not seen the request, and reads the answer, of at
    /// most `limit` bytes. Questions have a breaker of their own.
    ///
    /// # Errors
    ///
    /// [`AskError`], when there is no whole answer by `deadline`.
    pub async fn ask(&self, request: &OutgoingRequest, deadline: Instant, limit: usize) -> Result<Answer, AskError> {
        let mut failure = None;
        for pool in self.candidates(&Uuid::now_v7()) {
            match pool.ask(request.clone(), deadline, limit).await {
                Err(AskError::Send(error)) if error.is_unsent() => failure = Some(error),
                answered => return answered,
            }
        }
        // An upstream has at least one endpoint.
        Err(failure.unwrap_or(SendError::TimedOut { endpoint: self.name().to_string() }).into())
    }
}

impl Pool {
    async fn ask(
        self: &std::sync::Arc<Self>,
        request: OutgoingRequest,
        deadline: Instant,
        limit: usize,
    ) -> Result<Answer, AskError> {
        let permit = self.admit_question()?;
        let handed_over = AtomicBool::new(false);
        let exchange = async {
            let response = self.send(request, Use::Message, &handed_over).await?;
            let (head, body) = response.into_parts();
            let body = body.read(limit).await.map_err(|source| AskError::Body { endpoint: self.name(), source })?;
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let answered = tokio::time::timeout_at(deadline.into(), exchange)
            .await
            .unwrap_or_else(|_| Err(SendError::TimedOut { endpoint: self.name() }.into()));
        permit.settle(match &answered {
            Ok(answer) => verdict(answer.status, &answer.headers),
            Err(AskError::Send(error)) => error.verdict(),
            // It answers, if not what we can use.
            Err(AskError::Body { source: ReadError::TooLarge(_), .. }) => Verdict::Good,
            Err(AskError::Body { source: ReadError::Broken(_), .. }) => Verdict::Bad,
        });
        answered
    }
}
