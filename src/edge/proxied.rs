//! A request that is proxied: who asks, then upstream.

use std::sync::Arc;

use http::{Response, request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use uuid::Uuid;

use super::http::{Body, Connection};
use super::routes::Found;
use super::upgrade::stopping;
use crate::access::Proven;
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
        let checked = self.check(id, head, found, host, &[])?;
        let proxy = self.edge.proxies.of(settings, &found.route.path).ok_or_else(stopping)?;
        let proven = self.prove(&checked).await?;
        let place = self.place(&checked, proven.as_ref())?;
        let asked = proxy::Asked {
            id,
            head,
            captures: &found.captures,
            host,
            peer: self.peer,
            tls: self.tls,
            identity: proven.as_ref().map(|Proven { identity, .. }| identity),
        };
        let prepared = proxy.prepare(&asked, &found.route.path, body.size_hint().exact())?;
        self.spend(proven.as_ref()).await?;
        // The place of its connection is held as well: a stream of HTTP/2 may outlive what else belongs to it.
        let places = Box::new((place, self.slot.clone()));
        proxy::forward(prepared, body.map_err(Into::into).boxed_unsync(), places).await
    }
}
