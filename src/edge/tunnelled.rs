//! A WebSocket that is passed through to a WebSocket backend: who asks, then the backend, then 101.

use std::sync::Arc;

use http::{Response, request};
use hyper::upgrade::OnUpgrade;
use uuid::Uuid;

use super::handshake::{self, Handshake};
use super::http::{Body, Connection};
use super::routes::Found;
use super::upgrade::stopping;
use crate::protocol::problem::Problem;
use crate::tunnel;

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
        let Handshake { offered, .. } = handshake::check(head)?;
        let checked = self.check(id, head, found, host, &offered)?;
        self.check_phase(&checked)?;
        let upstream = self.edge.bridges.upstream(&settings.upstream).ok_or_else(stopping)?;
        let proven = self.prove(&checked).await?;
        let place = self.place(&checked, proven.as_ref())?;
        self.spend(proven.as_ref()).await?;
        drop((place, upstream, upgrade.take()));
        Err(stopping())
    }
}
