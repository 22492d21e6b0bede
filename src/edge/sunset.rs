//! The end of WebSocket on a route, as its phase has it: whom a handshake is refused, what its answer says, what the ledger notes.

use std::net::IpAddr;
use std::time::SystemTime;

use http::{HeaderMap, Response, StatusCode};

use super::admit::Checked;
use super::http::{Body, Connection};
use super::settings::Route;
use crate::access::Proven;
use crate::ledger::Visitor;
use crate::ledger::book::Outcome;
use crate::ledger::phase::{Verdict, retry_after};
use crate::protocol::problem::Problem;

impl Connection {
    /// Refuses a handshake if the phase of its route does: before anybody is asked who this is, and before a ticket is spent.
    ///
    /// # Errors
    ///
    /// 503 in a brownout, 410 once WebSocket is off.
    pub(super) fn check_phase(&self, checked: &Checked<'_>) -> Result<(), Problem> {
        let route = checked.found.route;
        let Some(sunset) = &route.sunset else { return Ok(()) };
        let now = SystemTime::now();
        let read = sunset.link.as_deref().map(|link| format!("; {link} says what to do")).unwrap_or_default();
        let (outcome, problem) = match sunset.verdict(&route.name, self.network(), now) {
            Verdict::Serve => return Ok(()),
            Verdict::Brownout { until, lasts } => {
                // The end of an id is random.
                let chance = u64::try_from(checked.id.as_u128() & u128::from(u64::MAX)).unwrap_or(0);
                let detail = format!("WebSocket comes to an end here, and is off for some clients for a while{read}");
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "websocket-brownout", detail);
                (Outcome::Brownout, problem.with_retry_after(retry_after(until, lasts, now, chance)))
            }
            Verdict::Off => {
                let detail = format!("WebSocket has come to an end here{read}");
                (Outcome::Off, Problem::new(StatusCode::GONE, "websocket-off", detail))
            }
        };
        self.edge.ledger.record(&route.name, outcome, &checked.head.headers, None, now);
        Err(problem)
    }

    /// Notes a handshake that was let in.
    pub(super) fn record(&self, checked: &Checked<'_>, outcome: Outcome, proven: Option<&Proven>) {
        let who = match proven {
            Some(proven) => Visitor::Identity(proven.identity.subject.as_str()),
            None => Visitor::Address(self.network()),
        };
        let route = &checked.found.route.name;
        self.edge.ledger.record(route, outcome, &checked.head.headers, Some(who), SystemTime::now());
    }

    /// The address of the client, as far as addresses are told apart.
    pub(super) fn network(&self) -> IpAddr {
        self.edge.limits.network(self.peer.ip())
    }
}

/// Adds to the answer to a handshake what the route says of the end of WebSocket.
pub(super) fn announce(
    route: &Route,
    mut answered: Result<Response<Body>, Problem>,
) -> Result<Response<Body>, Problem> {
    let fields: &mut HeaderMap = match &mut answered {
        Ok(response) => response.headers_mut(),
        Err(problem) => &mut problem.headers,
    };
    if let Some(sunset) = &route.sunset {
        sunset.announce(fields, SystemTime::now());
    }
    answered
}
