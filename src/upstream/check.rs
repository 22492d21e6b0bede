//! One health check. It has a connection of its own: streams that take all places cannot hold it up, and it also shows
//! whether the endpoint still accepts connections.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::connect::Http;
use super::endpoint::Pool;
use super::health::{HealthKind, HealthRule};
use super::request::OutgoingRequest;
use crate::protocol::headers;
use crate::telemetry::chain;

/// Checks an endpoint once; the error says why it is not well.
pub(super) async fn check(pool: &Pool, rule: &HealthRule) -> Result<(), String> {
    tokio::time::timeout(rule.timeout, ask(pool, rule))
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {:?}", rule.timeout)))
}

async fn ask(pool: &Pool, rule: &HealthRule) -> Result<(), String> {
    let request = OutgoingRequest {
        method: Method::GET,
        target: rule.path.clone(),
        headers: fields(rule.kind),
        body: Bytes::new(),
    };
    let connected = pool.connector().connect().await.map_err(|error| chain(&error))?;
    // The sender is held until the answer is read: dropping it ends the connection.
    match connected.http {
        Http::Http1(mut sender) => {
            let sent = sender.send_request(pool.addressed().http1(request)).await;
            judge(sent.map_err(|error| chain(&error))?, rule.kind).await
        }
        Http::Http2(mut sender, _) => {
            let sent = sender.send_request(pool.addressed().http2(request)).await;
            judge(sent.map_err(|error| chain(&error))?, rule.kind).await
        }
    }
}

fn fields(kind: HealthKind) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(USER_AGENT, HeaderValue::from_static("tidegate-health-check"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if kind == HealthKind::Stream {
        fields.insert(ACCEPT, headers::EVENT_STREAM);
    }
    fields
}

async fn judge(answer: Response<Incoming>, kind: HealthKind) -> Result<(), String> {
    let (head, mut body) = answer.into_parts();
    let status = head.status;
    match kind {
        HealthKind::Http if status.is_success() => return Ok(()),
        HealthKind::Stream if status == StatusCode::OK && headers::is_event_stream(&head.headers) => {}
        HealthKind::Stream if status == StatusCode::OK => return Err("the answer is no event stream".to_owned()),
        HealthKind::Http | HealthKind::Stream => return Err(format!("answered {}", status.as_u16())),
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| chain(&error))?;
        if frame.data_ref().is_some_and(|data| !data.is_empty()) {
            return Ok(());
        }
    }
    Err("the event stream ended without a byte".to_owned())
}
