//! What is counted of the requests that are passed on, by route.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;

use super::answer::Ending;

/// Every route's counters.
#[derive(Debug, Default)]
pub struct Registry(Mutex<BTreeMap<Arc<str>, Arc<Counters>>>);

/// The counters of one route.
#[derive(Debug, Default)]
pub struct Counters {
    answered: [AtomicU64; CLASSES.len()],
    under_way: AtomicU64,
    endings: [AtomicU64; Ending::ALL.len()],
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// The classes of statuses, in the order of the counters.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What a route has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Answers of upstream, by the class of their status.
    pub answered: [u64; CLASSES.len()],
    /// Requests whose answers are not over.
    pub under_way: u64,
    /// Requests that are over, by how they ended; those that were refused aside.
    pub endings: [u64; Ending::ALL.len()],
    /// Bytes of requests' bodies.
    pub bytes_up: u64,
    /// Bytes of answers' bodies.
    pub bytes_down: u64,
}

/// Counts one request as under way until it is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Counters>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Registry {
    /// Shows these routes from the beginning, with nothing counted.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self(Mutex::new(routes.into_iter().map(|route| (route, Arc::default())).collect()))
    }

    /// The counters of a route.
    #[must_use]
    pub fn of(&self, route: &Arc<str>) -> Arc<Counters> {
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = routes.get(route) {
            return counters.clone();
        }
        routes.entry(route.clone()).or_default().clone()
    }

    /// What was counted so far, by route.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<Arc<str>, Snapshot> {
        let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        routes.iter().map(|(route, counters)| (route.clone(), counters.snapshot())).collect()
    }
}

impl Counters {
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Relaxed);
        UnderWay(self.clone())
    }

    pub(super) fn ended(&self, status: Option<StatusCode>, ending: Ending, bytes_up: u64, bytes_down: u64) {
        let class = status.map(|status| usize::from(status.as_u16() / 100).saturating_sub(1));
        if let Some(count) = class.and_then(|class| self.answered.get(class)) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(count) = self.endings.get(ending as usize) {
            count.fetch_add(1, Relaxed);
        }
        self.bytes_up.fetch_add(bytes_up, Relaxed);
        self.bytes_down.fetch_add(bytes_down, Relaxed);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            answered: self.answered.each_ref().map(|count| count.load(Relaxed)),
            under_way: self.under_way.load(Relaxed),
            endings: self.endings.each_ref().map(|count| count.load(Relaxed)),
            bytes_up: self.bytes_up.load(Relaxed),
            bytes_down: self.bytes_down.load(Relaxed),
        }
    }
}
