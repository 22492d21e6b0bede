//! From a WebSocket handshake to a connection that is driven: the free checks, then who asks, then upstream, then 101.

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
use super::behind::{Behind, Driven, Opened};
use super::handshake::{self, Handshake};
use super::http::{Body, Connection, add_id, whole};
use super::routes::Found;
use super::side::{Chosen, Sides, name_side};
use super::stream::ClientStream;
use super::strict::Strict;
use super::work::Slot;
use super::write_limit::WriteLimited;
use crate::access::limits::Place;
use crate::access::revoked::Revoker;
use crate::bridge::memory::Newcomer;
use crate::bridge::open::Asked;
use crate::bridge::{self, Stop};
use crate::identity::Holder;
use crate::ledger::book::Outcome;
use crate::protocol::problem::Problem;
use crate::telemetry::Side;
use crate::tunnel;

/// How long a client whose upgrade was refused may take to end its side.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// A WebSocket handshake: the free checks first, then, on a split route, the side, then upstream, then 101.
    pub(super) async fn websocket(
        &self,
        id: Uuid,
        head: &request::Parts,
        found: &Found<'_, '_>,
        host: &str,
        sides: Sides<'_>,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let Handshake { accept, offered } = handshake::check(head)?;
        let checked = self.check(id, head, found, host, &offered)?;
        self.check_phase(&checked)?;
        // Before anybody is asked who this is, and before a ticket is spent for nothing.
        let newcomer = self.edge.bridges.memory().admit()?;
        match sides {
            Sides::Bridge(bridge) => self.admit(&checked, newcomer, self.bridge(bridge), None, accept, upgrade).await,
            Sides::Legacy(legacy) => self.admit(&checked, newcomer, self.legacy(legacy), None, accept, upgrade).await,
            Sides::Split { split, bridge, legacy } => {
                let chosen = tokio::select! {
                    chosen = self.choose(&checked, split, bridge) => chosen?,
                    () = self.edge.stop.shutdown.cancelled() => return Err(stopping()),
                };
                let side = chosen.turn.side;
                let behind = match side {
                    Side::Bridge => self.bridge(bridge),
                    Side::Legacy => self.legacy(legacy),
                };
                name_side(self.admit(&checked, newcomer, behind, Some(chosen), accept, upgrade).await, split, side)
            }
        }
    }

    /// Has a client that upstream accepts let in.
    async fn admit(
        &self,
        checked: &Checked<'_>,
        newcomer: Newcomer,
        behind: Option<Behind>,
        chosen: Option<Chosen>,
        accept: Option<HeaderValue>,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let behind = behind.ok_or_else(stopping)?;
        let opened = tokio::select! {
            opened = self.open(&behind, checked, newcomer, chosen) => opened,
            () = self.edge.stop.shutdown.cancelled() => return Err(stopping()),
        };
        let (opened, place) = opened?;
        let upgrade = upgrade.take().ok_or_else(stopping)?;

        let mut response = switched(accept, checked.credential.answer(opened.subprotocol()), checked.id);
        opened.add_fields(response.headers_mut());

        let slot = self.slot.clone();
        // A fresh, small task: what served the handshake ends and gives its memory back.
        // Boxes: a future keeps the size of all that it was given and of the largest thing that it ever waits for.
        let (stop, revoker) = (self.edge.stop.clone(), self.edge.door.revoker.clone());
        let let_in = Box::pin(let_in(upgrade, opened, stop, revoker));
        self.edge.connections.spawn(async move {
            if let Some(driven) = let_in.await {
                driven.await;
            }
            drop((slot, place));
        });
        Ok(response)
    }

    /// Who asks, whether there is room, and what upstream says to it. A ticket is spent here, and only here.
    async fn open(
        &self,
        behind: &Behind,
        checked: &Checked<'_>,
        newcomer: Newcomer,
        chosen: Option<Chosen>,
    ) -> Result<(Opened, Place), Problem> {
        let Checked { id, head, found, host, credential, .. } = checked;
        let turn = chosen.as_ref().map(|chosen| chosen.turn);
        let proven = match chosen {
            Some(chosen) => chosen.proven,
            None => self.prove(checked).await?,
        };
        let place = self.place(checked, proven.as_ref())?;
        let asked = Asked {
            head,
            captures: &found.captures,
            host,
            peer: self.peer,
            tls: self.tls,
            offered: &credential.offered,
            identity: proven.as_ref().map(|proven| &proven.identity),
            turn,
        };
        let route = &found.route.path;
        let (opened, outcome) = match behind {
            Behind::Bridge(bridge) => {
                let prepared = bridge::open::prepare(bridge, newcomer, &asked, *id)?;
                self.spend(proven.as_ref()).await?;
                (Opened::Bridge(bridge::open::open(bridge, prepared, asked, route).await?), Outcome::Bridged)
            }
            Behind::Legacy(tunnel) => {
                let prepared = tunnel::open::prepare(tunnel, newcomer, &asked, *id)?;
                self.spend(proven.as_ref()).await?;
                (Opened::Legacy(tunnel::open::open(tunnel, prepared, asked, route).await?), Outcome::Legacy)
            }
        };
        self.record(checked, outcome, proven.as_ref());
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
async fn let_in(upgrade: OnUpgrade, opened: Opened, stop: Stop, revoker: Arc<Revoker>) -> Option<Driven> {
    match upgrade.await {
        Ok(upgraded) => {
            let (stream, already_read) = reclaim(upgraded);
            let sent_away = |holder: &Holder| revoker.ends(holder);
            Some(opened.run(stream, already_read, stop, &sent_away))
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
