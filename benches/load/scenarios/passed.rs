//! What is passed through or on, by tidegate as by the others: the same clients, the same backend.

use super::{CLIENTS, Effort, down, echo, memory, up};
use crate::peers::{Peer, To};
use crate::report::Report;

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    let peers = |to| {
        effort.peers(to).into_iter().map(|(column, peer)| (column, if peer.is_bridge() { Peer::Passing } else { peer }))
    };
    for (column, peer) in peers(To::WebSocket) {
        echo::saturated(effort, report, column, peer, 128, "echo passed through, 128 B").await;
    }
    for (column, peer) in peers(To::Http) {
        up::one(effort, report, column, peer, "POST passed on").await;
    }
    for (column, peer) in peers(To::Http) {
        down::one(effort, report, column, peer, ("paced event passed on", "pace=50", CLIENTS)).await;
    }
    for (column, peer) in peers(To::Http) {
        down::one(effort, report, column, peer, ("passed-on event in a flood", "flood=65536", 8)).await;
    }
    memory::each(effort, report, "WebSocket passed through", "tidegate", Peer::Passing).await;
}
