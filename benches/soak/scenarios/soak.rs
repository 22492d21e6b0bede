//! Steady traffic both ways, and one fault after the other.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Effort;
use crate::clients::Habits;
use crate::dice::Dice;
use crate::faults::Fault;
use crate::report::Report;
use crate::stage::{Stage, setup};

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    let mut section = report.of(format!("soak, {}", effort.protocol));
    let clients = effort.pick(300, 50);
    let bridge = "retry = \"idempotent\"\nstall_timeout = \"3s\"\nopen_timeout = \"3s\"\nmessage_timeout = \"3s\"";
    let mut stage = Stage::new(&setup(effort.protocol, bridge), 2).await;
    let habits = Habits {
        sends_every: Duration::from_millis(500),
        event_every: Duration::from_millis(500),
        size: 128,
        comes_back: false,
    };
    stage.clients.add(clients, habits).await;
    section.note("seed", effort.seed);
    let mut dice = Dice::new(effort.seed);
    let began = Instant::now();
    let mut happened = [0_u64; Fault::ALL.len()];
    while began.elapsed() < effort.soak {
        sleep(dice.millis(1_000..5_000)).await;
        let nth = dice.index(Fault::ALL.len());
        happened[nth] += 1;
        let fault = Fault::ALL[nth];
        eprintln!("soak: {:.0} s: {fault:?}", began.elapsed().as_secs_f64());
        fault.happens(&mut stage, &mut dice.fork()).await;
        // The promise is broken already, and the log is still short.
        if stage.store.ledger().ended() > 0 {
            break;
        }
    }
    section.note("minutes", began.elapsed().as_secs_f64() / 60.0);
    section.note("clients", clients);
    for (fault, count) in Fault::ALL.iter().zip(happened) {
        section.note(format!("faults: {fault:?}"), count);
    }
    stage.finish(&mut section, true).await;
}
