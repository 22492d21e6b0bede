//! What becomes of one HTTP request from a client.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio_util::task::TaskTracker;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

pub(super) use super::current::{Client, Connection};
use super::hosts::host_of;
use super::routes::{Found, RouteTable};
use super::settings::Route;
use super::side::Sides;
use super::sunset;
use super::upgrade;
use super::work::HeldBody;
use super::{handshake, pass, request_http2};
use crate::access::Door;
use crate::access::caller::Caller;
use crate::access::limits::Limits;
use crate::bridge::registry::Registry;
use crate::bridge::{Bridges, Stop};
use crate::ledger::Ledger;
use crate::protocol::forwarded::Trust;
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::proxy::Proxies;
use crate::telemetry::{self, Refused};

/// Body of an answer to a client. One that fails ends the answer so that the client can tell: by a reset, or a close.
pub type Body = UnsyncBoxBody<Bytes, tower::BoxError>;

/// A body that is there already.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Answers requests that no route takes; absent, they get 404.
pub type Fallback = BoxCloneSyncService<Request<()>, Response<Body>, Infallible>;

/// What all requests share that one configuration serves.
pub struct Edge {
    /// From host and path to the route.
    pub routes: RouteTable,
    /// Those routes that take tickets.
    pub ticket_routes: Vec<Arc<Route>>,
    /// Who is let in.
    pub door: Arc<Door>,
    /// From the route's settings to its upstream.
    pub bridges: Bridges,
    /// From the route's settings to its proxy.
    pub proxies: Proxies,
    /// Who may speak for clients.
    pub trust: Trust,
    /// How many may be let in, of the routes in their order.
    pub limits: Arc<Limits>,
    /// Who still comes by WebSocket.
    pub ledger: Arc<Ledger>,
    /// For requests that no route takes.
    pub fallback: Option<Fallback>,
    /// Owner of every client connection's task.
    pub connections: TaskTracker,
    /// Tells every connection to end.
    pub stop: Stop,
}

/// The stack of a client connection, outermost first.
pub(super) fn stack(
    client: Client,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl http_body::Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + use<>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let registry = client.current.now().bridges.registry().clone();
    ServiceBuilder::new()
        // A defect costs one answer, not the connection without a word.
        .layer(CatchPanicLayer::custom(move |_| panicked(&registry)))
        .service_fn(move |request| answer(client.connection(), request))
}

fn panicked(registry: &Registry) -> Response<Full<Bytes>> {
    tracing::error!("a request's task panicked; this is a defect in tidegate, please report it");
    registry.refused("defect");
    let detail = "a defect in the gateway; its log says more";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", detail).into_response().map(Full::new)
}

async fn answer(connection: Connection, request: Request<Incoming>) -> Result<Response<HeldBody>, Infallible> {
    let under_way = connection.slot.request();
    let is_connect = request.method() == Method::CONNECT;
    // Large and short-lived: kept out of the task that an idle connection is made of.
    let response = Box::pin(connection.route(request)).await;
    let is_websocket = is_connect && response.status().is_success();
    Ok(under_way.answered(response, is_websocket))
}

impl Connection {
    async fn route(self, mut request: Request<Incoming>) -> Response<Body> {
        // On HTTP/2 the library has made one of every CONNECT; a refusal ends that stream and nothing else.
        let is_http2 = request.version() == Version::HTTP_2;
        let asks = is_http2 || handshake::asks_for_upgrade(request.headers());
        let mut upgrade = asks.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let this = self.resolve(&mut head);
        let mut response = this.answer(&mut head, body, &mut upgrade).await;
        if is_last(&head) && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Whoever asked for another protocol may already be speaking it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(upgrade) = upgrade.filter(|_| !is_http2) {
            this.edge.connections.spawn(upgrade::end_refused(upgrade, this.slot.clone()));
        }
        response
    }

    async fn answer(
        &self,
        head: &mut request::Parts,
        body: Incoming,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Response<Body> {
        let id = Uuid::now_v7();
        let is_http2 = head.version == Version::HTTP_2;
        let tidied = if is_http2 { request_http2::tidy(head, self.max_headers) } else { Ok(()) };
        pass::take_out(head);
        let head = &*head;
        let answered = if let Err(problem) = tidied.and_then(|()| self.check_target(head)) {
            Err(problem)
        } else if self.is_for_tickets(head) {
            Ok(self.ticket(id, head, body).await)
        } else if let Some(endpoint) = self.diagnostics_for(head) {
            Ok(self.diagnose(&endpoint, id, head, body, upgrade).await)
        } else {
            match self.find(head) {
                Ok(Some((found, host))) if handshake::asks_for_websocket(head) => {
                    sunset::announce(found.route, self.routed(id, head, body, &found, host, upgrade).await)
                }
                Ok(Some((found, host))) => self.routed(id, head, body, &found, host, upgrade).await,
                Ok(None) => Ok(self.fallback(head, id).await),
                Err(problem) => Err(problem),
            }
        };
        answered.unwrap_or_else(|problem| self.refuse(problem, head, id))
    }

    /// What a route makes of a request: a WebSocket is bridged or passed through, everything else is proxied.
    async fn routed(
        &self,
        id: Uuid,
        head: &request::Parts,
        body: Incoming,
        found: &Found<'_, '_>,
        host: &str,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let route = found.route;
        handshake::check_way(head, route)?;
        match (&route.bridge, &route.legacy, &route.proxy) {
            (_, _, Some(proxy)) if !handshake::asks_for_websocket(head) => {
                self.proxied(id, head, body, found, host, proxy).await
            }
            (Some(bridge), Some(legacy), _) if let Some(split) = &route.split => {
                self.websocket(id, head, found, host, Sides::Split { split, bridge, legacy }, upgrade).await
            }
            (Some(bridge), _, _) => self.websocket(id, head, found, host, Sides::Bridge(bridge), upgrade).await,
            (None, Some(legacy), _) => self.websocket(id, head, found, host, Sides::Legacy(legacy), upgrade).await,
            (None, None, Some(proxy)) => self.proxied(id, head, body, found, host, proxy).await,
            (None, None, None) => Err(no_route()),
        }
    }

    /// The route of a request, with the host that it names.
    fn find<'a>(&'a self, head: &'a request::Parts) -> Result<Option<(Found<'a, 'a>, &'a str)>, Problem> {
        let (name, host) = host(head)?;
        Ok(self.edge.routes.find(&name, head.uri.path()).map(|found| (found, host)))
    }

    /// Who asks, as far as a proof needs it.
    pub(super) fn caller<'a>(&'a self, head: &'a request::Parts, host: &'a str, origin: Option<&'a str>) -> Caller<'a> {
        let certificate = self.certificate.as_deref();
        Caller { head, host, address: self.peer.ip(), tls: self.tls, origin, certificate }
    }

    async fn fallback(&self, head: &request::Parts, id: Uuid) -> Response<Body> {
        if let Some(fallback) = &self.edge.fallback {
            match fallback.clone().oneshot(Request::from_parts(head.clone(), ())).await {
                Ok(response) => response,
            }
        } else {
            self.refuse(no_route(), head, id)
        }
    }

    pub(super) fn refuse(&self, problem: Problem, head: &request::Parts, id: Uuid) -> Response<Body> {
        self.edge.bridges.registry().refused(problem.kind);
        telemetry::refused(&Refused {
            connection: id,
            peer: self.peer,
            via: self.via,
            path: head.uri.path(),
            problem: &problem,
        });
        let mut response = problem.into_response();
        add_id(response.headers_mut(), id);
        response.map(whole)
    }
}

/// Whether a request is the last on its connection unless it is granted another protocol. HTTP/2 has no such thing.
fn is_last(head: &request::Parts) -> bool {
    let tunnels = head.method.as_str().eq_ignore_ascii_case(Method::CONNECT.as_str());
    head.version < Version::HTTP_2 && (handshake::asks_for_upgrade(&head.headers) || tunnels)
}

fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-route", "no route takes this host and path")
}

/// The host that a request names: without its port and in lower case, and as it stands there.
pub(super) fn host(head: &request::Parts) -> Result<(Cow<'_, str>, &str), Problem> {
    let is_http2 = head.version == Version::HTTP_2;
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // RFC 9113 section 8.3.1: there `:authority` says it, and `Host` need not be sent.
        (None, _) if is_http2 => authority,
        // RFC 9112 section 3.2: none, or more than one, is a bad request.
        _ => None,
    };
    let bad = || Problem::new(StatusCode::BAD_REQUEST, "bad-host", "the Host field must be given once and name a host");
    let host = host.ok_or_else(bad)?;
    // RFC 9113 section 8.3.1: where both are there, they say the same.
    if is_http2 && authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
        return Err(bad());
    }
    // RFC 9112 section 3.2.2: a target in absolute form names the host, whatever the field says.
    let host = authority.unwrap_or(host);
    Ok((host_of(host).ok_or_else(bad)?, host))
}

/// Lets a client and the log be brought together by one id.
pub(super) fn add_id(fields: &mut http::HeaderMap, id: Uuid) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        fields.insert(headers::TIDEGATE_CONNECTION, id);
    }
}
