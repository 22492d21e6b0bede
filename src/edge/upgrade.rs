//! From a WebSocket handshake to a connection that is driven: the free checks, then who asks, then upstream, then 101.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Response, StatusCode, request};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::credential::{self, Credential};
use super::handshake::{self, Handshake};
use super::http::{Body, Connection, Edge, add_id};
use super::routes::Found;
use super::settings::Auth;
use super::site::Site;
use super::stream::ClientStream;
use super::websocket::WebSocket;
use crate::access::limits::Place;
use crate::bridge::Bridge;
use crate::bridge::open::{Asked, Opened, open, prepare};
use crate::identity::{Holder, Way};
use crate::protocol::problem::Problem;

/// How long a client whose upgrade was refused may take to end its side.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// A handshake that has passed the checks that cost nothing.
struct Checked<'a> {
    id: Uuid,
    head: &'a request::Parts,
    found: &'a Found<'a, 'a>,
    host: &'a str,
    site: Site,
    credential: Credential<'a>,
}

impl Connection {
    /// A request for a bridged route: the free checks first, then upstream, then 101.
    pub(super) async fn bridged(
        &self,
        id: Uuid,
        head: &request::Parts,
        found: &Found<'_, '_>,
        host: &str,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let route = found.route;
        let Handshake { accept, offered } = handshake::check(head)?;
        let site = Site::of(&head.headers, self.tls, host)?;
        site.check(route, self.tls, host)?;
        let credential = match self.edge.door.ticket_param() {
            Some(param) if route.auth.takes(Way::Ticket) => credential::find(head.uri.query(), &offered, param)?,
            _ => Credential::without(&offered),
        };
        let checked = Checked { id, head, found, host, site, credential };
        let bridge = self.edge.bridges.of(&route.bridge).ok_or_else(stopping)?;
        let opened = tokio::select! {
            opened = self.open(&bridge, &checked) => opened,
            () = self.edge.stop.shutdown.cancelled() => return Err(stopping()),
        };
        let (opened, place) = opened?;
        let upgrade = upgrade.take().ok_or_else(stopping)?;

        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let fields = response.headers_mut();
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(subprotocol) = checked.credential.answer(opened.subprotocol()) {
            fields.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        add_id(fields, id);

        let max_message_size = route.bridge.session.max_message_size;
        let slot = self.slot.clone();
        // A fresh, small task: what served the handshake ends and gives its memory back.
        // Boxes: a future keeps the size of all that it was given and of the largest thing that it ever waits for.
        let let_in = Box::pin(let_in(upgrade, opened, max_message_size, self.edge.clone()));
        self.edge.connections.spawn(async move {
            if let Some(driven) = let_in.await {
                driven.await;
            }
            drop((slot, place));
        });
        Ok(response)
    }

    /// Who asks, whether there is room, and what upstream says to it.
    async fn open(&self, bridge: &Bridge, checked: &Checked<'_>) -> Result<(Opened, Place), Problem> {
        let Checked { id, head, found, host, site, credential } = checked;
        let (route, door) = (found.route, &self.edge.door);
        // Before anybody is asked who this is, and before a ticket is spent for nothing.
        let newcomer = bridge.memory.admit()?;
        let origin = site.origin().map(ToString::to_string);
        let proven = match &route.auth {
            Auth::None => None,
            Auth::OneOf(ways) => {
                let caller = self.caller(head, host, origin.as_deref());
                let ticket = credential.ticket.as_ref().map(ExposeSecret::expose_secret);
                Some(door.prove(ways, &caller, &route.name, ticket).await?)
            }
        };
        let identity = proven.as_ref().map(|proven| &proven.identity);
        // Free again wherever this ends; a connection that comes of it keeps it.
        let place = self.edge.limits.admit(found.index, identity.map(|identity| &identity.subject), self.peer.ip())?;
        let asked = Asked {
            head,
            captures: &found.captures,
            host,
            peer: self.peer,
            tls: self.tls,
            offered: &credential.offered,
            identity,
        };
        let prepared = prepare(bridge, newcomer, &asked, *id)?;
        // Last of all: a ticket is not to be lost to a refusal that could have been known.
        if let Some(proven) = &proven {
            door.spend(proven).await?;
        }
        Ok((open(bridge, prepared, asked, &route.path).await?, place))
    }
}

/// What is answered to whoever asks while the gateway stops.
pub(super) fn stopping() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", "the gateway is stopping")
}

/// Waits for the 101 to be on its way, and gives what drives the connection from then on.
async fn let_in(
    upgrade: OnUpgrade,
    opened: Opened,
    max_message_size: usize,
    edge: Arc<Edge>,
) -> Option<Pin<Box<impl Future<Output = ()>>>> {
    match upgrade.await {
        Ok(upgraded) => {
            let (stream, already_read) = reclaim(upgraded)?;
            let socket = WebSocket::new(stream, already_read, max_message_size);
            let sent_away = |holder: &Holder| edge.door.revoker.ends(holder);
            Some(Box::pin(opened.run(socket, edge.stop.clone(), &sent_away)))
        }
        Err(error) => {
            opened.abandoned(&error);
            None
        }
    }
}

/// Ends a connection whose upgrade was refused. The HTTP library hands it over as if it had been upgraded, and dropping it
/// would end TLS without a word and could take the refusal with it.
pub(super) async fn end_refused(upgrade: OnUpgrade, slot: Arc<OwnedSemaphorePermit>) {
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
