//! A message up that comes back as an event; through those who tunnel, a WebSocket echo.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at};

use super::{CLIENTS, Effort};
use crate::clients::message;
use crate::measure::{Figure, Load, cost, percentile};
use crate::peers::{Http, Peer, To};
use crate::report::Report;

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    let peers = effort.peers(To::WebSocket);
    for (column, peer) in &peers {
        saturated(effort, report, column, *peer, 128, "echo, 128 B").await;
    }
    for (column, peer) in &peers {
        saturated(effort, report, column, *peer, 16 * 1024, "echo, 16 KiB").await;
    }
    for (column, peer) in &peers {
        paced(effort, report, column, *peer).await;
    }
    saturated(effort, report, "tidegate", Peer::Tidegate(Http::Two), 128, "echo, 128 B, HTTP/2 upstream").await;
}

/// Every client has one message under way.
pub(super) async fn saturated(
    effort: &Effort,
    report: &mut Report,
    column: &'static str,
    peer: Peer,
    size: usize,
    what: &str,
) {
    let stand = peer.start();
    let mut load = Load::default();
    for _ in 0..CLIENTS {
        let mut client = stand.target.websocket("echo=1").await;
        load.add(|done| async move {
            let message = message(size);
            loop {
                client.send(&message).await;
                client.marks().await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let cost = cost(effort, effort.window, &stand, &mut load, async |load: &Load| load.done()).await;
    report.add(format!("CPU µs per {what}"), column, cost.micros);
    report.note(format!("{what}: per second"), column, cost.rate);
    report.note(format!("{what}: cores used"), column, cost.busy);
}

/// A thousand a second in all, far below what the peer could do.
async fn paced(effort: &Effort, report: &mut Report, column: &'static str, peer: Peer) {
    let stand = peer.start();
    let times: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let mut load = Load::default();
    let start = tokio::time::Instant::now() + Duration::from_secs(1);
    for nth in 0..CLIENTS {
        let mut client = stand.target.websocket("echo=1").await;
        let times = times.clone();
        let period = Duration::from_millis(CLIENTS);
        load.add(|done| async move {
            let message = message(128);
            let mut every = interval_at(start + Duration::from_millis(nth), period);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                let sent = Instant::now();
                client.send(&message).await;
                client.marks().await;
                times.lock().unwrap().push(sent.elapsed());
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep_until(start + effort.window / 2).await;
    let (mut half, mut most) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        times.lock().unwrap().clear();
        tokio::time::sleep(effort.window).await;
        load.check();
        let mut round = std::mem::take(&mut *times.lock().unwrap());
        round.sort();
        half.push(percentile(&round, 50));
        most.push(percentile(&round, 99));
    }
    report.add("p50 µs of an echo at 1,000/s", column, Figure::of(half));
    report.add("p99 µs of an echo at 1,000/s", column, Figure::of(most));
}
