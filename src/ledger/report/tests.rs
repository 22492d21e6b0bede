//! Reports of small books.

use super::*;
use crate::ledger::book::Who;
use crate::ledger::phase::{Brownout, Window};

const NOW: u64 = 1_796_904_000;
const DAY: u64 = 86_400;

fn report(book: &Book, plan: Option<&Option<Arc<Sunset>>>) -> RouteReport {
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let mut report = Report::new(&Frame { now, since: NOW - 100 * DAY, kept: true });
    report.add("chat", book, plan, now);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report, "what is shown can be read again");
    report.routes.remove(0)
}

fn book(seen: &[(&str, u64, u64)]) -> Book {
    let mut book = Book::default();
    for (client, who, now) in seen {
        book.note(Client::kept(client).unwrap(), Outcome::Bridged, Some(Who::Identity(*who)), *now);
    }
    book
}

#[test]
fn those_who_came_lately_come_first_and_one_with_two_clients_is_one() {
    let book = book(&[
        ("Old 1", 1, NOW - 30 * DAY),
        ("Old 1", 2, NOW - 30 * DAY),
        ("Old 1", 3, NOW - 7 * DAY),
        ("Chrome 131", 1, NOW - 6 * DAY),
        ("okhttp 4.9", 1, NOW),
    ]);
    let report = report(&book, None);
    let names: Vec<_> = report.clients.iter().map(|client| client.client.as_str()).collect();
    assert_eq!(names, ["Chrome 131", "okhttp 4.9", "Old 1"]);
    assert_eq!((report.total.connections, report.total.identities, report.total.exact), (5, 3, true));
    let lately = Lately { connections: 2, refused: 0, identities: 1, addresses: 0, clients: 2 };
    assert_eq!(report.last_7_days, lately);
    let days: Vec<_> = report.days.iter().map(|day| (day.day.as_str(), day.connections, day.identities)).collect();
    assert_eq!(days, [("2026-11-10", 2, 2), ("2026-12-03", 1, 1), ("2026-12-04", 1, 1), ("2026-12-10", 1, 1)]);
    assert_eq!((report.clients[2].last_seen.as_str(), report.configured), ("2026-12-03T12:00:00Z", false));
}

#[test]
fn a_route_says_its_phase_and_the_window_that_comes_next() {
    let start = UNIX_EPOCH + Duration::from_secs(NOW + DAY);
    let window = Window { start, duration: Duration::from_hours(1), every: None };
    let sunset = Sunset {
        phase: Phase::Brownout,
        sunset: Some(start),
        brownout: Some(Brownout { percent: 20, windows: vec![window] }),
        ..Sunset::default()
    };
    let plan = Some(Arc::new(sunset));
    let report = report(&Book::default(), Some(&plan));
    assert_eq!((report.phase.as_deref(), report.sunset.as_deref()), (Some("brownout"), Some("2026-12-11T12:00:00Z")));
    let brownout = report.brownout.unwrap();
    assert_eq!((brownout.percent, brownout.end.as_deref()), (20, Some("2026-12-11T13:00:00Z")));
}
