//! The watch over the memory of the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::bridge::memory::{Change, Memory};
use crate::process;
use crate::process::memory::{Resident, Tidying};

/// How often the memory of the process is looked at: ten thousand new connections a second are 35 MiB in that time.
const SAMPLE: Duration = Duration::from_millis(250);

/// The budget by a setting, or four fifths of what the process may have: the rest is for what those who are in still need.
pub(super) fn budget(setting: Option<u64>) -> Option<u64> {
    setting.or_else(|| process::memory::limit().map(|limit| limit / 5 * 4))
}

/// Looks at the memory of the process from now on, in a task on `tasks` that ends with `stop`.
pub(super) fn watch(budget: Option<u64>, tasks: &TaskTracker, stop: &CancellationToken) -> Arc<Memory> {
    let memory = Arc::new(Memory::new(budget));
    match Resident::open() {
        Ok(resident) => drop(tasks.spawn(sample(memory.clone(), resident, tasks.clone(), stop.clone()))),
        Err(error) => info!(%error, "the memory of the process cannot be read here, max_memory has no effect"),
    }
    memory
}

/// Compares the memory of the process with its budget, again and again, and has what is free given back.
async fn sample(memory: Arc<Memory>, resident: Resident, tasks: TaskTracker, stop: CancellationToken) {
    let mut tidying = Tidying::default();
    let mut every = tokio::time::interval(SAMPLE);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        let change = memory.sample(|| resident.read());
        let held = memory.held();
        match change {
            Ok(None) => {}
            Ok(Some(Change::Over)) => {
                let (resident, budget) = (held.resident, held.budget);
                warn!(resident, budget, "memory above its budget, refusing new connections");
            }
            Ok(Some(Change::Kept)) => {
                let (resident, budget) = (held.resident, held.budget);
                info!(resident, budget, "memory within its budget again, letting new connections in");
            }
            Err(error) => {
                return warn!(%error, "the memory of the process cannot be read any more, max_memory has no effect");
            }
        }
        if tidying.is_due(held.resident, Instant::now()) {
            // On a thread of its own: it waits for locks of the allocator.
            let _ = tasks.spawn_blocking(process::give_memory_back).await;
            tidying.done(resident.read().unwrap_or(held.resident), Instant::now());
        }
    }
}
