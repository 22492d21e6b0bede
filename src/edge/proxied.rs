//! A request that is proxied: who asks, then upstream.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Response, request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use uuid::Uuid;

use super::http::{Body, Connection};
use super::native::asks_for_events;
use super::pass;
use super::routes::Found;
use super::upgrade::stopping;
use crate::access::Proven;
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::proxy;

impl Connection {
    /// A request for a route that is proxied: the free checks first, then who asks, then upstream.
    pub(super) async fn proxied(
        &self,
        id: Uuid,
        head: &request::Parts,
        body: Incoming,
        found: &Found<'_, '_>,
        host: &str,
        settings: &Arc<proxy::Settings>,
    ) -> Result<Response<Body>, Problem> {
        if let Some(preflight) = self.preflight(head, found.route, host, settings) {
            return Ok(preflight);
        }
        let mut pass = None;
        let answered = self.passed_on(id, head, body, found, host, settings, &mut pass).await;
        let mut answered = self.or_come_back(answered, id, head, found, settings);
        if let Ok(response) = &mut answered
            && let Some(pass) = pass
            && headers::is_event_stream(response.headers())
        {
            response.headers_mut().append(header::SET_COOKIE, pass);
        }
        self.readable(answered, head, found.route, host, settings)
    }

    /// The same for who may read the answer. `given` becomes the cookie with which an event stream can be come back to, once
    /// the ticket for it is spent.
    #[expect(clippy::too_many_arguments, reason = "a request, its route, and what comes of it beside an answer")]
    async fn passed_on(
        &self,
        id: Uuid,
        head: &request::Parts,
        body: Incoming,
        found: &Found<'_, '_>,
        host: &str,
        settings: &Arc<proxy::Settings>,
        given: &mut Option<HeaderValue>,
    ) -> Result<Response<Body>, Problem> {
        let checked = self.check(id, head, found, host, &[])?;
        let proxy = self.edge.proxies.of(settings, &found.route.path).ok_or_else(stopping)?;
        // An event stream stays as a connection does; any other request is soon over.
        let _newcomer = asks_for_events(head).then(|| self.edge.bridges.memory().admit()).transpose()?;
        let proven = self.prove_or_return(&checked).await?;
        let place = self.place(&checked, proven.as_ref())?;
        let mut sent = Cow::Borrowed(head);
        if pass::find(&head.headers).next().is_some() {
            pass::take_out(&mut sent.to_mut().headers);
        }
        let asked = proxy::Asked {
            id,
            head: &sent,
            captures: &found.captures,
            host,
            peer: self.peer,
            tls: self.tls,
            identity: proven.as_ref().map(|Proven { identity, .. }| identity),
        };
        let prepared = proxy.prepare(&asked, &found.route.path, body.size_hint().exact())?;
        self.spend_or_return(&checked, proven.as_ref()).await?;
        *given = self.return_pass(&checked, proven.as_ref());
        // The place of its connection is held as well: a stream of HTTP/2 may outlive what else belongs to it.
        let places = Box::new((place, self.slot.clone()));
        proxy::forward(prepared, body.map_err(Into::into).boxed_unsync(), places).await
    }
}
