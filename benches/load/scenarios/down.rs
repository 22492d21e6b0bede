//! Events down; through those who only pass HTTP on, the event stream itself.

use std::sync::atomic::Ordering;

use super::{CLIENTS, Effort};
use crate::clients::KeyExchange;
use crate::measure::{Load, cost};
use crate::peers::{Http, Peer, To};
use crate::report::Report;

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    for (what, query, streams) in [
        ("paced event", "pace=50", CLIENTS),
        ("paced event, all streams at once", "pace=50&together=1", CLIENTS),
        ("event in a flood", "flood=65536", 8),
    ] {
        for (column, peer) in effort.peers(To::Http) {
            one(effort, report, column, peer, (what, query, streams)).await;
        }
        let over_h2 = format!("{what}, HTTP/2 upstream");
        one(effort, report, "tidegate", Peer::Tidegate(Http::Two), (&over_h2, query, streams)).await;
    }
}

pub(super) async fn one(
    effort: &Effort,
    report: &mut Report,
    column: &'static str,
    peer: Peer,
    load: (&str, &str, u64),
) {
    let (what, query, streams) = load;
    let stand = peer.start();
    let mut load = Load::default();
    for _ in 0..streams {
        let mut client = if peer.is_bridge() {
            stand.target.websocket(query).await
        } else {
            let mut client = stand.target.connect(KeyExchange::Classic).await;
            let request =
                format!("GET /events?{query} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n");
            client.send(request.as_bytes()).await;
            assert!(client.head().await.starts_with(b"HTTP/1.1 200 "), "no event stream");
            client
        };
        load.add(|done| async move {
            loop {
                done.fetch_add(client.marks().await, Ordering::Relaxed);
            }
        });
    }
    // Little is done when it is paced, and processor time has ticks of 10 ms.
    let longer = if query.contains("pace") { 3 } else { 1 };
    let cost = cost(effort, effort.window * longer, &stand, &mut load, async |load: &Load| load.done()).await;
    report.add(format!("CPU µs per {what}"), column, cost.micros);
    report.note(format!("{what}: per second"), column, cost.rate);
    report.note(format!("{what}: cores used"), column, cost.busy);
}
