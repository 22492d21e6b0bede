//! Answers that are event streams.

use std::sync::Arc;

use http::Response;
use http::response::Parts;
use http_body_util::BodyExt as _;

use super::answer::Answer;
use super::{Body, Context};
use crate::protocol::problem::Problem;

/// Why there is no event stream for a client that asks for one.
#[derive(Debug)]
pub enum Away {
    /// No endpoint gave an answer.
    Failed(Problem),
    /// What answered was 502, 503 or 504.
    Answered(Parts, Answer),
}

/// An event stream on its way to a client. Its head is that of the answer, hop-by-hop fields taken out.
#[must_use]
pub fn deliver(head: Parts, answer: Answer, _context: &Arc<Context>) -> Response<Body> {
    Response::from_parts(head, answer.map_err(Into::into).boxed_unsync())
}

/// What a client is told that asks for an event stream while upstream is away.
///
/// # Errors
///
/// The refusal, where it is passed on as it is.
pub fn away(away: Away, context: &Arc<Context>) -> Result<Response<Body>, Problem> {
    match away {
        Away::Failed(problem) => Err(problem),
        Away::Answered(head, answer) => Ok(deliver(head, answer, context)),
    }
}
