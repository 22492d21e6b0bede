//! A request that is proxied: who asks, then upstream.

use std::sync::Arc;

use http::{Response, request};
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
        let upstream = self.edge.bridges.upstream(&settings.upstream).ok_or_else(stopping)?;
        let proven = self.prove(&checked).await?;
        let place = self.place(&checked, proven.as_ref())?;
        self.spend(proven.as_ref()).await?;
        let asked = proxy::Asked {
            id,
            head,
            captures: &found.captures,
            host,
            peer: self.peer,
            tls: self.tls,
            identity: proven.as_ref().map(|Proven { identity, .. }| identity),
        };
        drop((place, upstream, asked, body));
        Err(stopping())
    }
}
