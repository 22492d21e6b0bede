//! Rounds, medians, and operations counted while the clock of the process runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::peers::Stand;
use crate::scenarios::Effort;

/// What several rounds gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], least: values[0], most: values[values.len() - 1] }
    }

    pub(crate) fn exactly(value: f64) -> Self {
        Self { median: value, least: value, most: value }
    }
}

/// Tasks that count what they do until they are dropped.
#[derive(Default)]
pub(crate) struct Load {
    tasks: JoinSet<()>,
    done: Arc<AtomicU64>,
}

impl Load {
    /// Starts one more; it must not end.
    pub(crate) fn add<F>(&mut self, task: impl FnOnce(Arc<AtomicU64>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task(self.done.clone()));
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// A task that ended has failed, and its panic says how.
    pub(crate) fn check(&mut self) {
        if let Some(ended) = self.tasks.try_join_next() {
            panic!("a client has failed: {ended:?}");
        }
    }
}

/// CPU time of the peer for each operation, and how many operations a second there were.
pub(crate) struct Cost {
    pub(crate) micros: Figure,
    pub(crate) rate: Figure,
    /// Which part of one core the peer had.
    pub(crate) busy: Figure,
}

/// Lets the load run and looks at the count and the clock at the same moments.
pub(crate) async fn cost(
    effort: &Effort,
    window: Duration,
    stand: &Stand,
    load: &mut Load,
    count: impl AsyncFn(&Load) -> u64,
) -> Cost {
    tokio::time::sleep(effort.window / 2).await;
    let (mut micros, mut rate, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (count_before, cpu_before, began) = (count(load).await, stand.cpu(), Instant::now());
        tokio::time::sleep(window).await;
        let (operations, cpu, wall) = (count(load).await - count_before, stand.cpu() - cpu_before, began.elapsed());
        load.check();
        assert!(operations > 0, "nothing was done");
        micros.push(cpu.as_secs_f64() * 1e6 / operations as f64);
        rate.push(operations as f64 / wall.as_secs_f64());
        busy.push(cpu.as_secs_f64() / wall.as_secs_f64());
    }
    Cost { micros: Figure::of(micros), rate: Figure::of(rate), busy: Figure::of(busy) }
}

/// A percentile of latencies, in microseconds.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e6
}
