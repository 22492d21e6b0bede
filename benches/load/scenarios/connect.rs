//! New connections: a full TLS handshake, a WebSocket, one message from the other side, and the end.

use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::{CLIENTS, Effort};
use crate::clients::{KeyExchange, Target, message};
use crate::measure::Figure;
use crate::peers::{Peer, To};
use crate::report::Report;

/// Connections of one round.
const COUNT: u64 = 2048;

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    for (name, key_exchange) in [("X25519", KeyExchange::Classic), ("X25519MLKEM768", KeyExchange::Hybrid)] {
        for (column, peer) in effort.peers(To::WebSocket) {
            // The usual OpenSSL does not know the second.
            if peer == Peer::Nginx && key_exchange == KeyExchange::Hybrid {
                continue;
            }
            let stand = peer.start();
            connect(&stand.target, CLIENTS, key_exchange, peer.is_bridge()).await;
            let mut micros = Vec::new();
            for _ in 0..effort.rounds {
                let before = stand.cpu();
                connect(&stand.target, COUNT, key_exchange, peer.is_bridge()).await;
                // The last ones are still being cleared away.
                sleep(Duration::from_millis(200)).await;
                micros.push((stand.cpu() - before).as_secs_f64() * 1e6 / COUNT as f64);
            }
            report.add(format!("CPU µs per new connection, {name}"), column, Figure::of(micros));
        }
    }
}

async fn connect(target: &Target, count: u64, key_exchange: KeyExchange, bridge: bool) {
    const AT_ONCE: u64 = 16;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let target = target.clone();
        tasks.spawn(async move {
            for _ in 0..count / AT_ONCE {
                let mut client = target.websocket_by("hello=1", key_exchange).await;
                if !bridge {
                    client.send(&message(32)).await;
                }
                client.marks().await;
                client.close().await;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("every connection to work");
    }
}
