//! `POST /stream-ticket`: a caller that proves who it is gets a ticket, with which a browser opens a stream later.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cors;
use super::http::{Body, Connection, add_id, whole};
use super::origin::Origin;
use super::settings::Route;
use super::site::Site;
use crate::access::Issued;
use crate::identity::Way;
use crate::protocol::problem::Problem;
use crate::telemetry;

/// Largest body in bytes: it holds the name of a route.
const LARGEST_BODY: usize = 4096;

/// How long the body may take: a caller that has sent the head has it in its hand.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// A route by its name, or the path that a client is going to ask for.
    route: Option<String>,
}

/// What is answered.
#[derive(Serialize)]
struct Given<'a> {
    ticket: &'a str,
    /// Whole seconds that it holds.
    expires_in: u64,
    /// Name of the route that it is for.
    route: &'a str,
}

/// Who asks, and under which host.
struct Asking<'a> {
    /// The host without its port and in lower case.
    name: Cow<'a, str>,
    /// The host as it stands in the request.
    host: &'a str,
    site: Site,
    /// Whether pages of that origin may ask for tickets under this host at all; for which routes, shows later.
    listed: bool,
}

impl Asking<'_> {
    /// The origin of a page that may read the answer.
    fn page(&self) -> Option<&Origin> {
        self.site.origin().filter(|_| self.listed)
    }
}

impl Connection {
    /// Whether a request is for the ticket endpoint of its listener.
    pub(super) fn is_for_tickets(&self, head: &request::Parts) -> bool {
        self.edge.door.gives_tickets() && self.ticket_path.as_deref() == Some(head.uri.path())
    }

    /// Answers a request for a ticket, a page's preflight included.
    pub(super) async fn ticket(&self, id: Uuid, head: &request::Parts, body: Incoming) -> Response<Body> {
        let asking = match self.asking(head) {
            Ok(asking) => asking,
            Err(problem) => {
                let mut response = self.refuse(problem, head, id);
                cors::vary(response.headers_mut());
                return response;
            }
        };
        let answered = self.give_ticket(id, head, body, &asking).await;
        let mut response = answered.unwrap_or_else(|problem| self.refuse(problem, head, id));
        match asking.page() {
            // Pages of other origins that are let in may also read why they get nothing.
            Some(origin) => cors::allow(response.headers_mut(), origin),
            None => cors::vary(response.headers_mut()),
        }
        response
    }

    fn asking<'a>(&self, head: &'a request::Parts) -> Result<Asking<'a>, Problem> {
        let (name, host) = super::http::host(head)?;
        let site = Site::of(&head.headers, self.tls, host)?;
        let mut routes = self.edge.ticket_routes.iter().filter(|route| route.is_for(&name));
        let listed = site
            .origin()
            .is_some_and(|origin| origin.is_same(self.tls, host) || routes.any(|route| route.lists(origin)));
        Ok(Asking { name, host, site, listed })
    }

    async fn give_ticket(
        &self,
        id: Uuid,
        head: &request::Parts,
        body: Incoming,
        asking: &Asking<'_>,
    ) -> Result<Response<Body>, Problem> {
        let Asking { name, host, site, .. } = asking;
        if cors::is_preflight(head) {
            asking.page().ok_or_else(super::site::refused)?;
            return Ok(cors::preflight().map(|()| whole(Bytes::new())));
        }
        if head.method != Method::POST {
            let problem =
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "a ticket is asked for by POST");
            return Err(problem.with_header(header::ALLOW, HeaderValue::from_static("POST, OPTIONS")));
        }
        cors::check_json(&head.headers)?;
        self.edge.door.check_rate(self.peer.ip())?;
        let wanted = read(body).await?;
        let route = self.wanted_route(wanted.route.as_deref(), name)?;
        site.check(route, self.tls, host)?;
        let origin = site.origin().map(ToString::to_string);
        let caller = self.caller(head, host, origin.as_deref());
        let issued = tokio::select! {
            issued = self.edge.door.issue(&caller, &route.name) => issued?,
            () = self.edge.stop.shutdown.cancelled() => return Err(super::upgrade::stopping()),
        };
        telemetry::ticket_issued(id, self.peer, &route.name, &issued.identity, &issued.ticket);
        let mut response = answer(&issued, route);
        add_id(response.headers_mut(), id);
        Ok(response)
    }

    /// The route that a ticket is wanted for: by its name, or by a path of it; or the only one there is for this host.
    fn wanted_route<'a>(&'a self, wanted: Option<&str>, host: &str) -> Result<&'a Route, Problem> {
        let unknown = |detail| Problem::new(StatusCode::NOT_FOUND, "unknown-route", detail);
        let mut routes = self.edge.ticket_routes.iter().filter(|route| route.is_for(host));
        let route = match wanted {
            Some(path) if path.starts_with('/') => {
                let path = path.split('?').next().unwrap_or(path);
                let found = self.edge.routes.find(host, path).map(|found| found.route);
                found.filter(|route| route.auth.takes(Way::Ticket))
            }
            Some(name) => routes.find(|route| *route.name == *name),
            None => match (routes.next(), routes.next()) {
                (Some(only), None) => return Ok(only),
                (None, _) => None,
                (Some(_), Some(_)) => {
                    let detail = "several routes take tickets: name one, as in {\"route\": \"/chat\"}";
                    return Err(Problem::new(StatusCode::BAD_REQUEST, "route-missing", detail));
                }
            },
        };
        route.map(Arc::as_ref).ok_or_else(|| unknown("no route that takes tickets is called that"))
    }
}

async fn read(body: Incoming) -> Result<Wanted, Problem> {
    let bad = |detail| Problem::new(StatusCode::BAD_REQUEST, "bad-body", detail);
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, LARGEST_BODY).collect()).await;
    let read =
        read.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "the body did not come in time"))?;
    let octets: Bytes = read
        .map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "the body may have 4 KiB")
            } else {
                bad("the body broke off")
            }
        })?
        .to_bytes();
    if octets.is_empty() {
        return Ok(Wanted::default());
    }
    serde_json::from_slice(&octets).map_err(|_| bad("the body must be a JSON object: {\"route\": \"...\"}, or {}"))
}

fn answer(issued: &Issued, route: &Route) -> Response<Body> {
    let given =
        Given { ticket: issued.token.expose_secret(), expires_in: issued.lifetime.as_secs(), route: &route.name };
    let body = serde_json::to_vec(&given).unwrap_or_default();
    let mut response = Response::new(whole(body));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
