//! What a proxied route does for browsers that speak HTTP to it themselves: pages of other origins that it lists, event streams
//! that come back, and with the same ticket.

use http::{Method, Response, request};
use uuid::Uuid;

use super::admit::Checked;
use super::http::{Body, Connection, whole};
use super::origin::Origin;
use super::routes::Found;
use super::settings::Route;
use super::site::Site;
use super::{cors, pass};
use crate::access::Proven;
use crate::identity::Way;
use crate::identity::ticket::Refusal;
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::proxy::stream::{self, OnFailure};
use crate::proxy::{self, Cors};

/// Whether a request asks for an event stream as an `EventSource` does, which comes back by itself.
pub(super) fn asks_for_events(head: &request::Parts) -> bool {
    head.method == Method::GET && headers::accepts_events(&head.headers)
}

/// Whether the gateway speaks CORS on a route.
fn speaks_cors(route: &Route, settings: &proxy::Settings) -> bool {
    settings.cors == Cors::Route && !route.origins.is_empty()
}

impl Connection {
    /// The page of another origin that may read what a route answers.
    fn listed_page(&self, head: &request::Parts, route: &Route, host: &str) -> Option<Origin> {
        let Ok(Site::Page(origin)) = Site::of(&head.headers, self.tls, host) else { return None };
        (!origin.is_same(self.tls, host) && route.lists(&origin)).then_some(origin)
    }

    /// Answers the preflight of a page that the route lists: a browser sends no proof with one, so that nobody is asked for it.
    pub(super) fn preflight(
        &self,
        head: &request::Parts,
        route: &Route,
        host: &str,
        settings: &proxy::Settings,
    ) -> Option<Response<Body>> {
        let asked = cors::is_preflight(head) && speaks_cors(route, settings);
        let page = asked.then(|| self.listed_page(head, route, host)).flatten()?;
        let mut response = cors::preflight_of_any(&head.headers);
        cors::allow(response.headers_mut(), &page);
        Some(response.map(|()| whole(bytes::Bytes::new())))
    }

    /// Lets the page that a route lists read what it is answered, refusals as well.
    pub(super) fn readable(
        &self,
        answered: Result<Response<Body>, Problem>,
        head: &request::Parts,
        route: &Route,
        host: &str,
        settings: &proxy::Settings,
    ) -> Result<Response<Body>, Problem> {
        if !speaks_cors(route, settings) {
            return answered;
        }
        let page = self.listed_page(head, route, host);
        match answered {
            Ok(mut response) => {
                cors::allow_in_place(response.headers_mut(), page.as_ref());
                Ok(response)
            }
            Err(mut problem) => {
                cors::allow_in_place(&mut problem.headers, page.as_ref());
                Err(problem)
            }
        }
    }

    /// Has whoever asks for an event stream come back, where the answer would be that there is none at the moment.
    pub(super) fn or_come_back(
        &self,
        answered: Result<Response<Body>, Problem>,
        id: Uuid,
        head: &request::Parts,
        found: &Found<'_, '_>,
        settings: &proxy::Settings,
    ) -> Result<Response<Body>, Problem> {
        match answered {
            Err(problem)
                if stream::is_failure(problem.status)
                    && settings.stream.on_failure == OnFailure::Retry
                    && asks_for_events(head) =>
            {
                // The log and the counters have it as what it is.
                let refused = self.refuse(problem, head, id);
                self.edge.proxies.streams().away(&found.route.path);
                let mut response = stream::come_back(&settings.stream, id, refused.headers());
                super::http::add_id(response.headers_mut(), id);
                Ok(response)
            }
            answered => answered,
        }
    }

    /// Who asks. A ticket that has expired is good for whoever comes back to an event stream with a pass.
    ///
    /// # Errors
    ///
    /// What the client is answered that does not prove it.
    pub(super) async fn prove_or_return(&self, checked: &Checked<'_>) -> Result<Option<Proven>, Problem> {
        match self.prove(checked).await {
            Err(problem) if problem.kind == Refusal::Expired.kind() => match self.come_back(checked) {
                Some(Ok(proven)) => Ok(Some(proven)),
                Some(Err(_)) | None => Err(problem),
            },
            proven => proven,
        }
    }

    /// Uses up the ticket. One that was used before is good for whoever comes back to an event stream with a pass.
    ///
    /// # Errors
    ///
    /// 401, if it was used before; 503, if that cannot be known.
    pub(super) async fn spend_or_return(&self, checked: &Checked<'_>, proven: Option<&Proven>) -> Result<(), Problem> {
        match self.spend(proven).await {
            Err(problem) if problem.kind == Refusal::Spent.kind() => match self.come_back(checked) {
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => Err(problem),
            },
            spent => spent,
        }
    }

    /// Who comes back with a ticket and a pass; `None` if nobody tries to.
    fn come_back(&self, checked: &Checked<'_>) -> Option<Result<Proven, Problem>> {
        let Checked { head, found, host, site, credential, .. } = checked;
        let ticket = credential.ticket.as_ref().filter(|_| asks_for_events(head))?;
        pass::brought(head).next()?;
        let origin = site.origin().map(ToString::to_string);
        let caller = self.caller(head, host, origin.as_deref());
        let ticket = secrecy::ExposeSecret::expose_secret(ticket);
        Some(self.edge.door.come_back(&caller, &found.route.name, ticket, pass::brought(head)))
    }

    /// The cookie with which a client may come back to the event stream that it is being let in to by ticket.
    pub(super) fn return_pass(&self, checked: &Checked<'_>, proven: Option<&Proven>) -> Option<http::HeaderValue> {
        let Checked { head, found, host, site, .. } = checked;
        let identity = proven.map(|proven| &proven.identity).filter(|identity| identity.way == Way::Ticket)?;
        if !asks_for_events(head) {
            return None;
        }
        let origin = site.origin().map(ToString::to_string);
        let caller = self.caller(head, host, origin.as_deref());
        let (token, lifetime) = self.edge.door.pass(&caller, &found.route.name, identity)?;
        let page = self.listed_page(head, found.route, host);
        let token = secrecy::ExposeSecret::expose_secret(&token);
        pass::set(token, head.uri.path(), lifetime, page.as_ref())
    }
}
