//! Who is let in to a route, whatever the client asks for there: the checks that cost nothing, then who asks, then whether there
//! is room, and last of all the ticket.

use http::request;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::credential::{self, Credential};
use super::handshake;
use super::http::Connection;
use super::routes::Found;
use super::settings::Auth;
use super::site::Site;
use crate::access::Proven;
use crate::access::limits::Place;
use crate::identity::Way;
use crate::protocol::problem::Problem;

/// A request for a route that has passed the checks that cost nothing.
pub(super) struct Checked<'a> {
    /// By which the log knows the request.
    pub(super) id: Uuid,
    pub(super) head: &'a request::Parts,
    pub(super) found: &'a Found<'a, 'a>,
    /// The host as it stands in the request.
    pub(super) host: &'a str,
    pub(super) site: Site,
    pub(super) credential: Credential<'a>,
}

impl Connection {
    /// Looks at where a request comes from and at what it brings. `offered` are the subprotocols of a handshake.
    ///
    /// # Errors
    ///
    /// 403 for pages of other origins, 401 for two tickets.
    pub(super) fn check<'a>(
        &self,
        id: Uuid,
        head: &'a request::Parts,
        found: &'a Found<'a, 'a>,
        host: &'a str,
        offered: &[&'a str],
    ) -> Result<Checked<'a>, Problem> {
        let route = found.route;
        let is_proxied = route.proxy.is_some() && !handshake::asks_for_websocket(head);
        let site =
            if is_proxied { Site::of_any(head, self.tls, host) } else { Site::of(&head.headers, self.tls, host) }?;
        site.check(route, self.tls, host)?;
        let credential = match self.edge.door.ticket_param() {
            Some(param) if route.auth.takes(Way::Ticket) => credential::find(head.uri.query(), offered, param)?,
            _ => Credential::without(offered),
        };
        Ok(Checked { id, head, found, host, site, credential })
    }

    /// Who asks; `None` where anybody may. A ticket is not spent by it.
    ///
    /// # Errors
    ///
    /// What the client is answered that does not prove it.
    pub(super) async fn prove(&self, checked: &Checked<'_>) -> Result<Option<Proven>, Problem> {
        let Checked { head, found, host, site, credential, .. } = checked;
        let Auth::OneOf(ways) = &found.route.auth else { return Ok(None) };
        let origin = site.origin().map(ToString::to_string);
        let caller = self.caller(head, host, origin.as_deref());
        let ticket = credential.ticket.as_ref().map(ExposeSecret::expose_secret);
        self.edge.door.prove(ways, &caller, &found.route.name, ticket).await.map(Some)
    }

    /// A place on the route, for as long as what is asked for stays open. Free again wherever it is dropped.
    ///
    /// # Errors
    ///
    /// 429 and 503, if there is none left.
    pub(super) fn place(&self, checked: &Checked<'_>, proven: Option<&Proven>) -> Result<Place, Problem> {
        let subject = proven.map(|proven| &proven.identity.subject);
        Ok(self.edge.limits.admit(checked.found.index, subject, self.peer.ip())?)
    }

    /// Uses up the ticket, if one has proven the client: last of all, because it is not to be lost to a refusal that could
    /// have been known.
    ///
    /// # Errors
    ///
    /// 401, if it was used before; 503, if that cannot be known.
    pub(super) async fn spend(&self, proven: Option<&Proven>) -> Result<(), Problem> {
        match proven {
            Some(proven) => self.edge.door.spend(proven).await,
            None => Ok(()),
        }
    }
}
