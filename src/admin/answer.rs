//! What becomes of one request to the admin listener.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use super::connections::{self, Wanted};
use super::rights::Rights;
use super::{Sources, ledger, metrics, ready, revocations};
use crate::protocol::problem::Problem;

/// Body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The one path that something can be posted to.
const REVOCATIONS: &str = "/revocations";

/// What is said at `/`.
const CONTENTS: &str = "\
tidegate

/livez        200 while the process serves
/readyz       200 while new clients are let in, otherwise 503 and why
/metrics      for Prometheus
/connections  the live connections as JSON; ?route=PATTERN, ?limit=N
/streams      the event streams that are passed on, in the same way
/ledger       who still comes by WebSocket, as JSON; ?route=NAME
/revocations  who was sent away, as JSON; a POST sends away whoever it names

/.well-known/jwks.json  the keys that verify identity tokens, with [identity]
";

/// How long a key set may be kept (RFC 9111 section 5.2.2.1): a new key is published for longer than this before it signs.
const KEPT: HeaderValue = HeaderValue::from_static("max-age=300");
const KEY_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");

/// Answers a request, as far as it has the right to.
pub(super) async fn answer<B: http_body::Body>(
    request: Request<B>,
    rights: &Rights,
    sources: &Sources,
) -> Response<Body>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let revokes = request.method() == Method::POST && request.uri().path() == REVOCATIONS;
    let checked = check(&request, rights.expose);
    let checked = if revokes { checked.and_then(|()| rights.check_change(request.headers())) } else { checked };
    let answered = match checked {
        Err(problem) => Err(problem),
        Ok(()) if revokes => revocations::revoke(request, sources).await.map(|body| whole(StatusCode::OK, JSON, body)),
        Ok(()) => route(&request, sources),
    };
    let mut response =
        answered.unwrap_or_else(|problem| problem.into_response().map(|body| Full::new(body).boxed_unsync()));
    let fields = response.headers_mut();
    fields.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn route<B>(request: &Request<B>, sources: &Sources) -> Result<Response<Body>, Problem> {
    let head = |status, media_type, body: String| Ok(whole(status, media_type, body));
    let answer = match request.uri().path() {
        "/" => head(StatusCode::OK, TEXT, CONTENTS.to_owned()),
        "/livez" => head(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => {
            let (ready, body) = ready::state(sources);
            head(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, JSON, body)
        }
        "/metrics" => head(StatusCode::OK, metrics::MEDIA_TYPE, metrics::page(sources)?),
        "/connections" => {
            let wanted = Wanted::read(request.uri().query().unwrap_or_default())?;
            Ok(with_body(StatusCode::OK, JSON, connections::list(sources, &wanted, Instant::now()).boxed_unsync()))
        }
        "/streams" => {
            let wanted = Wanted::read(request.uri().query().unwrap_or_default())?;
            Ok(with_body(StatusCode::OK, JSON, connections::streams(sources, &wanted, Instant::now()).boxed_unsync()))
        }
        "/ledger" => head(StatusCode::OK, JSON, ledger::report(sources, request.uri().query().unwrap_or_default())?),
        "/.well-known/jwks.json" if sources.jwks.is_some() => {
            let jwks = sources.jwks.as_deref().unwrap_or_default();
            let mut answer = whole(StatusCode::OK, KEY_SET, jwks.to_owned());
            answer.headers_mut().insert(header::CACHE_CONTROL, KEPT);
            Ok(answer)
        }
        REVOCATIONS => head(StatusCode::OK, JSON, revocations::list(sources)),
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here; / says what there is")),
    }?;
    // After the path: 404 is true of any method.
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allowed = if request.uri().path() == REVOCATIONS { "GET, HEAD, POST" } else { "GET, HEAD" };
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this is asked for by GET")
            .with_header(header::ALLOW, HeaderValue::from_static(allowed)));
    }
    Ok(answer)
}

/// Refuses requests that were made under a name. A page in a browser on this machine can be made to ask for
/// `evil.example`, whose name then leads to 127.0.0.1 (DNS rebinding); it cannot be made to ask for an address and read the
/// answer.
fn check<B>(request: &Request<B>, expose: bool) -> Result<(), Problem> {
    if expose {
        return Ok(());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        _ => None,
    };
    let host = host.ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "bad-host", "the Host field must be given once and name a host")
    })?;
    // RFC 9112 section 3.2.2: a target in absolute form names the host as well.
    if is_local(&host) && request.uri().authority().is_none_or(is_local) {
        return Ok(());
    }
    let detail = "without expose = true the admin listener answers to IP addresses and localhost alone";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "bad-host", detail))
}

fn is_local(host: &Authority) -> bool {
    let host = host.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn whole(status: StatusCode, media_type: HeaderValue, body: String) -> Response<Body> {
    with_body(status, media_type, Full::from(body).boxed_unsync())
}

fn with_body(status: StatusCode, media_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, expose: bool) -> Option<u16> {
        let request = Request::get("/livez").header("host", host).body(()).expect("a request");
        check(&request, expose).err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn only_addresses_and_localhost_are_answered_unless_exposed() {
        for host in ["127.0.0.1:9900", "127.0.0.1", "[::1]:9900", "[::1]", "localhost:9900", "LOCALHOST", "10.0.0.7:1"]
        {
            assert_eq!(asked(host, false), None, "{host}");
        }
        for host in ["evil.example:9900", "127.0.0.1.evil.example", "localhost.evil.example", "tidegate"] {
            assert_eq!(asked(host, false), Some(421), "{host}");
            assert_eq!(asked(host, true), None, "{host}");
        }
        assert_eq!(asked("", false), Some(400));
    }

    #[test]
    fn a_target_that_names_another_host_is_refused_and_so_are_two_hosts() {
        let request =
            Request::get("http://evil.example/livez").header("host", "127.0.0.1").body(()).expect("a request");
        assert_eq!(check(&request, false).expect_err("refused").status, 421);
        let twice = Request::get("/livez").header("host", "127.0.0.1").header("host", "127.0.0.1");
        assert_eq!(check(&twice.body(()).expect("a request"), false).expect_err("refused").status, 400);
    }
}
