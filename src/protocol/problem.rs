//! Refusals: an HTTP status with a short problem document (RFC 9457).

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

/// Why a request is refused.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// The word for it in the document's `type` and in the log.
    pub kind: &'static str,
    /// A sentence for whoever reads the answer. Holds nothing secret, and nothing of upstream's inner life.
    pub detail: Cow<'static, str>,
    /// What else the log should say; never sent.
    pub log: Option<String>,
    /// Fields that the status calls for, such as `Allow` or `Retry-After`.
    pub headers: HeaderMap,
    /// A body of upstream's own that takes the place of the document, with its media type.
    pub body: Option<(HeaderValue, Bytes)>,
}

impl Problem {
    /// A refusal with no further fields.
    #[must_use]
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, kind, detail: detail.into(), log: None, headers: HeaderMap::new(), body: None }
    }

    /// Adds a field to the answer.
    #[must_use]
    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Says when to try again: in whole seconds, and never "at once".
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Adds what only the log is told.
    #[must_use]
    pub fn with_log(mut self, log: impl Into<String>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// The answer.
    #[must_use]
    pub fn into_response(self) -> Response<Bytes> {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
        }
        let (media_type, body) = self.body.unwrap_or_else(|| {
            let document = Document {
                r#type: format!("urn:tidegate:{}", self.kind),
                title: self.status.canonical_reason().unwrap_or("Refused"),
                status: self.status.as_u16(),
                detail: &self.detail,
            };
            let body = serde_json::to_vec(&document).unwrap_or_default();
            (HeaderValue::from_static("application/problem+json"), body.into())
        });
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_wrong_in_a_problem_document() {
        let problem = Problem::new(StatusCode::FORBIDDEN, "origin-refused", "this origin is not let in");
        let response = problem.with_header(header::RETRY_AFTER, HeaderValue::from_static("3")).into_response();
        assert_eq!(response.status(), 403);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "3");
        assert_eq!(
            response.body(),
            r#"{"type":"urn:tidegate:origin-refused","title":"Forbidden","status":403,"detail":"this origin is not let in"}"#
        );
    }
}
