//! The upstream's only process gets SIGKILL while clients and upstream talk, and comes back; again and again.
//!
//! With `retry = "safe"` those clients are closed, and only those, whose message was **in doubt**: upstream may have acted
//! on it and nobody can know. Whose that was is told apart from outside, by what upstream reported before it died:
//!
//! - **certainly**, if upstream had read the whole POST and had not begun to answer. Every such client must be closed
//!   with the cause `message-in-doubt`;
//! - **unclear**, if the answer was begun within 20 ms before the death (the gateway may or may not have it), or if the
//!   client had sent a message that upstream had not read whole (it may have been with the gateway, or on its way), sent
//!   until 20 ms after the death. Such a client may be closed with that cause or stay;
//! - everybody else must stay.

use std::time::Duration;

use tokio::time::sleep;

use super::Effort;
use crate::clients::Habits;
use crate::report::{Report, Section};
use crate::stage::{Slowest as _, Stage, setup};
use crate::wire::{Micros, now};

/// How near to the death of upstream nobody can tell.
const EDGE: Duration = Duration::from_millis(20);

/// Upstream is back, and within this time everybody has an event stream.
const BACK: Duration = Duration::from_mins(1);

const IN_DOUBT: &str = "message-in-doubt";

struct Plan {
    clients: usize,
    kills: usize,
    running: Duration,
    down: Duration,
}

impl Plan {
    fn of(effort: &Effort) -> Self {
        Self {
            clients: effort.pick(500, 100),
            kills: effort.pick(10, 2),
            running: Duration::from_secs(3),
            down: Duration::from_secs(effort.pick(5, 2)),
        }
    }
}

pub(super) async fn idempotent(effort: &Effort, report: &mut Report) {
    let mut section = report.of(format!("kill-idempotent, {}", effort.protocol));
    let plan = Plan::of(effort);
    let mut stage = stage(effort, "idempotent", Duration::from_millis(500), &plan).await;
    let mut slowest = Some(Duration::ZERO);
    for _ in 0..plan.kills {
        kill(&mut stage, &plan).await;
        sleep(plan.down).await;
        slowest = slowest.max_of(come_back(&mut stage, &plan).await);
    }
    kills(&mut section, &plan, slowest);
    stage.finish(&mut section, true).await;
}

pub(super) async fn safe(effort: &Effort, report: &mut Report) {
    let mut section = report.of(format!("kill-safe, {}", effort.protocol));
    let plan = Plan::of(effort);
    let mut stage = stage(effort, "safe", Duration::from_secs(1), &plan).await;
    let (mut certain, mut unclear, mut closed) = (0, 0, 0);
    let (mut spared, mut wronged, mut otherwise) = (0, 0, 0);
    let mut slowest = Some(Duration::ZERO);
    for _ in 0..plan.kills {
        let death = kill(&mut stage, &plan).await;
        sleep(plan.down).await;
        {
            let ledger = stage.store.ledger();
            let doubt = ledger.doubt(death, u64::try_from(EDGE.as_micros()).unwrap());
            let all = ledger.closed_since(death);
            let with_cause: Vec<_> = all.iter().filter(|(_, closing)| closing.cause() == IN_DOUBT).collect();
            certain += doubt.certain.len();
            unclear += doubt.unclear.len();
            closed += with_cause.len();
            otherwise += all.len() - with_cause.len();
            spared += doubt.certain.iter().filter(|visit| !all.contains_key(visit)).count();
            let known = |visit| doubt.certain.contains(visit) || doubt.unclear.contains(visit);
            wronged += with_cause.iter().filter(|(visit, _)| !known(visit)).count();
        }
        slowest = slowest.max_of(come_back(&mut stage, &plan).await);
    }
    kills(&mut section, &plan, slowest);
    section.note("clients whose message was in doubt for certain", certain);
    section.note("clients of whom it cannot be told", unclear);
    section.note(format!("clients closed with {IN_DOUBT}"), closed);
    section.none("in doubt for certain, and not closed", spared as u64);
    section.none("closed, and surely not in doubt", wronged as u64);
    section.none("closed at a kill with another cause", otherwise as u64);
    stage.finish(&mut section, false).await;
}

async fn stage(effort: &Effort, retry: &str, sends_every: Duration, plan: &Plan) -> Stage {
    let mut stage = Stage::new(&setup(effort.protocol, format!("retry = \"{retry}\"")), 1).await;
    // Long enough that POSTs are under way whenever it dies, and reopens overlap.
    stage.store.behave(|manners| {
        manners.post_delay = 50;
        manners.open_delay = 50;
    });
    let habits = Habits { sends_every, event_every: Duration::from_millis(500), size: 64, comes_back: true };
    stage.clients.add(plan.clients, habits).await;
    stage
}

/// Lets them talk, and kills. Returns the moment of death: what was not done before was not done.
async fn kill(stage: &mut Stage, plan: &Plan) -> Micros {
    sleep(plan.running).await;
    let death = now();
    stage.backends[0].kill().await;
    death
}

/// Upstream is back; how long it takes until all clients have an event stream.
async fn come_back(stage: &mut Stage, plan: &Plan) -> Option<Duration> {
    stage.backends[0].restart().await;
    let all = plan.clients;
    stage.until(BACK, |ledger| ledger.open() == all && ledger.served_by(&[0]) == all).await
}

fn kills(section: &mut Section<'_>, plan: &Plan, slowest: Option<Duration>) {
    section.note("clients", plan.clients);
    section.note("kills", plan.kills);
    section.note("seconds that upstream is down", plan.down.as_secs());
    section.within("seconds until all have event streams again, at most", slowest, BACK);
}
