//! POSTs that fail in every way, under both rules: what is posted again, what is closed, and how.

use std::time::Duration;

use tokio::time::sleep;

use super::Effort;
use crate::clients::Habits;
use crate::guest::Guest;
use crate::report::Report;
use crate::stage::{Stage, setup};
use crate::store::PostFault;
use crate::wire::Order;

/// What happens to the first attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// While connections are refused, for 1.5 s.
    Refused,
    Of(PostFault),
}

/// What must come of it.
struct Outcome {
    /// POSTs that upstream read.
    read: u64,
    /// Messages that it recorded.
    recorded: u64,
    /// Keys that it had recorded before.
    seen_twice: u64,
    /// The cause in the close reason, if the client is closed.
    closed: Option<&'static str>,
}

const fn stays(read: u64, seen_twice: u64) -> Outcome {
    Outcome { read, recorded: 1, seen_twice, closed: None }
}

const fn in_doubt(recorded: u64) -> Outcome {
    Outcome { read: 1, recorded, seen_twice: 0, closed: Some("message-in-doubt") }
}

pub(super) async fn run(effort: &Effort, report: &mut Report) {
    let busy = Failure::Of(PostFault::Busy);
    let before = Failure::Of(PostFault::ResetBefore);
    let after = Failure::Of(PostFault::ResetAfter);
    let held = Failure::Of(PostFault::Hold);
    let cases = [
        ("safe", "503 with Retry-After", busy, stays(2, 0)),
        ("safe", "connection refused", Failure::Refused, stays(1, 0)),
        ("safe", "reset after the request, not recorded", before, in_doubt(0)),
        ("safe", "reset after the request, recorded", after, in_doubt(1)),
        ("safe", "no answer in time, recorded", held, in_doubt(1)),
        ("idempotent", "503 with Retry-After", busy, stays(2, 0)),
        ("idempotent", "connection refused", Failure::Refused, stays(1, 0)),
        ("idempotent", "reset after the request, not recorded", before, stays(2, 0)),
        ("idempotent", "reset after the request, recorded", after, stays(2, 1)),
        ("idempotent", "no answer in time, recorded", held, stays(2, 1)),
    ];
    for (retry, what, failure, outcome) in cases {
        one(effort, report, retry, what, failure, &outcome).await;
    }
}

async fn one(effort: &Effort, report: &mut Report, retry: &str, what: &str, failure: Failure, outcome: &Outcome) {
    let mut section = report.of(format!("post-faults, {}, {retry}", effort.protocol));
    let bridge = format!("retry = \"{retry}\"\nmessage_timeout = \"2s\"\ndelivery_timeout = \"20s\"");
    let stage = Stage::new(&setup(effort.protocol, bridge), 1).await;
    // So that the next POST needs a connection, which can be refused.
    stage.store.behave(|manners| manners.close_posts = true);
    let habits =
        Habits { sends_every: Duration::MAX, event_every: Duration::from_millis(200), size: 32, comes_back: false };
    let mut guest = Guest::enter(&stage.target, &stage.store, stage.clients.visit(), &habits).await;
    let limit = Duration::from_secs(10);
    guest.say().await;
    assert!(guest.read_until(limit, |_, entry| entry.up.came() == 1).await, "a message that goes through");
    sleep(Duration::from_millis(200)).await;

    match failure {
        Failure::Of(fault) => stage.store.behave(|manners| manners.post_fault = Some((fault, 1))),
        Failure::Refused => {
            stage.backends[0].order(Order::Listen(false));
            sleep(Duration::from_millis(200)).await;
        }
    }
    let read_before = stage.store.ledger().posts;
    guest.say().await;
    if failure == Failure::Refused {
        guest.read_until(Duration::from_millis(1500), |_, entry| entry.closed.is_some()).await;
        stage.backends[0].order(Order::Listen(true));
    }
    let read = |ledger: &crate::ledger::Ledger| ledger.posts - read_before;
    guest
        .read_until(limit, |ledger, entry| {
            let carried = entry.up.came() == 2 && read(ledger) >= outcome.read;
            entry.closed.is_some() || (carried && outcome.closed.is_none())
        })
        .await;
    // What should not come any more would come now.
    guest.read_until(Duration::from_secs(1), |_, entry| entry.closed.is_some()).await;

    let ledger = stage.store.ledger();
    let entry = ledger.entry(guest.visit).expect("an entry");
    let (read, recorded) = (read(&ledger), entry.up.came() - 1);
    let seen_twice = ledger.seen_twice;
    let closing = entry.closed.as_ref();
    let ending = closing.map_or("stays".to_owned(), |closing| {
        format!("closed {} {}", closing.code.unwrap_or_default(), closing.cause())
    });
    let promised = outcome.closed.map_or("stays".to_owned(), |cause| format!("closed {cause}"));
    section.promise(
        what,
        format!("read {read} times, recorded {recorded}, keys seen twice {seen_twice}, {ending}"),
        format!("{}, {}, {}, {promised}", outcome.read, outcome.recorded, outcome.seen_twice),
        (read, recorded, seen_twice) == (outcome.read, outcome.recorded, outcome.seen_twice)
            && closing.map(crate::ledger::Closing::cause) == outcome.closed
            && entry.up.doubled == 0,
    );
}
