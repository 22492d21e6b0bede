//! Clients that are gone without a word: their network is cut, in batches, behind a virtual cable.
//!
//! Memory is `VmRSS` of the gateway: the median of ten seconds, taken ten seconds after the last batch of the warm-up has
//! gone, and again ten seconds after the last batch of all. The warm-up is four batches; the allocator takes about three
//! to find its size.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::sleep;

use super::Effort;
use crate::gateway::{Setup, median};
use crate::network::{Cable, HERE};
use crate::process::Process;
use crate::report::Report;
use crate::stage::{Slowest as _, Stage, setup};

const PING_INTERVAL: Duration = Duration::from_secs(2);
const PONG_TIMEOUT: Duration = Duration::from_secs(2);

/// For the machine's sake.
const MARGIN: Duration = Duration::from_secs(2);

const SETTLED: Duration = Duration::from_secs(10);

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    let mut section = report.of(format!("vanish, {}", effort.protocol));
    let cable = match Cable::new() {
        Ok(cable) => cable,
        Err(why) => {
            return section.not_shown(format!("no network namespace here, which takes root and iproute2: {why}"));
        }
    };
    let (batch, warm_up, batches) = effort.pick((500, 4, 20), (100, 1, 2));
    let bridge = "ping_interval = \"2s\"\npong_timeout = \"2s\"\nclose_timeout = \"1s\"";
    let setup = Setup { listen: HERE, ..setup(effort.protocol, bridge) };
    let stage = Stage::new(&setup, 1).await;

    let mut first = 1;
    for _ in 0..warm_up {
        come_and_go(&stage, &cable, first, batch).await;
        first += batch;
    }
    let (kib_before, files_before) = settle(&stage).await;
    let mut slowest = Some(Duration::ZERO);
    let mut line = Vec::new();
    for _ in 0..batches {
        slowest = slowest.max_of(come_and_go(&stage, &cable, first, batch).await);
        line.push((stage.gateway.now().kib / 1024.0).round().to_string());
        first += batch;
    }
    let (kib_after, files_after) = settle(&stage).await;

    section.note("connections that vanished", batch * batches);
    section.note("ping_interval and pong_timeout together, in seconds", (PING_INTERVAL + PONG_TIMEOUT).as_secs());
    let limit = PING_INTERVAL + PONG_TIMEOUT + MARGIN;
    section.within("seconds until upstream saw all streams of a batch cancelled, at most", slowest, limit);
    section.note("KiB after a warm-up", kib_before);
    let (least, most) = (kib_before * 0.9, kib_before * 1.1);
    section.promise(
        "KiB at the end",
        kib_after,
        format!("{least:.0} to {most:.0}"),
        (least..=most).contains(&kib_after),
    );
    section.note("MiB when each batch had just gone", line.join(" "));
    section.note("open files after a warm-up", files_before);
    section.promise("open files at the end", files_after, files_before.to_string(), files_after <= files_before);
    let logged = stage.gateway.log().matches("\"pong-timeout\"").count();
    let all = usize::try_from(batch * (warm_up + batches)).unwrap();
    section.promise("endings logged as pong-timeout", logged, all.to_string(), logged == all);
}

/// A batch of clients opens, its network is cut, and upstream sees its streams go. Says how long that took.
async fn come_and_go(stage: &Stage, cable: &Cable, first: u64, count: u64) -> Option<Duration> {
    cable.plug().unwrap();
    let mut command = cable.beyond();
    let target = SocketAddr::new(HERE, stage.gateway.address.port());
    let numbers = [target.to_string(), stage.gateway.certificate.display().to_string(), first.to_string()];
    command.arg("crowd").args(numbers).arg(count.to_string()).stdout(Stdio::piped());
    let mut crowd = Process::start(&mut command);
    let there = tokio::task::spawn_blocking(move || (crowd.first_line(), crowd));
    let (line, mut crowd) = there.await.unwrap();
    assert_eq!(line.trim(), "there", "a crowd that is let in");
    let all = usize::try_from(count).unwrap();
    stage.until(SETTLED, |ledger| ledger.streams() == all).await.expect("a stream for each of them");
    cable.pull().unwrap();
    let took = stage.until(Duration::from_secs(30), |ledger| ledger.streams() == 0).await;
    // Only now: what it has to say reaches nobody.
    crowd.kill();
    took
}

/// Waits, and looks at the gateway.
async fn settle(stage: &Stage) -> (f64, usize) {
    sleep(SETTLED).await;
    let before = stage.gateway.samples().len();
    sleep(SETTLED).await;
    (median(&stage.gateway.samples()[before..]), stage.gateway.now().files)
}
