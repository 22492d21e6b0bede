//! The event stream again: one attempt, and what its answer means.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::StatusCode;
use http::header::{self, HeaderValue};
use tracing::debug;
use uuid::Uuid;

use super::Bridge;
use crate::protocol::headers;
use crate::session::Reopened;
use crate::upstream::{Body, OpenAnswer, OutgoingRequest, Pool, StreamCount};

/// What came of one attempt.
pub(super) struct Attempt {
    /// What it means.
    pub outcome: Reopened,
    /// The stream, where it is [`Reopened::Open`].
    pub opened: Option<(Arc<Pool>, Body, StreamCount)>,
    /// What went wrong, for the log.
    pub failure: Option<String>,
}

/// Asks for the event stream of connection `id` again, when the upstream's budget allows. `subprotocol` is what upstream
/// chose for it, `avoid` the endpoint that is asked last.
pub(super) async fn reopen(
    bridge: Bridge,
    request: OutgoingRequest,
    id: Uuid,
    subprotocol: Option<HeaderValue>,
    avoid: Option<Arc<Pool>>,
) -> Attempt {
    // Held until the answer is there.
    let turn = bridge.upstream.reopens().turn().await;
    let deadline = Instant::now() + bridge.settings.open_timeout;
    let answered = bridge.upstream.open(&id, &request, deadline, avoid.as_ref()).await;
    drop(turn);
    let attempt = match answered {
        Ok(answer) => read(answer, subprotocol.as_ref()),
        Err(error) => failed(error.to_string()),
    };
    debug!(connection = %id, outcome = ?attempt.outcome, failure = attempt.failure.as_deref(), "asked for the event stream again");
    attempt
}

fn read(answer: OpenAnswer, subprotocol: Option<&HeaderValue>) -> Attempt {
    let OpenAnswer { pool, response, count } = answer;
    let (head, body) = response.into_parts();
    let status = head.status;
    let answered = |outcome| Attempt {
        outcome,
        opened: None,
        failure: Some(format!("upstream answered {} when asked for the event stream again", status.as_u16())),
    };
    match status {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => return answered(Reopened::Stopped),
        StatusCode::PRECONDITION_FAILED => return answered(Reopened::PositionLost),
        _ => {
            let retry_after = headers::retry_after(&head.headers, SystemTime::now());
            return answered(Reopened::Refused { status: status.as_u16(), retry_after });
        }
    }
    if !headers::is_event_stream(&head.headers) || !headers::is_identity(&head.headers) {
        // Such as the page of a balancer that has nobody behind it yet.
        return failed("upstream answered 200, but not with a plain event stream".to_owned());
    }
    let chosen = head.headers.get(header::SEC_WEBSOCKET_PROTOCOL).filter(|chosen| !chosen.is_empty());
    if chosen.is_some() && chosen != subprotocol {
        return Attempt {
            outcome: Reopened::Invalid("upstream chose another subprotocol for the same connection"),
            opened: None,
            failure: None,
        };
    }
    Attempt { outcome: Reopened::Open, opened: Some((pool, body, count)), failure: None }
}

fn failed(failure: String) -> Attempt {
    Attempt { outcome: Reopened::Failed, opened: None, failure: Some(failure) }
}
