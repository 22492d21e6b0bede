//! From a WebSocket handshake to a connection that is driven: the free checks, then who asks, then upstream, then 101.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode, request};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::admit::Checked;
use super::handshake::{self, Handshake};
use super::http::{Body, Connection, add_id, whole};
use super::routes::Found;
use super::stream::ClientStream;
use super::strict::Strict;
use super::websocket::WebSocket;
use super::work::Slot;
use super::write_limit::WriteLimited;
use crate::access::limits::Place;
use crate::access::revoked::Revoker;
use crate::bridge::open::{Asked, Opened, open, prepare};
use crate::bridge::{self, Bridge, Stop};
use crate::identity::Holder;
use crate::ledger::book::Outcome;
use crate::protocol::problem::Problem;

/// How long a client whose upgrade was refused may take to end its side.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// A WebSocket handshake on a route that is bridged: the free checks first, then upstream, then 101.
    pub(super) async fn bridged(
        &self,
        id: Uuid,
        head: &request::Parts,
        found: &Found<'_, '_>,
        host: &str,
        settings: &Arc<bridge::Settings>,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let Handshake { accept, offered } = handshake::check(head)?;
        let checked = self.check(id, head, found, host, &offered)?;
        self.check_phase(&checked)?;
        let bridge = self.edge.bridges.of(settings).ok_or_else(stopping)?;
        let opened = tokio::select! {
            opened = self.open(&bridge, &checked) => opened,
            () = self.edge.stop.shutdown.cancelled() => return Err(stopping()),
        };
        let (opened, place) = opened?;
        let upgrade = upgrade.take().ok_or_else(stopping)?;

        let response = switched(accept, checked.credential.answer(opened.subprotocol()), id);

        let max_message_size = settings.session.max_message_size;
        let slot = self.slot.clone();
        // A fresh, small task: what served the handshake ends and gives its memory back.
        // Boxes: a future keeps the size of all that it was given and of the largest thing that it ever waits for.
        let (stop, revoker) = (self.edge.stop.clone(), self.edge.door.revoker.clone());
        let let_in = Box::pin(let_in(upgrade, opened, max_message_size, stop, revoker));
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
        let Checked { id, head, found, host, credential, .. } = checked;
        // Before anybody is asked who this is, and before a ticket is spent for nothing.
        let newcomer = bridge.memory.admit()?;
        let proven = self.prove(checked).await?;
        let place = self.place(checked, proven.as_ref())?;
        let asked = Asked {
            head,
            captures: &found.captures,
            host,
            peer: self.peer,
            tls: self.tls,
            offered: &credential.offered,
            identity: proven.as_ref().map(|proven| &proven.identity),
            turn: self.turn(),
        };
        let prepared = prepare(bridge, newcomer, &asked, *id)?;
        self.spend(proven.as_ref()).await?;
        let opened = open(bridge, prepared, asked, &found.route.path).await?;
        self.record(checked, Outcome::Bridged, proven.as_ref());
        Ok((opened, place))
    }
}

/// What lets a WebSocket in: 101 with the proof that the key was read, or 200 on HTTP/2, which has no key (RFC 8441 section 5).
pub(super) fn switched(accept: Option<HeaderValue>, subprotocol: Option<HeaderValue>, id: Uuid) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    if let Some(accept) = accept {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let fields = response.headers_mut();
        fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let fields = response.headers_mut();
    if let Some(subprotocol) = subprotocol {
        fields.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    add_id(fields, id);
    response
}

/// What is answered to whoever asks while the gateway stops.
pub(super) fn stopping() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting-down", "the gateway is stopping")
}

/// Waits for the 101 to be on its way, and gives what drives the connection from then on. It is given what it needs and not
/// the edge, which ends with its configuration.
async fn let_in(
    upgrade: OnUpgrade,
    opened: Opened,
    max_message_size: usize,
    stop: Stop,
    revoker: Arc<Revoker>,
) -> Option<Pin<Box<impl Future<Output = ()>>>> {
    match upgrade.await {
        Ok(upgraded) => {
            let (stream, already_read) = reclaim(upgraded);
            let socket = WebSocket::new(stream, already_read, max_message_size);
            let sent_away = |holder: &Holder| revoker.ends(holder);
            Some(Box::pin(opened.run(socket, stop, &sent_away)))
        }
        Err(error) => {
            opened.abandoned(&error);
            None
        }
    }
}

/// Ends a connection whose upgrade was refused. The HTTP library hands it over as if it had been upgraded, and dropping it
/// would end TLS without a word and could take the refusal with it.
pub(super) async fn end_refused(upgrade: OnUpgrade, slot: Slot) {
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

/// The client's own stream out of the HTTP library, with what was read too much. On HTTP/2 it is one stream among others.
pub(super) fn reclaim(upgraded: Upgraded) -> (ClientStream, Vec<u8>) {
    match upgraded.downcast::<TokioIo<Strict<WriteLimited>>>() {
        // Copied, however little: even an empty slice keeps the whole buffer of the HTTP library alive.
        Ok(Parts { io, read_buf, .. }) => (io.into_inner().into_inner().into_inner(), read_buf.to_vec()),
        Err(upgraded) => (ClientStream::from(upgraded), Vec::new()),
    }
}
