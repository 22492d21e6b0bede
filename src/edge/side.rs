//! A WebSocket handshake on a route that is split: who asks, then which side, and from there on as on a route that has only
//! that side.

use std::sync::{Arc, Mutex};

use http::header::HeaderValue;
use http::{Response, request};
use hyper::upgrade::OnUpgrade;
use uuid::Uuid;

use super::handshake::{self, Handshake};
use super::http::{Body, Connection};
use super::routes::Found;
use super::split::{Asking, Split};
use super::upgrade::stopping;
use crate::access::{Proven, lock};
use crate::bridge;
use crate::protocol::problem::Problem;
use crate::telemetry::{Reason, Side, Turn};
use crate::tunnel;

/// A handshake whose side is known, and whose client has proven who it is: that is asked once, whatever the side asks again.
#[derive(Debug)]
pub(super) struct Decided {
    turn: Turn,
    /// Taken by the side.
    shown: Mutex<Option<Shown>>,
}

/// What a client has proven; `None` if it need not prove anything.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Option<Proven>);

impl Decided {
    /// What the client has proven, the first time that it is asked for.
    pub(super) fn take_shown(&self) -> Option<Shown> {
        lock(&self.shown).take()
    }
}

/// What a split route leads to.
pub(super) struct Sides<'a> {
    pub(super) split: &'a Split,
    pub(super) bridge: &'a Arc<bridge::Settings>,
    pub(super) legacy: &'a Arc<tunnel::Settings>,
}

impl Connection {
    /// A handshake on a split route: the free checks first, then who asks, because the side depends on it, then the side. A
    /// ticket is spent there, and only there.
    pub(super) async fn split(
        &self,
        id: Uuid,
        head: &request::Parts,
        found: &Found<'_, '_>,
        host: &str,
        sides: Sides<'_>,
        upgrade: &mut Option<OnUpgrade>,
    ) -> Result<Response<Body>, Problem> {
        let Handshake { offered, .. } = handshake::check(head)?;
        let checked = self.check(id, head, found, host, &offered)?;
        self.check_phase(&checked)?;
        let proven = tokio::select! {
            proven = self.prove(&checked) => proven?,
            () = self.edge.stop.shutdown.cancelled() => return Err(stopping()),
        };
        let subject = proven.as_ref().map(|proven| proven.identity.subject.as_str());
        let net = self.edge.door.prefixes.of(self.peer.ip());
        let mut turn = sides.split.turn(&Asking { fields: &head.headers, query: head.uri.query(), subject, net });
        if turn.side == Side::Bridge && sides.split.falls_back && !self.takes_newcomers(sides.bridge) {
            turn = Turn { side: Side::Legacy, reason: Reason::Fallback };
        }
        self.edge.bridges.registry().sides().count(&found.route.path, turn);
        let decided = Arc::new(Decided { turn, shown: Mutex::new(Some(Shown(proven))) });
        let connection = Self { decided: Some(decided), ..self.clone() };
        let answered = match turn.side {
            Side::Bridge => connection.bridged(id, head, found, host, sides.bridge, upgrade).await,
            Side::Legacy => connection.tunnelled(id, head, found, host, sides.legacy, upgrade).await,
        };
        let Some(name) = &sides.split.header else { return answered };
        let side = HeaderValue::from_static(turn.side.label());
        match answered {
            Ok(mut response) => {
                response.headers_mut().insert(name, side);
                Ok(response)
            }
            Err(problem) => Err(problem.with_header(name.clone(), side)),
        }
    }

    /// The side that was chosen and why, on a split route.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.decided.as_ref().map(|decided| decided.turn)
    }

    fn takes_newcomers(&self, settings: &Arc<bridge::Settings>) -> bool {
        self.edge.bridges.of(settings).is_some_and(|bridge| bridge.takes_newcomers())
    }
}
