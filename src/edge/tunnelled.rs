//! A WebSocket that is passed through to a WebSocket backend: who asks, then the backend, then 101.

use std::pin::Pin;
use std::sync::Arc;

use http::{Response, request};
use hyper::upgrade::OnUpgrade;
use uuid::Uuid;

use super::admit::Checked;
use super::handshake::{self, Handshake};
use super::http::{Body, Connection};
use super::routes::Found;
use super::upgrade::{reclaim, stopping, switched};
use crate::access::limits::Place;
use crate::access::revoked::Revoker;
use crate::bridge::Stop;
use crate::bridge::open::Asked;
use crate::identity::Holder;
use crate::ledger::book::Outcome;
use crate::protocol::problem::Problem;
use crate::tunnel;
use crate::tunnel::open::{Opened, Tunnel, open, prepare};

impl Connection {
    /// A WebSocket handshake on a route that is passed through: the free checks first, then the backend, then 101.
    pub(super) async fn tunnelled(
        &self,
        id: Uuid,
        head: &request::Parts,
        found: &Found<'_, '_>,
        host: &str,
        settings: &Arc<tunnel::Settings>,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let Handshake { accept, offered } = handshake::check(head)?;
        let checked = self.check(id, head, found, host, &offered)?;
        self.check_phase(&checked)?;
        let tunnel = self.tunnel(settings).ok_or_else(stopping)?;
        let opened = tokio::select! {
            opened = self.open_tunnel(&tunnel, &checked) => opened,
            () = self.edge.stop.shutdown.cancelled() => return Err(stopping()),
        };
        let (opened, place) = opened?;
        let upgrade = upgrade.take().ok_or_else(stopping)?;

        let mut response = switched(accept, checked.credential.answer(opened.subprotocol()), id);
        for (name, value) in opened.fields() {
            response.headers_mut().append(name.clone(), value.clone());
        }

        let slot = self.slot.clone();
        // A fresh, small task, as on the bridge.
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

    /// The pass-through for a route's settings; `None` when they name no upstream, which the configuration rules out.
    fn tunnel(&self, settings: &Arc<tunnel::Settings>) -> Option<Tunnel> {
        let bridges = &self.edge.bridges;
        Some(Tunnel {
            settings: settings.clone(),
            upstream: bridges.upstream(&settings.upstream)?,
            registry: bridges.registry().clone(),
            memory: bridges.memory().clone(),
            signer: bridges.signer().cloned(),
        })
    }

    /// Who asks, whether there is room, and what the backend says to it.
    async fn open_tunnel(&self, tunnel: &Tunnel, checked: &Checked<'_>) -> Result<(Opened, Place), Problem> {
        let Checked { id, head, found, host, credential, .. } = checked;
        // Before anybody is asked who this is, and before a ticket is spent for nothing.
        let newcomer = tunnel.memory.admit()?;
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
        let prepared = prepare(tunnel, newcomer, &asked, *id)?;
        self.spend(proven.as_ref()).await?;
        let opened = open(tunnel, prepared, asked, &found.route.path).await?;
        self.record(checked, Outcome::Legacy, proven.as_ref());
        Ok((opened, place))
    }
}

/// Waits for the 101 to be on its way, and gives what drives the tunnel from then on.
async fn let_in(
    upgrade: OnUpgrade,
    opened: Opened,
    stop: Stop,
    revoker: Arc<Revoker>,
) -> Option<Pin<Box<impl Future<Output = ()>>>> {
    match upgrade.await {
        Ok(upgraded) => {
            let (stream, already_read) = reclaim(upgraded);
            let sent_away = |holder: &Holder| revoker.ends(holder);
            Some(Box::pin(opened.run(stream, already_read, stop, &sent_away)))
        }
        Err(error) => {
            opened.abandoned(&error);
            None
        }
    }
}
