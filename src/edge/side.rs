//! What a route leads WebSockets to, and on a split route which of the two sides a handshake takes.

use std::sync::Arc;

use http::Response;
use http::header::HeaderValue;

use super::admit::Checked;
use super::behind::Behind;
use super::http::{Body, Connection};
use super::split::{Asking, Split};
use crate::access::Proven;
use crate::bridge;
use crate::protocol::problem::Problem;
use crate::telemetry::{Reason, Side, Turn};
use crate::tunnel;
use crate::tunnel::open::Tunnel;

/// What a route leads WebSockets to.
#[derive(Clone, Copy)]
pub(super) enum Sides<'a> {
    Bridge(&'a Arc<bridge::Settings>),
    Legacy(&'a Arc<tunnel::Settings>),
    Split { split: &'a Split, bridge: &'a Arc<bridge::Settings>, legacy: &'a Arc<tunnel::Settings> },
}

/// A side that was chosen, and what the client has proven for that: it is asked once, whatever the side would ask again.
pub(super) struct Chosen {
    pub(super) turn: Turn,
    pub(super) proven: Option<Proven>,
}

impl Connection {
    /// Chooses the side of a handshake on a split route. Who asks comes first, because the side depends on it.
    ///
    /// # Errors
    ///
    /// What the client is answered that does not prove who it is.
    pub(super) async fn choose(
        &self,
        checked: &Checked<'_>,
        split: &Split,
        bridge: &Arc<bridge::Settings>,
    ) -> Result<Chosen, Problem> {
        let Checked { head, found, .. } = checked;
        let proven = self.prove(checked).await?;
        let subject = proven.as_ref().map(|proven| proven.identity.subject.as_str());
        let net = self.edge.door.prefixes.of(self.peer.ip());
        let mut turn = split.turn(&Asking { fields: &head.headers, query: head.uri.query(), subject, net });
        if turn.side == Side::Bridge && split.falls_back && !self.takes_newcomers(bridge) {
            turn = Turn { side: Side::Legacy, reason: Reason::Fallback };
        }
        self.edge.bridges.registry().sides().count(&found.route.path, turn);
        Ok(Chosen { turn, proven })
    }

    fn takes_newcomers(&self, settings: &Arc<bridge::Settings>) -> bool {
        self.edge.bridges.of(settings).is_some_and(|bridge| bridge.takes_newcomers())
    }

    /// The bridge for a route's settings; `None` when they name no upstream, which the configuration rules out.
    pub(super) fn bridge(&self, settings: &Arc<bridge::Settings>) -> Option<Behind> {
        self.edge.bridges.of(settings).map(Behind::Bridge)
    }

    /// The same for a pass-through.
    pub(super) fn legacy(&self, settings: &Arc<tunnel::Settings>) -> Option<Behind> {
        Tunnel::of(settings, &self.edge.bridges).map(Behind::Legacy)
    }
}

/// Says in the answer which side it is of, where the route wants it said.
pub(super) fn name_side(
    answered: Result<Response<Body>, Problem>,
    split: &Split,
    side: Side,
) -> Result<Response<Body>, Problem> {
    let Some(name) = &split.header else { return answered };
    let side = HeaderValue::from_static(side.label());
    match answered {
        Ok(mut response) => {
            response.headers_mut().insert(name, side);
            Ok(response)
        }
        Err(problem) => Err(problem.with_header(name.clone(), side)),
    }
}
