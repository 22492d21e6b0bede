//! `/revocations`: what was taken back, and taking back more.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use http::header;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};

use super::Sources;
use crate::access::revoked::RevokeError;
use crate::identity::What;
use crate::protocol::headers::media_type;
use crate::protocol::problem::Problem;

/// Largest body in bytes: one name, however it is escaped.
const MAX_BODY: usize = 4096;

/// Most revocations that are shown: the newest.
const LIMIT: usize = 1000;

/// The newest revocations, the oldest of them first, and how many there are.
pub(super) fn list(sources: &Sources) -> String {
    let kept = sources.door.revoker.kept();
    let shown: Vec<Value> = kept
        .iter()
        .skip(kept.len().saturating_sub(LIMIT))
        .map(|one| {
            let at = one.at.duration_since(UNIX_EPOCH).unwrap_or_default();
            let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
            json!({ one.what.kind(): one.what.name(), "at_ms": at, "id": one.id.as_hyphenated().to_string() })
        })
        .collect();
    format!("{}\n", json!({ "revocations": shown, "total": kept.len() }))
}

/// Takes something back.
///
/// # Errors
///
/// 403 for a request that a web page makes, 415, 413 and 400 for a body that is not as it must be, 409 and 503 for what was
/// not done of it.
pub(super) async fn revoke<B: http_body::Body>(request: Request<B>, sources: &Sources) -> Result<String, Problem>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // A page can post to an address without reading the answer. It cannot leave out its origin, nor say that it sends JSON
    // without being asked first by the browser whether it may.
    if request.headers().contains_key(header::ORIGIN) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "origin-refused", "this is not for web pages"));
    }
    if media_type(request.headers()).is_none_or(|given| !given.eq_ignore_ascii_case("application/json")) {
        let detail = "the body must be sent as application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-content-type", detail));
    }
    let what = what(&whole(request.into_body()).await?)?;
    match sources.door.revoker.revoke(what).await {
        Ok(report) => Ok(format!("{}\n", json!({ "closed": report.closed, "told_others": report.told_others }))),
        Err(RevokeError::Full(_)) => {
            let detail = "live connections were ended, but there is no room to remember it: see revocation.max_entries";
            Err(Problem::new(StatusCode::CONFLICT, "revocations-full", detail))
        }
        Err(RevokeError::NotTold(_)) => {
            let detail = "it holds on this gateway, but others may not know of it: ask again until they do";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "revocation-not-shared", detail)
                .with_retry_after(Duration::from_secs(1)))
        }
    }
}

async fn whole<B: http_body::Body>(body: B) -> Result<Vec<u8>, Problem>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the body may have 4096 bytes"))
        }
        Err(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "bad-revocation", "the body broke off")),
    }
}

fn what(body: &[u8]) -> Result<What, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad-revocation", detail);
    let form = "the body must be an object with one of subject, ticket, key and connection, and its name";
    let named: BTreeMap<String, String> = serde_json::from_slice(body).map_err(|_| bad(form.to_owned()))?;
    let mut named = named.into_iter();
    match (named.next(), named.next()) {
        (Some((kind, name)), None) => What::read(&kind, &name).map_err(|error| bad(error.to_string())),
        _ => Err(bad(form.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_one_thing() {
        let read = |body: &str| what(body.as_bytes()).map(|what| what.to_string()).map_err(|problem| problem.kind);
        assert_eq!(read(r#"{"subject": "auth0|42"}"#), Ok("subject auth0|42".to_owned()));
        assert_eq!(read(r#"{"ticket": "x"}"#), Ok("ticket x".to_owned()));
        for body in [
            "",
            "[]",
            "{}",
            "\"ada\"",
            r#"{"user":"ada"}"#,
            r#"{"subject":7}"#,
            r#"{"subject":""}"#,
            r#"{"connection":"x"}"#,
            r#"{"subject":"ada","key":"k"}"#,
        ] {
            assert_eq!(read(body), Err("bad-revocation"), "{body}");
        }
    }
}
