//! The one task that writes the ledger: again and again, and a last time when the gateway has let all clients go.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::book::{Changes, DAYS};
use super::phase::unix;
use super::store::{Store, WriteError};
use super::{Ledger, lock};

/// What is written to where.
#[derive(Debug)]
pub struct Keeper {
    ledger: Arc<Ledger>,
    path: PathBuf,
    /// `None` after a failure: the library does not go on with a file that failed it.
    store: Option<Store>,
    failing: bool,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
enum FlushError {
    #[error(transparent)]
    Open(#[from] super::StoreError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Keeper {
    /// Keeps the ledger in the store that it came from.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, store: Store) -> Self {
        Self { ledger, path: store.path().to_path_buf(), store: Some(store), failing: false }
    }

    /// Writes every so often until it is told to stop, and then once more. The writing itself is on a thread of its own.
    pub async fn run(self, every: Duration, tasks: TaskTracker, stop: CancellationToken) {
        let (ledger, path) = (self.ledger.clone(), self.path.clone());
        let mut keeper = self;
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            let flushed = tasks.spawn_blocking(move || {
                keeper.flush(SystemTime::now());
                keeper
            });
            keeper = flushed.await.unwrap_or_else(|_| {
                ledger.writes_failed.fetch_add(1, Relaxed);
                warn!("the writing of the ledger panicked; it is tried again");
                Self { ledger: ledger.clone(), path: path.clone(), store: None, failing: true }
            });
            if last {
                return;
            }
        }
    }

    /// Writes what changed. What could not be written is tried again the next time, and counted meanwhile.
    pub(super) fn flush(&mut self, now: SystemTime) {
        match self.write(now) {
            Ok(()) if self.failing => {
                self.failing = false;
                info!(path = %self.path.display(), "the ledger is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.ledger.writes_failed.fetch_add(1, Relaxed);
                self.store = None;
                // Once, and not every few seconds for as long as a disk is full.
                if !std::mem::replace(&mut self.failing, true) {
                    let error = crate::telemetry::chain(&error);
                    warn!(path = %self.path.display(), error, "the ledger cannot be written; it goes on in memory");
                }
            }
        }
    }

    fn write(&mut self, now: SystemTime) -> Result<(), FlushError> {
        let seconds = unix(now);
        let books = self.ledger.books();
        let store = if let Some(store) = self.store.take() {
            store
        } else {
            let (store, _) = Store::open(&self.path, self.ledger.key_bytes, self.ledger.since)?;
            // It may be another file than the one that failed.
            for (_, book) in &books {
                lock(book).save_all();
            }
            store
        };
        let forgotten = self.forget(seconds);
        let forgotten: Vec<_> = forgotten.iter().map(|route| &**route).collect();
        let mut changes = Vec::new();
        for (route, book) in &books {
            // The lock is for taking the changes, not for waiting on a disk.
            let news = {
                let mut book = lock(book);
                book.tidy(seconds);
                book.changes()
            };
            if !news.is_empty() && !forgotten.contains(&&**route) {
                changes.push((route, news));
            }
        }
        if !changes.is_empty() || !forgotten.is_empty() {
            let told: Vec<(&str, &Changes)> = changes.iter().map(|(route, news)| (&***route, news)).collect();
            let written = store.write(&told, &forgotten);
            if let Err(error) = written {
                for (route, news) in changes {
                    lock(&self.ledger.book(route)).not_saved(news);
                }
                return Err(error.into());
            }
            debug!(routes = told.len(), "the ledger was written");
        }
        self.store = Some(store);
        Ok(())
    }

    /// Takes routes out that the configuration does not have any more and that nobody has come to for as long as days are kept.
    fn forget(&self, now: u64) -> Vec<Arc<str>> {
        let plans = self.ledger.plans();
        let oldest = now.saturating_sub(DAYS as u64 * 86_400);
        let mut books = self.ledger.books.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let forgotten = |route: &Arc<str>, book: &super::Book| {
            !plans.contains_key(route) && book.last().is_none_or(|last| last < oldest)
        };
        let gone: Vec<_> = books
            .iter()
            .filter(|(route, book)| forgotten(route, &lock(book)))
            .map(|(route, _)| route.clone())
            .collect();
        for route in &gone {
            books.remove(route);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::ledger::book::Outcome;
    use crate::ledger::{Settings, Visitor};

    const DAY: Duration = Duration::from_hours(24);

    fn visit(ledger: &Ledger, route: &str, now: SystemTime) {
        let address = std::net::IpAddr::from([192, 0, 2, 1]);
        ledger.record(&Arc::from(route), Outcome::Bridged, &HeaderMap::new(), Some(Visitor::Address(address)), now);
    }

    fn connections(path: &std::path::Path, now: SystemTime) -> Vec<(String, u64)> {
        let report = Ledger::read(path, [].into(), now).unwrap();
        report.routes.into_iter().map(|route| (route.route, route.total.connections)).collect()
    }

    #[test]
    fn what_could_not_be_written_is_written_once_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("ledger.d");
        std::fs::create_dir(&inner).unwrap();
        let path = inner.join("ledger");
        let now = SystemTime::now();
        let settings = Settings { path: Some(path.clone()), ..Settings::default() };
        let (ledger, store) = Ledger::open(&settings, now).unwrap();
        let mut keeper = Keeper::new(ledger.clone(), store.unwrap());
        visit(&ledger, "chat", now);
        keeper.flush(now);
        // As after a failure of the disk; meanwhile somebody has moved the file away.
        keeper.store = None;
        std::fs::rename(&inner, folder.path().join("away")).unwrap();
        visit(&ledger, "chat", now);
        keeper.flush(now);
        keeper.flush(now);
        assert_eq!((ledger.writes_failed(), keeper.failing), (2, true));
        std::fs::create_dir(&inner).unwrap();
        keeper.flush(now);
        assert_eq!((ledger.writes_failed(), keeper.failing), (2, false));
        drop(keeper);
        assert_eq!(connections(&path, now), [("chat".to_owned(), 2)]);
    }

    #[test]
    fn a_route_that_is_gone_is_shown_for_ninety_days_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let now = SystemTime::now();
        let settings = Settings { path: Some(path.clone()), ..Settings::default() };
        let (ledger, store) = Ledger::open(&settings, now).unwrap();
        ledger.plan([(Arc::from("chat"), None)].into());
        let mut keeper = Keeper::new(ledger.clone(), store.unwrap());
        for route in ["chat", "gone"] {
            visit(&ledger, route, now);
        }
        keeper.flush(now + 89 * DAY);
        assert_eq!(ledger.report(now).routes.len(), 2);
        keeper.flush(now + 91 * DAY);
        assert_eq!(ledger.report(now).routes.len(), 1);
        drop(keeper);
        assert_eq!(connections(&path, now), [("chat".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn what_came_last_is_written_when_the_gateway_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let now = SystemTime::now();
        let settings = Settings { path: Some(path.clone()), ..Settings::default() };
        let (ledger, store) = Ledger::open(&settings, now).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let keeper = Keeper::new(ledger.clone(), store.unwrap());
        tasks.spawn(keeper.run(Duration::from_hours(1), tasks.clone(), stop.clone()));
        visit(&ledger, "chat", now);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(connections(&path, now), [("chat".to_owned(), 1)]);
    }
}
