//! HTTP/2 on one client connection (RFC 9113).

use std::sync::Arc;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::http::{Client, stack};
use super::settings::Listener as Settings;
use super::stream::ClientStream;
use super::watched::Watched;
use super::work::{LAST_ANSWER, Work};
use super::write_limit::WriteLimited;
use crate::bridge::Stop;
use crate::bridge::registry::Http2End;

/// Most bytes of one answer that wait for the connection to take them: as much as a slow reader makes us hold for each stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Most streams of a connection that may be reset for the client's mistakes, or refused because it has too many: further ones end it.
/// The HTTP library never counts them down, and a connection may live for weeks.
const MISTAKES: usize = 1024;

/// Serves HTTP/2 until the connection ends. `name` is what TLS was asked for.
///
/// Once the gateway stops, a connection with WebSockets gets their close frames first, and is told to go only then: there are clients
/// that take GOAWAY for the end of all that is on it.
pub(super) async fn http2(
    stream: ClientStream,
    client: Client,
    work: Arc<Work>,
    settings: &Settings,
    name: Option<String>,
) {
    // Not the edge itself: what a reload replaces must be able to end.
    let (peer, edge) = (client.peer, client.current.now());
    let (registry, stop) = (edge.bridges.registry().clone(), edge.stop.clone());
    drop(edge);
    // What the streams of this connection need, and nobody else: it ends with it.
    let tasks = TaskTracker::new();
    let ended = Box::pin(drive(stream, client, &work, settings, name, &tasks, &stop)).await;
    tasks.close();
    tasks.wait().await;
    let error = ended.as_ref().err();
    if let Some(end) = work.fault().or_else(|| error.and_then(judge)) {
        registry.http2_ended(end);
        return debug!(%peer, reason = end.label(), "HTTP/2 connection closed for what its client did");
    }
    if let Some(error) = error {
        debug!(%peer, error = error as &dyn std::error::Error, "HTTP connection ended with an error");
    }
}

async fn drive(
    stream: ClientStream,
    client: Client,
    work: &Arc<Work>,
    settings: &Settings,
    name: Option<String>,
    tasks: &TaskTracker,
    stop: &Stop,
) -> hyper::Result<()> {
    let limits = &settings.http2;
    let mut builder = http2::Builder::new(Tasks(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(usize::try_from(limits.max_resets.get()).unwrap_or(usize::MAX))
        .max_local_error_reset_streams(MISTAKES)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout);
    if client.current.now().routes.has_websockets_over_http2(name.as_deref()) {
        builder.enable_connect_protocol();
    }
    let (peer, registry) = (client.peer, client.current.now().bridges.registry().clone());
    let stream = WriteLimited::new(stream, settings.write_timeout, peer, registry);
    let stream = TokioIo::new(Watched::new(stream, work.clone()));
    let mut served = std::pin::pin!(builder.serve_connection(stream, TowerToHyperService::new(stack(client))));
    tokio::select! {
        biased;
        ended = served.as_mut() => return ended,
        () = work.faulty() => return Ok(()),
        () = stop.shutdown.cancelled() => {}
        () = work.idle_for(settings.header_timeout, limits.idle_timeout) => {}
    }
    if work.had_websockets() {
        tokio::select! {
            ended = served.as_mut() => return ended,
            () = work.faulty() => return Ok(()),
            () = work.none() => {}
            () = tokio::time::sleep(LAST_ANSWER) => {}
        }
    }
    served.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        ended = served => ended,
        () = work.faulty() => Ok(()),
        () = work.last_answers(&stop.cut) => Ok(()),
    }
}

/// What the HTTP library has ended a connection for, if it is the client's fault.
fn judge(error: &hyper::Error) -> Option<Http2End> {
    if error.is_timeout() {
        return Some(Http2End::Ping);
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
            let end = if calm { Http2End::Limits } else { Http2End::Protocol };
            return (error.is_go_away() && error.is_library()).then_some(end);
        }
        source = cause.source();
    }
    None
}

/// Runs the HTTP library's helpers of one connection on its tracker.
#[derive(Clone)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
