//! What becomes of one HTTP request from a client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::TaskTracker;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use super::handshake::{self, Handshake};
use super::hosts::host_of;
use super::origin::Origin;
use super::routes::{Found, RouteTable};
use super::settings::{Auth, Route};
use super::stream::ClientStream;
use super::websocket::WebSocket;
use crate::access::limits::Limits;
use crate::bridge::open::{Asked, Opened, open};
use crate::bridge::registry::Registry;
use crate::bridge::{Bridges, Stop};
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::telemetry::{self, Refused};

/// How long a client whose upgrade was refused may take to end its side.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// Body of an answer to a client.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers requests that no route takes; absent, they get 404.
pub type Fallback = BoxCloneSyncService<Request<()>, Response<Body>, Infallible>;

/// What all client connections share.
pub struct Edge {
    /// From host and path to the route.
    pub routes: RouteTable,
    /// From the route's settings to its upstream.
    pub bridges: Bridges,
    /// How many may be let in, of the routes in their order.
    pub limits: Limits,
    /// For requests that no route takes.
    pub fallback: Option<Fallback>,
    /// Owner of every client connection's task.
    pub connections: TaskTracker,
    /// Tells every connection to end.
    pub stop: Stop,
}

/// One client connection before it is upgraded.
#[derive(Clone)]
pub(super) struct Connection {
    pub edge: Arc<Edge>,
    pub peer: SocketAddr,
    pub tls: bool,
    /// The place that the connection takes; a WebSocket keeps it.
    pub slot: Arc<OwnedSemaphorePermit>,
}

/// The stack of a client connection, outermost first.
pub(super) fn stack(
    connection: Connection,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl http_body::Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + use<>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let registry = connection.edge.bridges.registry().clone();
    ServiceBuilder::new()
        // A defect costs one answer, not the connection without a word.
        .layer(CatchPanicLayer::custom(move |_| panicked(&registry)))
        .service_fn(move |request| answer(connection.clone(), request))
}

fn panicked(registry: &Registry) -> Response<Full<Bytes>> {
    tracing::error!("a request's task panicked; this is a defect in tidegate, please report it");
    registry.refused("defect");
    let detail = "a defect in the gateway; its log says more";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", detail).into_response().map(Full::new)
}

async fn answer(connection: Connection, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    // Large and short-lived: kept out of the task that an idle connection is made of.
    Ok(Box::pin(connection.route(request)).await)
}

impl Connection {
    async fn route(self, mut request: Request<Incoming>) -> Response<Body> {
        let mut upgrade = handshake::asks_for_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (head, _body) = request.into_parts();
        let id = Uuid::now_v7();
        let answered = match self.find(&head) {
            Ok(Some((found, host))) => self.bridged(id, &head, &found, host, &mut upgrade).await,
            Ok(None) => Ok(self.fallback(&head, id).await),
            Err(problem) => Err(problem),
        };
        if let Some(upgrade) = upgrade {
            self.edge.connections.spawn(end_refused(upgrade, self.slot.clone()));
        }
        answered.unwrap_or_else(|problem| self.refuse(problem, &head, id))
    }

    /// The route of a request, with the host that it names.
    fn find<'a>(&'a self, head: &'a request::Parts) -> Result<Option<(Found<'a, 'a>, &'a str)>, Problem> {
        let mut hosts = head.headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            // RFC 9112 section 3.2: none, or more than one, is a bad request.
            _ => None,
        };
        let bad =
            || Problem::new(StatusCode::BAD_REQUEST, "bad-host", "the Host field must be given once and name a host");
        let host = host.ok_or_else(bad)?;
        // RFC 9112 section 3.2.2: a target in absolute form names the host, whatever the field says.
        let host = head.uri.authority().map_or(host, http::uri::Authority::as_str);
        let name = host_of(host).ok_or_else(bad)?;
        Ok(self.edge.routes.find(&name, head.uri.path()).map(|found| (found, host)))
    }

    /// A request for a bridged route: the free checks first, then upstream, then 101.
    async fn bridged(
        &self,
        id: Uuid,
        head: &request::Parts,
        found: &Found<'_, '_>,
        host: &str,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let route = found.route;
        let Handshake { accept, offered } = handshake::check(head)?;
        self.check_origin(route, head, host)?;
        let Auth::None = route.auth;
        let gone = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", "the gateway is stopping");
        let bridge = self.edge.bridges.of(&route.bridge).ok_or_else(gone)?;
        // Free again wherever this ends; a connection that comes of it keeps it.
        let place = self.edge.limits.admit(found.index, None, self.peer.ip())?;
        let asked = Asked {
            head,
            captures: &found.captures,
            host,
            peer: self.peer,
            tls: self.tls,
            offered: &offered,
            expires: None,
        };
        let opened = tokio::select! {
            opened = open(&bridge, asked, id, &route.path) => opened?,
            () = self.edge.stop.shutdown.cancelled() => return Err(gone()),
        };
        let upgrade = upgrade.take().ok_or_else(gone)?;

        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let fields = response.headers_mut();
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(subprotocol) = opened.subprotocol() {
            fields.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
        }
        add_id(fields, id);

        let max_message_size = route.bridge.session.max_message_size;
        let slot = self.slot.clone();
        // A fresh, small task: what served the handshake ends and gives its memory back.
        // Boxes: a future keeps the size of all that it was given and of the largest thing that it ever waits for.
        let let_in = Box::pin(let_in(upgrade, opened, max_message_size, self.edge.stop.clone()));
        self.edge.connections.spawn(async move {
            if let Some(driven) = let_in.await {
                driven.await;
            }
            drop((slot, place));
        });
        Ok(response)
    }

    /// A browser sends `Origin` and cannot be made to lie about it; whoever sends none is not a browser.
    fn check_origin(&self, route: &Route, head: &request::Parts, host: &str) -> Result<(), Problem> {
        let mut origins = head.headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Ok(()),
            (Some(origin), None) => origin.to_str().ok().and_then(Origin::parse),
            _ => None,
        };
        let let_in = origin.is_some_and(|origin| {
            origin.is_same(self.tls, host) || route.origins.iter().any(|pattern| pattern.matches(&origin))
        });
        if let_in {
            return Ok(());
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "origin-refused", "pages of this origin are not let in here"))
    }

    async fn fallback(&self, head: &request::Parts, id: Uuid) -> Response<Body> {
        if let Some(fallback) = &self.edge.fallback {
            match fallback.clone().oneshot(Request::from_parts(head.clone(), ())).await {
                Ok(response) => response,
            }
        } else {
            let problem = Problem::new(StatusCode::NOT_FOUND, "no-route", "no route takes this host and path");
            self.refuse(problem, head, id)
        }
    }

    fn refuse(&self, problem: Problem, head: &request::Parts, id: Uuid) -> Response<Body> {
        self.edge.bridges.registry().refused(problem.kind);
        telemetry::refused(&Refused { connection: id, peer: self.peer, path: head.uri.path(), problem: &problem });
        let mut response = problem.into_response();
        if handshake::asks_for_upgrade(&head.headers) {
            // Whoever asked for another protocol may already be speaking it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        add_id(response.headers_mut(), id);
        response.map(|body| Full::new(body).boxed_unsync())
    }
}

/// Lets a client and the log be brought together by one id.
fn add_id(fields: &mut http::HeaderMap, id: Uuid) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        fields.insert(headers::TIDEGATE_CONNECTION, id);
    }
}

/// Waits for the 101 to be on its way, and gives what drives the connection from then on.
async fn let_in(
    upgrade: OnUpgrade,
    opened: Opened,
    max_message_size: usize,
    stop: Stop,
) -> Option<Pin<Box<impl Future<Output = ()>>>> {
    match upgrade.await {
        Ok(upgraded) => {
            let (stream, already_read) = reclaim(upgraded)?;
            let socket = WebSocket::new(stream, already_read, max_message_size);
            Some(Box::pin(opened.run(socket, stop)))
        }
        Err(error) => {
            opened.abandoned(&error);
            None
        }
    }
}

/// Ends a connection whose upgrade was refused. The HTTP library hands it over as if it had been upgraded, and dropping it
/// would end TLS without a word and could take the refusal with it.
async fn end_refused(upgrade: OnUpgrade, slot: Arc<OwnedSemaphorePermit>) {
    if let Ok(upgraded) = upgrade.await {
        let mut stream = TokioIo::new(upgraded);
        let end = async {
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(REFUSED_LINGER, end).await;
    }
    drop(slot);
}

/// The client's own stream out of the HTTP library, with what was read too much.
fn reclaim(upgraded: Upgraded) -> Option<(ClientStream, Vec<u8>)> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<ClientStream>>().ok()?;
    // Copied, however little: even an empty slice keeps the whole buffer of the HTTP library alive.
    Some((io.into_inner(), read_buf.to_vec()))
}
