//! New connections: a full TLS handshake, a WebSocket, one message from the other side, and the end.

use secrecy::ExposeSecret as _;
use tidegate::access::ticket::{Settings, Tickets};
use tidegate::identity::key::SignKey;
use tidegate::identity::ticket::{Minting, sign_key};
use tidegate::identity::{Algorithm, Claims, Identity, Subject, Way};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::{CLIENTS, Effort};
use crate::clients::{KeyExchange, Target, message};
use crate::measure::Figure;
use crate::peers::{Http, Peer, TICKET_KEY, To};
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
            connect(&stand.target, key_exchange, targets(CLIENTS), peer.is_bridge()).await;
            let mut micros = Vec::new();
            for _ in 0..effort.rounds {
                let before = stand.cpu();
                connect(&stand.target, key_exchange, targets(COUNT), peer.is_bridge()).await;
                // The last ones are still being cleared away.
                sleep(Duration::from_millis(200)).await;
                micros.push((stand.cpu() - before).as_secs_f64() * 1e6 / COUNT as f64);
            }
            report.add(format!("CPU µs per new connection, {name}"), column, Figure::of(micros));
        }
    }
    with_tickets(effort, report).await;
}

/// The same, let in by a ticket each. Making tickets is no work of the gateway's here.
async fn with_tickets(effort: &Effort, report: &mut Report) {
    let tickets = Tickets::new(&Settings { keys: vec![key()], ..Settings::default() }).expect("random bytes");
    let subject = Subject::new("auth0|0123456789abcdef").expect("a subject");
    let identity = Identity {
        subject,
        claims: Claims::new(),
        issued: None,
        expires: None,
        way: Way::Cookie,
        ticket: None,
        keys: Vec::new(),
    };
    let minting =
        Minting { identity: &identity, route: "/ticket", origin: None, net: None, lifetime: Duration::from_mins(10) };
    let targets = |count| {
        let ticket = |_| tickets.mint(&minting).expect("a ticket").token;
        (0..count).map(ticket).map(|ticket| format!("/ticket?hello=1&ticket={}", ticket.expose_secret())).collect()
    };
    let stand = Peer::Tidegate(Http::One).start();
    connect(&stand.target, KeyExchange::Classic, targets(CLIENTS), true).await;
    let mut micros = Vec::new();
    for _ in 0..effort.rounds {
        let targets = targets(COUNT);
        let before = stand.cpu();
        connect(&stand.target, KeyExchange::Classic, targets, true).await;
        sleep(Duration::from_millis(200)).await;
        micros.push((stand.cpu() - before).as_secs_f64() * 1e6 / COUNT as f64);
    }
    report.add("CPU µs per new connection with a ticket, X25519".to_owned(), "tidegate", Figure::of(micros));
}

fn key() -> SignKey {
    sign_key("bench".into(), Algorithm::HS256, TICKET_KEY.as_bytes()).expect("a long secret")
}

/// What clients without a ticket ask for.
fn targets(count: u64) -> Vec<String> {
    (0..count).map(|_| "/chat?hello=1".to_owned()).collect()
}

async fn connect(target: &Target, key_exchange: KeyExchange, targets: Vec<String>, bridge: bool) {
    const AT_ONCE: usize = 16;
    let mut tasks = JoinSet::new();
    for share in targets.chunks(targets.len() / AT_ONCE) {
        let (target, share) = (target.clone(), share.to_vec());
        tasks.spawn(async move {
            for asked in share {
                let mut client = target.websocket_by(&asked, key_exchange).await;
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
