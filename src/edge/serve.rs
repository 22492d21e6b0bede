//! HTTP on one client connection: HTTP/1.1 here, HTTP/2 beside it.

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tracing::debug;

use super::http::{Client, stack};
use super::settings::Listener as Settings;
use super::stream::ClientStream;
use super::strict::Strict;
use super::work::Work;
use super::write_limit::WriteLimited;

/// Serves HTTP/1.1 until the connection ends or is upgraded. Once the gateway stops, requests that are under way are answered.
pub(super) async fn http1(stream: ClientStream, client: Client, work: Arc<Work>, settings: &Settings) {
    let (peer, edge) = (client.peer, client.current.now());
    let (stop, registry) = (edge.stop.clone(), edge.bridges.registry().clone());
    // What a reload replaces must be able to end.
    drop(edge);
    let stream = WriteLimited::new(stream, settings.write_timeout, peer, registry.clone());
    let stream = Strict::new(stream, peer, registry);
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_headers(settings.max_headers)
            .max_header_size(settings.max_header_size)
            .max_buf_size(settings.max_header_size)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack(client)))
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                ended = served => ended,
                () = work.last_answers(&stop.cut) => return debug!(%peer, "HTTP connection cut at shutdown"),
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, error = &error as &dyn std::error::Error, "HTTP connection ended with an error");
    }
}
