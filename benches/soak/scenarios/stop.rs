//! SIGSTOP: an upstream that holds its connections and says nothing. `stall_timeout` is what notices.

use std::time::Duration;

use tokio::time::sleep;

use super::Effort;
use crate::clients::Habits;
use crate::gateway::Setup;
use crate::report::Report;
use crate::stage::{Stage, setup};

const STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Beyond `stall_timeout`: the reopens are paced, and the silence began up to one comment before the stop.
const MARGIN: Duration = Duration::from_secs(7);

const HABITS: Habits = Habits {
    sends_every: Duration::from_millis(500),
    event_every: Duration::from_millis(500),
    size: 64,
    comes_back: false,
};

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    let clients = effort.pick(200, 50);
    elsewhere(effort, report, clients).await;
    later(effort, report, clients).await;
}

fn patient(effort: &Effort) -> Setup {
    setup(
        effort.protocol,
        "retry = \"idempotent\"\nstall_timeout = \"3s\"\nopen_timeout = \"3s\"\nmessage_timeout = \"3s\"",
    )
}

/// One of two stops: its clients go on at the other.
async fn elsewhere(effort: &Effort, report: &mut Report, clients: usize) {
    let mut section = report.of(format!("stop, one of two, {}", effort.protocol));
    let mut stage = Stage::new(&patient(effort), 2).await;
    stage.clients.add(clients, HABITS).await;
    sleep(Duration::from_secs(2)).await;
    section.note("clients at the endpoint that stops", stage.store.ledger().on(0).len());
    stage.backends[0].freeze();
    let limit = STALL_TIMEOUT + MARGIN;
    let took = stage.until(limit, |ledger| ledger.served_by(&[1]) == clients).await;
    section.note("stall_timeout in seconds", STALL_TIMEOUT.as_secs());
    section.within("seconds until all were resumed at the other", took, limit);
    sleep(Duration::from_secs(2)).await;
    stage.backends[0].thaw();
    sleep(Duration::from_secs(2)).await;
    stage.finish(&mut section, true).await;
}

/// The only one stops, for longer than `stall_timeout`, and goes on.
async fn later(effort: &Effort, report: &mut Report, clients: usize) {
    let mut section = report.of(format!("stop, the only one, {}", effort.protocol));
    let mut stage = Stage::new(&patient(effort), 1).await;
    stage.clients.add(clients, HABITS).await;
    sleep(Duration::from_secs(2)).await;
    stage.backends[0].freeze();
    let stopped = STALL_TIMEOUT * 3;
    sleep(stopped).await;
    let closed = stage.store.ledger().ended();
    section.none(format!("connections closed while it stood still for {} s", stopped.as_secs()), closed as u64);
    stage.backends[0].thaw();
    stage.finish(&mut section, true).await;
}
