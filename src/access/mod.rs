//! Who is let in: what proves a client, which tickets are spent, who was sent away, and how many may be in.
//!
//! `door` asks for all of that in order. `bearer` goes by tokens of others, whose keys `jwks` fetches; `cookie` asks the
//! application who a client is, and `answers` remembers what it said; `mtls` goes by client certificates; `ticket` by our own
//! tickets, which are `spent` once. `revoked` is who was sent away, `limits` how many connections there may be, `rates` how
//! often tickets may be asked for. The formats are in [`identity`](crate::identity), pure; here is what needs a clock, a
//! store or a request to somebody.

mod answers;
pub mod bearer;
pub mod caller;
pub mod cookie;
mod door;
pub mod jwks;
pub mod limits;
pub mod mtls;
pub mod rates;
pub mod redis;
pub mod revoked;
mod settings;
pub mod spent;
pub mod ticket;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use door::{Counter, Done, Door, Issued, Proven, Snapshot};
pub use settings::Settings;

/// A panic while one of these is held leaves nothing that could not be used: every critical section is one change, or forgets
/// something at worst.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
