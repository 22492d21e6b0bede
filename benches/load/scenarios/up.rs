//! Messages up. Clients of the bridge send as fast as they are read; an HTTPS client has one POST under way.

use std::sync::atomic::Ordering;

use super::{CLIENTS, Effort};
use crate::clients::{KeyExchange, message, post};
use crate::measure::{Load, cost};
use crate::peers::{Http, Peer, To};
use crate::report::Report;

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    for (column, peer) in effort.peers(To::Http) {
        one(effort, report, column, peer, "message up").await;
    }
    one(effort, report, "tidegate", Peer::Tidegate(Http::Two), "message up, HTTP/2 upstream").await;
}

pub(super) async fn one(effort: &Effort, report: &mut Report, column: &'static str, peer: Peer, what: &str) {
    let stand = peer.start();
    let mut load = Load::default();
    for _ in 0..CLIENTS {
        if peer.is_bridge() {
            let mut client = stand.target.websocket("").await;
            load.add(|_| async move {
                let message = message(128);
                loop {
                    client.send(&message).await;
                }
            });
        } else {
            let mut client = stand.target.connect(KeyExchange::Classic).await;
            load.add(|done| async move {
                let request = post(128);
                loop {
                    client.send(&request).await;
                    assert!(client.head().await.starts_with(b"HTTP/1.1 204 "), "a POST was refused");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    // What has arrived counts, not what was sent.
    let cost = cost(effort, effort.window, &stand, &mut load, async |_| stand.upstream.posts().await).await;
    report.add(format!("CPU µs per {what}"), column, cost.micros);
    report.note(format!("{what}: per second"), column, cost.rate);
    report.note(format!("{what}: cores used"), column, cost.busy);
}
