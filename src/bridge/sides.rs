//! Handshakes on routes that are split, by the side that they took.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::telemetry::Turn;

/// Counts them: by path pattern of the route, side and reason.
#[derive(Debug, Default)]
pub struct Sides(Mutex<Counts>);

type Counts = BTreeMap<Arc<str>, BTreeMap<Turn, u64>>;

impl Sides {
    /// Counts one.
    pub fn count(&self, route: &Arc<str>, turn: Turn) {
        let mut counts = self.lock();
        // Cloned for a route's first alone.
        if !counts.contains_key(route) {
            counts.insert(route.clone(), BTreeMap::new());
        }
        if let Some(turns) = counts.get_mut(route) {
            *turns.entry(turn).or_default() += 1;
        }
    }

    /// Forgets all routes but these.
    pub fn keep(&self, routes: &[Arc<str>]) {
        self.lock().retain(|route, _| routes.contains(route));
    }

    /// All that was counted, in the order of the routes.
    #[must_use]
    pub fn counted(&self) -> Vec<(Arc<str>, Turn, u64)> {
        let counts = self.lock();
        let of = |(route, turns): (&Arc<str>, &BTreeMap<Turn, u64>)| {
            turns.iter().map(|(turn, count)| (route.clone(), *turn, *count)).collect::<Vec<_>>()
        };
        counts.iter().flat_map(of).collect()
    }

    /// A panic while it is held leaves numbers that are whole all the same.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
