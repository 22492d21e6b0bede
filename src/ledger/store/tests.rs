//! The file: written, read again, damaged.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::ledger::book::{Outcome, Who};

const NOW: u64 = 1_796_904_000;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    (folder, path)
}

fn book(clients: u64, people: u64) -> Book {
    let mut book = Book::default();
    for index in 0..clients {
        let client = Client::kept(&format!("App {index}")).unwrap();
        (0..people).for_each(|who| {
            let who = Who::Identity((who + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            book.note(client.clone(), Outcome::Bridged, Some(who), NOW + index * 86_400);
        });
        book.note(client, Outcome::Off, None, NOW);
    }
    book
}

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let (_folder, path) = folder();
    let (store, kept) = Store::open(&path, [7; 32], NOW).unwrap();
    assert_eq!((kept.since, kept.routes.len()), (NOW, 0));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let mut books = [("chat", book(3, 10)), ("feed", book(1, 1000))];
    let changes: Vec<_> = books.iter_mut().map(|(name, book)| (*name, book.changes())).collect();
    let changes: Vec<_> = changes.iter().map(|(name, changes)| (*name, changes)).collect();
    store.write(&changes, &[]).unwrap();
    drop(store);
    let (store, kept) = Store::open(&path, [8; 32], NOW + 9).unwrap();
    assert_eq!((kept.key, kept.since), ([7; 32], NOW), "the first ones stay");
    for (name, book) in &books {
        assert_eq!((kept.routes[*name].clients(), kept.routes[*name].days()), (book.clients(), book.days()));
    }
    store.write(&[], &["feed"]).unwrap();
    drop(store);
    let kept = Store::open_existing(&path).unwrap().1;
    assert_eq!(kept.routes.keys().collect::<Vec<_>>(), ["chat"]);
}

#[test]
fn a_store_is_for_one_process() {
    let (_folder, path) = folder();
    let _store = Store::open(&path, [7; 32], NOW).unwrap();
    let error = Store::open(&path, [7; 32], NOW).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let (folder, path) = folder();
    assert!(matches!(Store::open_existing(&path), Err(StoreError::File { .. })));
    assert!(matches!(Store::open(&folder.path().join("no/ledger"), [7; 32], NOW), Err(StoreError::File { .. })));
    for text in [b"something else altogether".repeat(400), b"short".to_vec()] {
        std::fs::write(&path, &text).unwrap();
        let error = Store::open(&path, [7; 32], NOW).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), text);
    }
}

#[test]
fn a_damaged_store_is_told_and_ends_nothing() {
    let (_folder, path) = folder();
    let (store, _) = Store::open(&path, [7; 32], NOW).unwrap();
    let mut book = book(20, 300);
    store.write(&[("chat", &book.changes())], &[]).unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    for step in 0..24 {
        let mut damaged = whole.clone();
        let at = step * damaged.len() / 24;
        let end = (at + 3000).min(damaged.len());
        damaged[at..end].fill(0x5a);
        std::fs::write(&path, &damaged).unwrap();
        // Where nothing of use was hit it may open.
        drop(Store::open(&path, [7; 32], NOW));
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(Store::open(&path, [7; 32], NOW), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_store_of_another_version_is_refused() {
    let (_folder, path) = folder();
    let (store, _) = Store::open(&path, [7; 32], NOW).unwrap();
    let writing = store.database.begin_write().unwrap();
    writing.open_table(NUMBERS).unwrap().insert("schema", 2).unwrap();
    writing.commit().unwrap();
    drop(store);
    let error = Store::open(&path, [7; 32], NOW).unwrap_err();
    assert!(matches!(error, StoreError::Schema { found: 2, .. }), "{error:?}");
}
