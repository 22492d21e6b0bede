//! What connections hold on to.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Effort;
use crate::clients::{Client, Target, message};
use crate::measure::Figure;
use crate::peers::{Http, Peer, To};
use crate::report::Report;

/// After this nothing is on its way any more, and what is given back is given back.
const SETTLED: Duration = Duration::from_secs(3);

/// How many clients connect at the same time.
const AT_ONCE: usize = 64;

pub(super) async fn idle(effort: &Effort, report: &mut Report) {
    let peers = [
        ("HTTP/2 upstream", "tidegate", Peer::Tidegate(Http::Two), true),
        ("HTTP/1.1 upstream", "tidegate", Peer::Tidegate(Http::One), true),
        ("HTTP/1.1 upstream", "nginx", Peer::Nginx, effort.nginx),
        ("HTTP/1.1 upstream", "floor", Peer::Floor(To::WebSocket), effort.floor),
    ];
    for (upstream, column, peer, _) in peers.into_iter().filter(|(.., wanted)| *wanted) {
        each(effort, report, upstream, column, peer).await;
    }
}

/// Each client has got an event and has sent two messages before it idles; what only tunnels echoes the messages.
pub(super) async fn each(effort: &Effort, report: &mut Report, what: &str, column: &'static str, peer: Peer) {
    let count = effort.connections;
    let stand = peer.start();
    let before = stand.memory();
    let clients = open(&stand.target, count, move |mut client| async move {
        if peer.is_bridge() {
            client.marks().await;
        }
        for _ in 0..2 {
            client.send(&message(128)).await;
            client.marks().await;
        }
        client
    })
    .await;
    sleep(SETTLED).await;
    let after = stand.memory();
    let each = |before: f64, after: f64| Figure::exactly((after - before) / count as f64);
    let what = format!("KiB per idle connection, {what}");
    report.add(&what, column, each(before.private, after.private));
    report.note(format!("{what}, resident"), column, each(before.resident, after.resident));
    drop(clients);
}

/// One large message in and the same out on every connection; what of it is still held when they idle, and when they
/// are gone.
pub(super) async fn burst(effort: &Effort, report: &mut Report) {
    const COUNT: usize = 200;
    let mut peers = vec![("tidegate", Peer::Tidegate(Http::Two))];
    if effort.nginx {
        peers.push(("nginx", Peer::Nginx));
    }
    for (name, size) in [("64 KiB", 64 * 1024), ("1 MiB", 1024 * 1024)] {
        for (column, peer) in &peers {
            let stand = peer.start();
            let before = stand.memory();
            let bridge = peer.is_bridge();
            let clients = open(&stand.target, COUNT, move |mut client| async move {
                if bridge {
                    client.marks().await;
                }
                client.send(&message(size)).await;
                client.marks().await;
                client
            })
            .await;
            sleep(SETTLED).await;
            let idle = stand.memory();
            let mut closing: JoinSet<()> = clients.into_iter().map(Client::close).collect();
            while closing.join_next().await.is_some() {}
            sleep(SETTLED).await;
            let closed = stand.memory();
            let each = |after: f64| Figure::exactly((after - before.private) / COUNT as f64);
            report.add(format!("KiB per connection idle after {name} each way"), column, each(idle.private));
            let left = Figure::exactly((closed.private - before.private) / 1024.0);
            report.add(format!("MiB left once {COUNT} connections with {name} each way are closed"), column, left);
        }
    }
}

/// Opens `count` WebSockets and does something with each.
async fn open<F, E>(target: &Target, count: usize, each: E) -> Vec<Client>
where
    F: Future<Output = Client> + Send + 'static,
    E: Fn(Client) -> F + Copy + Send + Sync + 'static,
{
    let mut clients = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for _ in 0..count {
        if opening.len() == AT_ONCE {
            clients.push(opening.join_next().await.unwrap().unwrap());
        }
        let target = target.clone();
        opening.spawn(async move {
            let client = target.websocket("echo=1&hello=1").await;
            each(client).await
        });
    }
    while let Some(client) = opening.join_next().await {
        clients.push(client.unwrap());
    }
    clients
}
