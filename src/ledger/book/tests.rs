//! One route, step by step.

use super::*;

const NOON: u64 = 20_000 * DAY + DAY / 2;

fn client(name: &str) -> Client {
    Client::kept(name).unwrap()
}

fn let_in(book: &mut Book, name: &str, who: u64, now: u64) {
    book.note(client(name), Outcome::Bridged, Some(Who::Identity(who << 32)), now);
}

#[test]
fn connections_people_and_days_of_each_client_are_counted() {
    let mut book = Book::default();
    for (name, who, now) in [
        ("Chrome 131", 1, NOON),
        ("Chrome 131", 1, NOON + 5),
        ("Chrome 131", 2, NOON + DAY),
        ("okhttp 4.9", 1, NOON + DAY),
    ] {
        let_in(&mut book, name, who, now);
    }
    book.note(client("okhttp 4.9"), Outcome::Legacy, Some(Who::Address(9)), NOON + DAY);
    book.note(client("okhttp 4.9"), Outcome::Brownout, Some(Who::Address(9)), NOON + 2 * DAY);
    let chrome = &book.clients()[&client("Chrome 131")];
    assert_eq!((chrome.first, chrome.last, chrome.count(Outcome::Bridged)), (NOON, NOON + DAY, 3));
    assert_eq!((chrome.people.identities.count(), chrome.people.addresses.count()), (2, 0));
    assert_eq!(chrome.days.values().map(|day| day.connections).collect::<Vec<_>>(), [2, 1]);
    let okhttp = &book.clients()[&client("okhttp 4.9")];
    assert_eq!(okhttp.counts, [1, 1, 1, 0]);
    assert_eq!(
        (okhttp.people.identities.count(), okhttp.people.addresses.count()),
        (1, 1),
        "nobody is known that is refused"
    );
    assert_eq!(okhttp.days[&20_002], DayCount { connections: 0, refused: 1 });
    let people: Vec<_> = book.days().values().map(|people| people.identities.count()).collect();
    assert_eq!(people, [1, 2], "one with two clients is one");
    assert_eq!(Outcome::ALL.map(|outcome| book.sum(outcome)), [4, 1, 1, 0]);
    assert_eq!(book.last(), Some(NOON + 2 * DAY));
}

#[test]
fn names_run_out_and_the_rest_is_counted_together() {
    let mut book = Book::default();
    for index in 0..500 {
        let_in(&mut book, &format!("App {index}"), index, NOON);
    }
    assert_eq!(book.clients().len(), CLIENTS);
    assert_eq!(book.clients()[&client(OTHER)].count(Outcome::Bridged), 500 - (CLIENTS as u64 - 1));
    // Whoever has a name keeps it; one that was not seen for long gives it away and nothing is lost.
    let later = NOON + STALE + 1;
    (1..63).for_each(|index| let_in(&mut book, &format!("App {index}"), index, later));
    let_in(&mut book, "New 1", 1000, later);
    assert_eq!(book.clients().len(), CLIENTS);
    assert!(!book.clients().contains_key(&client("App 0")) && book.clients().contains_key(&client("New 1")));
    assert_eq!(book.clients()[&client(OTHER)].count(Outcome::Bridged), 500 - (CLIENTS as u64 - 1) + 1);
    let_in(&mut book, "New 2", 1001, later);
    assert!(!book.clients().contains_key(&client("New 2")));
    assert_eq!(book.sum(Outcome::Bridged), 500 + 62 + 2);
}

#[test]
fn whoever_is_refused_cannot_take_all_names() {
    let mut book = Book::default();
    (0..500).for_each(|index| book.note(client(&format!("Junk {index}")), Outcome::Off, None, NOON));
    assert_eq!(book.clients().len(), REFUSED_CLIENTS + 1);
    let_in(&mut book, "Chrome 131", 1, NOON);
    assert!(book.clients().contains_key(&client("Chrome 131")));
}

#[test]
fn days_that_are_long_ago_are_forgotten_and_the_sums_are_not() {
    let mut book = Book::default();
    (0..200).for_each(|day| let_in(&mut book, "Chrome 131", day, NOON + day * DAY));
    let tally = &book.clients()[&client("Chrome 131")];
    assert_eq!((tally.days.len(), book.days().len(), tally.count(Outcome::Bridged)), (DAYS, DAYS, 200));
    book.changes();
    book.tidy(NOON + 250 * DAY);
    let tally = &book.clients()[&client("Chrome 131")];
    assert_eq!((tally.days.len(), book.days().len(), tally.count(Outcome::Bridged)), (39, 39, 200));
    let changes = book.changes();
    assert_eq!((changes.clients.len(), changes.days.iter().filter(|(_, people)| people.is_none()).count()), (1, 51));
}

#[test]
fn what_changed_is_told_once_and_again_if_it_could_not_be_saved() {
    let mut book = Book::default();
    let_in(&mut book, "Chrome 131", 1, NOON);
    let_in(&mut book, "okhttp 4.9", 1, NOON);
    let changes = book.changes();
    assert_eq!((changes.clients.len(), changes.days.len()), (2, 1));
    assert!(book.changes().is_empty());
    book.not_saved(changes);
    let_in(&mut book, "Chrome 131", 2, NOON);
    let changes = book.changes();
    let counts: Vec<_> =
        changes.clients.iter().map(|(_, tally)| tally.as_ref().unwrap().count(Outcome::Bridged)).collect();
    assert_eq!((counts, changes.days.len()), (vec![2, 1], 1));
    let again = Book::of(book.clients().clone(), book.days().clone());
    assert_eq!(again.sum(Outcome::Bridged), 3);
}
